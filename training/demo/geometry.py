"""What motion does to the lips: a quadratic form for losses, and the gap between the lips for measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..head import BakedHead, HeadModel

Floats = NDArray[np.float64]

_JAW = 2
_LIP_WEIGHT = 12.0
_MILLIMETRES = 1000.0


@dataclass(frozen=True)
class LipGeometry:
    """The lips of one head, linear in expression and jaw opening.

    metric: `[E+1, E+1]`; d·metric·d is the mean squared displacement of the front of the face in mm², lips
    weighted, of a difference d in expression and jaw opening (rad). gap_expression: `[E]` and gap_jaw: mm that the
    lips part per unit; gap_rest: mm at rest. names: `[E]` of the expressions.
    """

    metric: Floats
    gap_expression: Floats
    gap_jaw: float
    gap_rest: float
    names: tuple[str, ...] = ()

    def gap(self, expression: NDArray[np.float32], jaw: NDArray[np.float32]) -> Floats:
        """Lip gap `[...]` in mm, never below 0, of expression `[...,E]` and jaw `[...,3]` (rad)."""
        gap = self.gap_rest + expression @ self.gap_expression + jaw[..., 0] * self.gap_jaw
        return np.maximum(gap, 0.0)


def lip_geometry(model: HeadModel) -> LipGeometry:
    """Measure a head that has a region called `lips`."""
    head = model.bake()
    lips = np.unique(head.faces[model.region("lips")])
    jaw = _jaw_motion(head)
    motion = np.concatenate([head.expression_basis, jaw[None]]).astype(np.float64) * _MILLIMETRES
    weights = np.where(head.template[:, 2] > np.quantile(head.template[:, 2], 0.3), 1.0, 0.1)
    weights[lips] = _LIP_WEIGHT
    flat = (motion * np.sqrt(weights / weights.sum())[None, :, None]).reshape(len(motion), -1)
    upper, lower = _inner_lips(head, lips)
    parted = motion[:, upper, 1] - motion[:, lower, 1]
    rest = float(head.template[upper, 1] - head.template[lower, 1]) * _MILLIMETRES
    return LipGeometry(flat @ flat.T, parted[:-1], float(parted[-1]), rest, tuple(model.expression_names))


def _jaw_motion(head: BakedHead, angle: float = 0.12) -> Floats:
    """Displacement `[V,3]` per rad of jaw opening, taken as a chord from shut to `angle`."""
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    feature = np.zeros((4, 9))
    feature[_JAW - 1] = (rotation - np.eye(3)).ravel()
    posed = head.template + np.tensordot(feature.ravel(), head.pose_basis, (0, 0))
    turned = (posed - head.joints[_JAW]) @ rotation.T + head.joints[_JAW]
    weight = head.weights[:, _JAW : _JAW + 1]
    moved = posed * (1 - weight) + turned * weight
    return np.asarray((moved - head.template) / angle)


def _inner_lips(head: BakedHead, lips: NDArray[np.signedinteger[Any]]) -> tuple[int, int]:
    """The lowest vertex of the upper and the highest of the lower lip, in the middle of the mouth."""
    middle = lips[np.abs(head.template[lips, 0]) < 1e-3]
    follows = head.weights[middle, _JAW] > 0.5
    height = head.template[middle, 1]
    upper = middle[~follows][np.argmin(height[~follows])]
    lower = middle[follows][np.argmax(height[follows])]
    return int(upper), int(lower)
