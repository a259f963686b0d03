"""Which triangle a pixel sees: a perspective z-buffer over whole arrays.

A point of the camera's space (x right, y down, z forward, metres) lies at u = fx·x/z + cx - 0.5, v = fy·y/z + cy - 0.5;
pixel centres are at integers. Every triangle is cut into horizontal spans, half open, so that triangles with a common
edge neither overlap nor leave a gap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...plugins.camera import Camera

__all__ = ["Fragments", "Visible", "project", "rasterize"]

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

NEAR = 0.05
"""Metres; a triangle with a corner nearer than this is not drawn."""

_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, eq=False)
class Fragments:
    """N samples of triangles at pixel centres, hidden or not."""

    face: Ints
    """(N,)"""
    pixel: Ints
    """(N,) row · width + column"""
    bary: Floats
    """(N,3) perspective-correct shares of the corners; they sum to one"""
    depth: Floats
    """(N,) metres along the camera's z"""

    def take(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> Fragments:
        """The chosen samples: a mask (N,) or their indices."""
        return Fragments(self.face[index], self.pixel[index], self.bary[index], self.depth[index])


@dataclass(frozen=True, eq=False)
class Visible:
    """The nearest fragment of every pixel that has one, in no particular order."""

    fragments: Fragments
    width: int
    height: int

    def picture(self, values: NDArray[np.generic], empty: float = 0) -> NDArray[np.generic]:
        """(N,…) values of the fragments as (H,W,…), `empty` elsewhere."""
        flat = np.full((self.height * self.width, *values.shape[1:]), empty, values.dtype)
        flat[self.fragments.pixel] = values
        return flat.reshape(self.height, self.width, *values.shape[1:])


def project(points: NDArray[np.floating], camera: Camera) -> tuple[Doubles, Doubles]:
    """Camera-space points (V,3) of world points (V,3), and their pixels (V,2); both float64."""
    view = np.asarray(camera.view, np.float64)
    local: Doubles = np.asarray(points, np.float64) @ view[:3, :3].T + view[:3, 3]
    depth = np.maximum(local[:, 2:], 1e-9)
    focal, centre = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    pixels: Doubles = focal * local[:, :2] / depth + centre - 0.5
    return local, pixels


def rasterize(
    points: NDArray[np.floating],
    faces: Ints,
    camera: Camera,
    two_sided: NDArray[np.bool_] | None = None,
    cut_out: NDArray[np.bool_] | None = None,
    keep: Callable[[Fragments], NDArray[np.bool_]] | None = None,
) -> Visible:
    """The nearest triangle at every pixel centre.

    Args:
        points: (V,3) world, metres.
        faces: (F,3) counter-clockwise seen from outside; the back is not drawn.
        camera: where from, and the size of the picture.
        two_sided: (F,) triangles whose back is drawn too.
        cut_out: (F,) triangles with holes: of their fragments `keep` is asked.
        keep: says of fragments which are really there, (N,).
    """
    local, pixels = project(points, camera)
    spans = _spans(local, pixels, faces, camera, two_sided)
    samples = _Samples.of(spans, local, pixels, faces, camera.width)
    depth, pixel = samples.depth(), samples.pixel()
    nearest = np.full(camera.width * camera.height, _EMPTY)
    if keep is None or cut_out is None:
        _nearer(nearest, np.arange(len(depth)), depth, pixel)
    else:
        asked = np.repeat(cut_out[spans.face], spans.count)
        _nearer(nearest, np.flatnonzero(~asked), depth, pixel)
        # What lies behind something whole needs no asking.
        cut = np.flatnonzero(asked)
        cut = cut[_bits(depth[cut]) < (nearest[pixel[cut]] >> np.uint64(32))]
        _nearer(nearest, cut[keep(samples.fragments(cut, depth, pixel))], depth, pixel)
    winner = (nearest[nearest != _EMPTY] & np.uint64(0xFFFFFFFF)).astype(np.intp)
    return Visible(samples.fragments(winner, depth, pixel), camera.width, camera.height)


def _bits(depth: Floats) -> NDArray[np.uint64]:
    """Positive floats as integers that sort like them."""
    return depth.view(np.uint32).astype(np.uint64)


def _nearer(nearest: NDArray[np.uint64], index: NDArray[np.intp], depth: Floats, pixel: Ints) -> None:
    """Let the samples `index` win the pixels where they are nearest.

    Depth in the high half decides; the sample's number in the low half says who won, the same one every time.
    """
    key = (_bits(depth[index]) << np.uint64(32)) | index.astype(np.uint64)
    np.minimum.at(nearest, pixel[index], key)


@dataclass(frozen=True, eq=False)
class _Spans:
    """Runs of pixels [first, first + count) in one row of one triangle."""

    face: NDArray[np.intp]
    row: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]


def _spans(local: Doubles, pixels: Doubles, faces: Ints, camera: Camera, two_sided: NDArray[np.bool_] | None) -> _Spans:
    corners = pixels[faces]
    edge, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
    # v grows downwards, so what is counter-clockwise from outside has a negative area here.
    facing = area < 0 if two_sided is None else (area < 0) | (two_sided & (area != 0))
    drawn = np.flatnonzero(facing & (local[faces, 2].min(axis=1) > NEAR))
    order = np.argsort(corners[drawn, :, 1], axis=1, kind="stable")
    sorted_corners = np.take_along_axis(corners[drawn], order[:, :, None], axis=1)
    low = np.clip(np.ceil(sorted_corners[:, 0, 1]), 0, camera.height).astype(np.int64)
    high = np.clip(np.ceil(sorted_corners[:, 2, 1]), 0, camera.height).astype(np.int64)
    rows = np.maximum(high - low, 0)
    owner = np.repeat(np.arange(len(drawn)), rows)
    row = low[owner] + _within(rows)
    crossing = _crossings(sorted_corners, owner, row)
    left, right = (np.clip(np.ceil(side(*crossing)), 0, camera.width) for side in (np.minimum, np.maximum))
    count = (right - left).astype(np.int64)
    used = count > 0
    return _Spans(drawn[owner[used]], row[used], left[used].astype(np.int64), count[used])


def _crossings(corners: Doubles, owner: NDArray[np.intp], row: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Where a row meets the long edge of its triangle and one of the short ones.

    An edge is always walked from its upper corner, so that both of its triangles find the same number.
    """
    top, middle, bottom = (corners[owner, index] for index in range(3))
    long = top[:, 0] + (row - top[:, 1]) * _slope(top, bottom)
    upper = row < middle[:, 1]
    start, end = np.where(upper[:, None], top, middle), np.where(upper[:, None], middle, bottom)
    short = start[:, 0] + (row - start[:, 1]) * _slope(start, end)
    return long, short


def _slope(start: Doubles, end: Doubles) -> Doubles:
    height = end[:, 1] - start[:, 1]
    return np.asarray((end[:, 0] - start[:, 0]) / np.where(height > 0, height, 1.0))


def _within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 … count-1 for every count, one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - counts, counts)


@dataclass(frozen=True, eq=False)
class _Samples:
    """Every pixel of the spans. A corner's share of 1/z, and 1/z, are affine over the picture: a value and a slope."""

    spans: _Spans
    owner: Ints
    """(N,) span"""
    step: Ints
    """(N,) pixels from the span's first"""
    start: Floats
    """(3,spans) at the first pixel: the shares of corners 1 and 2, then 1/z"""
    slope: Floats
    """(3,spans)"""
    width: int

    @classmethod
    def of(cls, spans: _Spans, local: Doubles, pixels: Doubles, faces: Ints, width: int) -> _Samples:
        corners, inverse = pixels[faces], 1 / np.maximum(local[faces, 2], 1e-9)
        base = corners[:, 0]
        edge, other = corners[:, 1] - base, corners[:, 2] - base
        area = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
        scale = inverse[:, 1:].T / np.where(area != 0, area, 1.0)
        face, x, y = spans.face, spans.first - base[spans.face, 0], spans.row - base[spans.face, 1]
        slope = np.stack([other[:, 1], -edge[:, 1]]) * scale
        start = np.stack([other[face, 1] * x - other[face, 0] * y, edge[face, 0] * y - edge[face, 1] * x])
        start *= scale[:, face]
        # 1/z is inverse[0] at corner 0, and changes with the shares.
        rise = ((inverse[:, 1:] - inverse[:, :1]) / inverse[:, 1:]).T
        start = np.concatenate([start, inverse[None, face, 0] + (start * rise[:, face]).sum(axis=0)])
        slope = np.concatenate([slope, (slope * rise).sum(axis=0)[None]])[:, face]
        owner = np.repeat(np.arange(len(face), dtype=np.int32), spans.count)
        step = _within(spans.count).astype(np.int32)
        return cls(spans, owner, step, start.astype(np.float32), slope.astype(np.float32), width)

    def depth(self) -> Floats:
        """(N,) metres."""
        return np.asarray(1 / (self.start[2][self.owner] + self.step.astype(np.float32) * self.slope[2][self.owner]))

    def pixel(self) -> Ints:
        """(N,) row · width + column."""
        first = (self.spans.row * self.width + self.spans.first).astype(np.int32)
        return np.asarray(first[self.owner] + self.step)

    def fragments(self, index: NDArray[np.intp], depth: Floats, pixel: Ints) -> Fragments:
        """Some of the samples, with their shares."""
        owner, step = self.owner[index], self.step[index].astype(np.float32)
        z = depth[index]
        bary = np.empty((len(index), 3), np.float32)
        for corner in (1, 2):
            share = (self.start[corner - 1][owner] + step * self.slope[corner - 1][owner]) * z
            bary[:, corner] = np.clip(share, 0, 1)
        bary[:, 0] = 1 - bary[:, 1] - bary[:, 2]
        return Fragments(self.spans.face.astype(np.int32)[owner], pixel[index], bary, z)
