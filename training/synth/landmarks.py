"""The 68 landmarks of iBUG as vertices of Anny's head, in the order in which face-alignment gives them."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..head import HeadModel

__all__ = ["INNER_LIPS", "landmark_vertices"]

INNER_LIPS = ((61, 67), (62, 66), (63, 65))
"""Upper and lower landmarks that meet when the mouth is shut."""

# Points on the template of the picture's right side (x > 0), metres; the left side mirrors them.
_JAW = (
    *((0.074, 0.022, 0.005), (0.074, 0.004, 0.008), (0.071, -0.014, 0.012), (0.067, -0.031, 0.018)),
    *((0.060, -0.048, 0.027), (0.049, -0.061, 0.040), (0.034, -0.071, 0.055), (0.017, -0.078, 0.066)),
)
_CHIN = (0.0, -0.080, 0.072)
_BROW = (
    (0.012, 0.0445, 0.075),
    (0.021, 0.048, 0.074),
    (0.031, 0.050, 0.070),
    (0.040, 0.0495, 0.064),
    (0.048, 0.045, 0.056),
)
_BRIDGE = ((0.0, 0.032, 0.074), (0.0, 0.021, 0.080), (0.0, 0.010, 0.087), (0.0, -0.002, 0.092))
_NOSTRILS = ((0.013, -0.011, 0.072), (0.007, -0.013, 0.078))
_NOSE_BASE = (0.0, -0.0145, 0.081)
_EYE = {
    "inner": (0.0165, 0.0275, 0.058),
    "upper_inner": (0.026, 0.035, 0.062),
    "upper_outer": (0.036, 0.035, 0.060),
    "outer": (0.0465, 0.0295, 0.052),
    "lower_outer": (0.036, 0.0245, 0.058),
    "lower_inner": (0.026, 0.0245, 0.060),
}
_LIP_CORNER = (0.0245, -0.0385, 0.066)
_UPPER_LIP = ((0.015, -0.031, 0.076), (0.006, -0.0275, 0.081))
_UPPER_MIDDLE, _LOWER_MIDDLE = (0.0, -0.029, 0.082), (0.0, -0.0505, 0.078)
_LOWER_LIP = ((0.015, -0.0465, 0.075), (0.007, -0.050, 0.078))
_INNER_X = 0.009

_Point = tuple[float, float, float]


def _mirrored(points: tuple[_Point, ...]) -> list[_Point]:
    return [(-x, y, z) for x, y, z in points]


@functools.lru_cache(maxsize=4)
def landmark_vertices(head: HeadModel) -> NDArray[np.int32]:
    """(68,) vertices of the head. It must be Anny's: the places are those of its template."""
    outer = np.unique(head.faces[head.region("skin", "lips", "eyelids", "ears")])
    lids = np.unique(head.faces[head.region("eyelids")])
    right = [_EYE[name] for name in ("inner", "upper_inner", "upper_outer", "outer", "lower_outer", "lower_inner")]
    left = [_EYE[name] for name in ("outer", "upper_outer", "upper_inner", "inner", "lower_inner", "lower_outer")]
    face = [*_mirrored(_JAW), _CHIN, *reversed(_JAW), *_mirrored(_BROW[::-1]), *_BROW, *_BRIDGE]
    face += [*_mirrored(_NOSTRILS), _NOSE_BASE, *reversed(_NOSTRILS)]
    eyes = [*_mirrored(tuple(left)), *right]
    mouth = [*_mirrored((_LIP_CORNER, *_UPPER_LIP)), _UPPER_MIDDLE, *reversed(_UPPER_LIP), _LIP_CORNER]
    mouth += [*_LOWER_LIP, _LOWER_MIDDLE, *_mirrored(_LOWER_LIP[::-1])]
    found = [_nearest(head, outer, face), _nearest(head, lids, eyes), _nearest(head, outer, mouth), _inner_lips(head)]
    return np.concatenate(found).astype(np.int32)


def _nearest(head: HeadModel, pool: NDArray[np.int32], points: list[_Point]) -> NDArray[np.int32]:
    return np.asarray(pool[cKDTree(head.v_template[pool]).query(np.array(points))[1]])


def _inner_lips(head: HeadModel) -> NDArray[np.int32]:
    """(8,) landmarks 60-67: the edges at which the lips meet, the lower lip being what the jaw carries."""
    lips = np.unique(head.faces[head.region("lips")])
    points, lower = head.v_template[lips], head.weights[lips, 2] > 0.5
    corners = _nearest(head, lips, [(-0.021, -0.0385, 0.068), (0.021, -0.0385, 0.068)])

    def meeting(x: float) -> tuple[int, int]:
        """The upper and the lower vertex near x that touch, of those that do the foremost."""
        near = np.abs(points[:, 0] - x) < 0.003
        above, below = np.flatnonzero(near & ~lower), np.flatnonzero(near & lower)
        apart = np.linalg.norm(points[above][:, None] - points[below][None], axis=-1)
        forward = points[above, 2][:, None] + points[below, 2][None]
        best = np.unravel_index(np.argmin(apart - 0.35 * forward), apart.shape)
        return int(lips[above[best[0]]]), int(lips[below[best[1]]])

    pairs = [meeting(x) for x in (-_INNER_X, 0.0, _INNER_X)]
    upper, below = [pair[0] for pair in pairs], [pair[1] for pair in reversed(pairs)]
    return np.array([corners[0], *upper, corners[1], *below], np.int32)
