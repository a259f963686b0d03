"""Pictures of a scene, decoded when they are asked for: PNG and JPEG by FFmpeg, maps of a teacher from `.npy`."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import CheckpointError
from ..released_scene import load_array

__all__ = ["PictureCache", "read_depth", "read_landmarks", "read_mask", "read_normal", "read_parsing", "read_rgb"]

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

HAIR, SKIN, MOUTH, NECK = (0, 0, 0), (0, 0, 255), (100, 100, 100), (0, 255, 0)
"""Colours of a released scene's `parsing/` pictures."""
_LANDMARKS = 68


def read_rgb(path: Path) -> Pixels:
    """RGB [H, W, 3]. Raises CheckpointError if the file is missing or is no picture."""
    return _decode(path, "rgb24")


def read_mask(path: Path) -> Floats:
    """A grey picture as coverage [H, W], 0…1. Raises CheckpointError."""
    grey: Floats = _decode(path, "gray").astype(np.float32) / np.float32(255)
    return grey


def read_parsing(path: Path) -> Floats:
    """The head in a released scene's parsing picture [H, W]: 1 on hair, skin, mouth, neck. Raises CheckpointError."""
    red, green, blue = np.moveaxis(_decode(path, "rgb24").astype(np.int16), -1, 0)
    head = np.zeros(red.shape, bool)
    for colour in (HAIR, SKIN, MOUTH, NECK):
        head |= (red == colour[0]) & (green == colour[1]) & (blue == colour[2])
    return head.astype(np.float32)


def read_depth(path: Path) -> Floats:
    """A depth map [H, W] in the teacher's own unit; where it is not finite there is none. Raises CheckpointError."""
    return np.asarray(load_array(path, (None, None), mapped=True), dtype=np.float32)


def read_normal(path: Path) -> Floats:
    """A normal map [H, W, 3] as the teacher wrote it, a unit vector a pixel. Raises CheckpointError."""
    return np.asarray(load_array(path, (None, None, 3), mapped=True), dtype=np.float32)


def read_landmarks(path: Path) -> Floats:
    """68 landmarks [68, 2] (x, y) in pixels, from the text file beside a picture. Raises CheckpointError."""
    try:
        points = np.loadtxt(path, dtype=np.float32, ndmin=2)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a list of landmarks ({error}); detect them again.") from error
    if points.shape != (_LANDMARKS, 2) or not np.isfinite(points).all():
        raise CheckpointError(f"{path}: holds {points.shape} numbers, it should be 68 lines of x and y.")
    return points


class PictureCache:
    """Keeps the pictures that were read last, up to a number of bytes; 0 keeps none."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._pictures: OrderedDict[Path, Pixels] = OrderedDict()

    def read(self, path: Path) -> Pixels:
        """RGB [H, W, 3], read-only where it is kept. Raises CheckpointError."""
        kept = self._pictures.get(path)
        if kept is not None:
            self._pictures.move_to_end(path)
            return kept
        picture = read_rgb(path)
        if picture.nbytes > self._limit:
            return picture
        picture.flags.writeable = False
        self._pictures[path] = picture
        self._held += picture.nbytes
        while self._held > self._limit:
            self._held -= self._pictures.popitem(last=False)[1].nbytes
        return picture


def _decode(path: Path, layout: str) -> Pixels:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; copy it from the scene, or make the scene again.")
    try:
        with av.open(str(path)) as file:
            picture = next(file.decode(video=0))
            return np.ascontiguousarray(picture.to_ndarray(format=layout))
    except (av.FFmpegError, OSError, StopIteration, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a picture that can be read ({error}); make it again as PNG or JPEG."
        ) from error
