"""A contact sheet of a baked appearance: turns, expressions, and mouth and eyes near by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plugins import Camera, Gaussians, Head, Renderer, Scene
from ..runtime.errors import OutputError
from .head import HeadModel

__all__ = ["contact_sheet", "save_png", "scene_of"]

Picture = NDArray[np.uint8]
View = Callable[[int, int, float], tuple[NDArray[np.float64], NDArray[np.float32]]]


@dataclass(frozen=True)
class _Shot:
    """One picture of the sheet."""

    yaw: float = 0.0
    jaw: float = 0.0
    expressions: tuple[str, ...] = ()
    eyes: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    up: float = 0.0
    """metres from the middle of the usual picture to the middle of this one"""


def _both(*names: str) -> tuple[str, ...]:
    return tuple(name + side for name in names for side in ("Left", "Right"))


_SHOTS = (
    _Shot(),
    _Shot(yaw=0.785),
    _Shot(yaw=-0.785),
    _Shot(yaw=1.571),
    _Shot(yaw=3.1416),
    _Shot(jaw=0.25),
    _Shot(expressions=_both("mouthSmile")),
    _Shot(expressions=_both("eyeBlink")),
    _Shot(expressions=("browInnerUp", *_both("browOuterUp", "eyeWide"))),
    _Shot(expressions=("mouthPucker",)),
    _Shot(zoom=3.5, up=0.046),
    _Shot(zoom=3.5, up=-0.026),
    _Shot(zoom=3.5, up=-0.036, jaw=0.25),
    _Shot(zoom=3.5, up=-0.030, jaw=0.08, expressions=_both("mouthSmile", "mouthUpperUp")),
    _Shot(zoom=3.5, up=0.046, eyes=(0.1, 0.3)),
)
_COLUMNS = 5


def scene_of(head: HeadModel, gaussians: dict[str, NDArray[Any]]) -> Scene:
    """The drawable scene of a head and the `gaussians.*` tensors of docs/bundle.md (SH degree 0, exp scales)."""
    parts = {key.removeprefix("gaussians."): value for key, value in gaussians.items()}
    return Scene(Head(**vars(head.bake())), Gaussians(**parts, active_sh_degree=0, scale_activation="exp"))


def contact_sheet(head: HeadModel, gaussians: dict[str, NDArray[Any]], view: View, size: int = 384) -> Picture:
    """uint8 (3·size, 5·size, 3): fifteen pictures of the avatar through cameras of `view(width, height, yaw)`."""
    renderer = Renderer(scene_of(head, gaussians))
    pictures = [_draw(renderer, head, shot, view, size) for shot in _SHOTS]
    rows = [np.concatenate(pictures[at : at + _COLUMNS], axis=1) for at in range(0, len(pictures), _COLUMNS)]
    return np.concatenate(rows, axis=0)


def _draw(renderer: Renderer, head: HeadModel, shot: _Shot, view: View, size: int) -> Picture:
    matrix, (fx, fy, cx, cy) = view(size, size, shot.yaw)
    depth = float(np.linalg.norm(matrix[:3, 3]))
    shifted = cy + shot.zoom * fy * shot.up / depth
    camera = Camera(matrix, shot.zoom * fx, shot.zoom * fy, cx, shifted, size, size)
    expression = np.zeros(head.expression_count, dtype=np.float32)
    expression[[head.expression_names.index(name) for name in shot.expressions]] = 1
    pose = np.zeros((5, 3), dtype=np.float32)
    pose[2, 0] = shot.jaw
    pose[3:, :2] = shot.eyes
    return renderer.draw(expression, pose, np.zeros(3, np.float32), camera, background=(0.93, 0.94, 0.95))


def save_png(picture: Picture, path: Path) -> None:
    """Write uint8 (H,W,3) as PNG. Raises `OutputError` if that cannot be done."""
    import av

    try:
        with av.open(str(path), "w", format="image2", options={"update": "1"}) as file:
            stream = file.add_stream("png")
            stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "rgb24"
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                file.mux(packet)
            for packet in stream.encode():
                file.mux(packet)
    except OSError as error:
        raise OutputError(f"{path}: the picture cannot be written ({error}); choose another place.") from error
