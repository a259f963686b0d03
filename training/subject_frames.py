"""The pictures that one person is learnt from: scaled, cut to the head, put over another background, and kept.

**The head alone is learnt.** A scene's masks say what is head. The truth is put over the background that the prediction
is drawn over, and a background that changes from step to step leaves Gaussians no colour with which they could imitate
a wall: outside the mask they can only become transparent. A pixel that the head covers by a share m shows
m · head + (1 - m) · wall, so where the wall behind it is known (a still camera that saw it in other frames) it is
exchanged exactly, `picture + (1 - m) · (background - wall)`; else it is `m · picture + (1 - m) · background`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from ..plugins.camera import Camera
from ..runtime.errors import EmotagError
from .scenes import Scene
from .scenes.cures import cure

__all__ = ["Box", "Frames", "Sample", "SubjectError", "scaled_camera", "with_a_face"]

LEAST_FRAMES = 8
"""Training pictures below which nothing can be learnt."""
_LEAST_COVER = 0.01
"""Of a picture, by the mask, for it to show a face."""
_MARGIN = 0.03
"""Of the picture's longer side, around the head."""
_STEP = 16
"""Pixels that a box is rounded to: the kernels' tiles."""
_FREE = 0.65
"""A crop must reach so far to both sides of the principal point, of its own size: the renderer clamps slopes at 1.3
times half the field of view, and a crop has to leave that alone."""
_WALL_FRAMES = 24
_WALL_MASK = 0.01
_STILL = 0.06
"""Standard deviation of a pixel of the wall (0…1), the median over the picture, up to which the wall is still."""


class SubjectError(EmotagError):
    """A scene that cannot be learnt from, or a state that does not belong to it."""


class Box(NamedTuple):
    """A part of a picture, pixels."""

    left: int
    top: int
    width: int
    height: int

    def cut(self, camera: Camera) -> Camera:
        """The camera that sees this part alone."""
        centre = (camera.cx - self.left, camera.cy - self.top)
        return Camera(camera.view, camera.fx, camera.fy, *centre, self.width, self.height)

    def of(self, picture: Tensor) -> Tensor:
        """This part of (..., H, W)."""
        return picture[..., self.top : self.top + self.height, self.left : self.left + self.width]


class Sample(NamedTuple):
    """A training picture as it is kept."""

    pixels: Tensor
    """(4, h, w) uint8 colour and mask, inside the box"""
    box: Box


class Frames:
    """The pictures of a scene at a chosen size. `limit` bytes of crops are kept."""

    def __init__(self, scene: Scene, train: Sequence[int], size: int | None, limit: int) -> None:
        self.scene, self.size = scene, size
        self._train = tuple(train)
        self._limit, self._held = limit, 0
        self._kept: OrderedDict[tuple[int, int, int], Sample] = OrderedDict()
        self._walls: dict[tuple[int, int, int], Tensor | None] = {}

    def camera(self, index: int) -> Camera:
        """The camera of picture `index` at the chosen size."""
        return scaled_camera(self.scene.pictures[index].camera, self.size)

    def box(self, index: int) -> Box:
        """Where the head is in picture `index`, with a margin. Errors as `crop`."""
        return self._sample(index).box

    def crop(self, index: int) -> tuple[Tensor, Tensor, Box]:
        """Colour (3, h, w) and mask (h, w), 0…1, of the box around the head.

        Raises SubjectError if the picture shows no face, CheckpointError if a file of it is broken.
        """
        pixels, box = self._sample(index)
        values = pixels.float().div_(255)
        return values[:3], values[3], box

    def whole(self, index: int) -> tuple[Tensor, Tensor]:
        """Colour (3, H, W) and mask (H, W), 0…1, of the whole picture, decoded anew. Errors as `crop`."""
        values = self._decode(index, self.camera(index)).div_(255)
        return values[:3], values[3]

    def geometry(self, index: int) -> tuple[Tensor | None, Tensor | None]:
        """Depth (H, W) and normals (3, H, W) where the scene has them. Raises CheckpointError."""
        picture, camera = self.scene.pictures[index], self.camera(index)
        depth = normal = None
        if picture.depth_path is not None:
            depth = _sampled(torch.from_numpy(picture.depth().copy())[None], camera)[0]
        if picture.normal_path is not None:
            normal = _sampled(torch.from_numpy(np.nan_to_num(picture.normal())).permute(2, 0, 1), camera)
        return depth, normal

    def wall(self, index: int) -> Tensor | None:
        """(3, H, W) what is behind the head in picture `index`; None where it moves, or no frame shows it.

        The mean of what the masks leave of some training frames of the same camera; pixels that no frame shows take
        the nearest that one does.
        """
        camera = self.camera(index)
        key = (self.scene.pictures[index].camera_index, camera.width, camera.height)
        if key not in self._walls:
            self._walls[key] = self._find_wall(key[0], camera)
        return self._walls[key]

    def _find_wall(self, camera_index: int, camera: Camera) -> Tensor | None:
        pictures = self.scene.pictures
        mine = [index for index in self._train if pictures[index].camera_index == camera_index]
        chosen = mine[:: max(len(mine) // _WALL_FRAMES, 1)]
        total, square = torch.zeros(2, 3, camera.height, camera.width).unbind(0)
        count = torch.zeros(camera.height, camera.width)
        for index in chosen:
            if not np.array_equal(pictures[index].camera.view, pictures[chosen[0]].camera.view):
                return None
            rgb, mask = self.whole(index)
            free = (mask < _WALL_MASK).float()
            total += rgb * free
            square += rgb.square() * free
            count += free
        seen = count > 0
        if not bool(seen.any()):
            return None
        mean = total / count.clamp_min(1)
        spread = (square / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt().mean(0)
        if float(spread[seen].median()) > _STILL:
            return None
        nearest = distance_transform_edt(~seen.numpy(), return_distances=False, return_indices=True)
        rows, columns = torch.from_numpy(np.asarray(nearest)).long()
        return mean[:, rows, columns]

    def _sample(self, index: int) -> Sample:
        camera = self.camera(index)
        key = (index, camera.width, camera.height)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        whole = self._decode(index, camera)
        box = _head_box(whole[3] / 255, camera)
        sample = Sample(box.of(whole).round().to(torch.uint8).contiguous(), box)
        self._kept[key] = sample
        self._held += sample.pixels.nbytes
        while self._held > self._limit and self._kept:
            self._held -= self._kept.popitem(last=False)[1].pixels.nbytes
        return sample

    def _decode(self, index: int, camera: Camera) -> Tensor:
        """(4, H, W) colour and mask, 0…255."""
        picture = self.scene.pictures[index]
        mask = picture.mask()
        if mask.mean() < _LEAST_COVER:
            raise SubjectError(
                f"{picture.path}: its mask is empty, so the frame shows no face: leave picture {index} out, or make "
                "the mask again"
            )
        colour = torch.from_numpy(picture.rgb()).permute(2, 0, 1).float()
        return _resized(torch.cat([colour, torch.from_numpy(mask)[None] * 255]), camera)


def scaled_camera(camera: Camera, size: int | None) -> Camera:
    """The camera of the same picture with a longer side of `size` pixels; None leaves it as it is."""
    longer = max(camera.width, camera.height)
    if size is None or size == longer:
        return camera
    width, height = (max(round(side * size / longer), 1) for side in (camera.width, camera.height))
    x, y = width / camera.width, height / camera.height
    return Camera(camera.view, camera.fx * x, camera.fy * y, camera.cx * x, camera.cy * y, width, height)


def with_a_face(scene: Scene, indices: Sequence[int]) -> tuple[tuple[int, ...], list[str]]:
    """Those of the pictures whose mask is not empty, and notes on what was left out.

    Raises:
        SubjectError: a picture has no mask, or too few are left.
        CheckpointError: a mask cannot be read.
    """
    for index in indices:
        if scene.pictures[index].mask_path is None:
            raise SubjectError(
                f"{scene.pictures[index].path}: has no mask, so the head cannot be told from what is behind it; "
                f"{cure('masks', scene.folder)}"
            )
    usable = tuple(index for index in indices if scene.pictures[index].mask().mean() >= _LEAST_COVER)
    if len(usable) < LEAST_FRAMES:
        raise SubjectError(
            f"{scene.folder}: {len(usable)} of {len(indices)} training pictures show a face, at least {LEAST_FRAMES} "
            "are needed: give a longer clip, or make its masks again"
        )
    left = len(indices) - len(usable)
    return usable, [f"{left} pictures without a face are left out"] if left else []


def _head_box(mask: Tensor, camera: Camera) -> Box:
    margin = _MARGIN * max(camera.width, camera.height)
    covered = mask > 0.02
    left, right = _span(covered.any(0), margin, camera.cx)
    top, bottom = _span(covered.any(1), margin, camera.cy)
    return Box(left, top, right - left, bottom - top)


def _span(covered: Tensor, margin: float, principal: float) -> tuple[int, int]:
    """First and last + 1 of a box along one axis."""
    there = torch.nonzero(covered)
    size = len(covered)
    first, last = float(there.min()) - margin, float(there.max()) + 1 + margin
    # Neither side may be farther from the principal point than the clamp reaches.
    far = max(principal - first, last - principal)
    length = max(last - first, far / _FREE)
    first, last = (last - length, last) if last - principal >= principal - first else (first, first + length)
    return (
        max(int(first // _STEP) * _STEP, 0),
        min(int(-(-last // _STEP)) * _STEP, size),
    )


def _resized(picture: Tensor, camera: Camera) -> Tensor:
    """(C, H, W) to the camera's size by the means of areas."""
    if picture.shape[1:] == (camera.height, camera.width):
        return picture
    return functional.interpolate(picture[None], (camera.height, camera.width), mode="area")[0]


def _sampled(values: Tensor, camera: Camera) -> Tensor:
    """(C, H, W) to the camera's size by the nearest: depths and normals of two surfaces have no mean."""
    if values.shape[1:] == (camera.height, camera.width):
        return values
    return functional.interpolate(values[None], (camera.height, camera.width), mode="nearest-exact")[0]
