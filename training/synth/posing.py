"""FLAME's skinning (Eq. 1) in float64, apart from the kernels: the truth must not come from what is judged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..head import HeadModel
from .noise import Doubles

__all__ = ["pose_vertices", "rotation_matrix"]


def rotation_matrix(axis_angle: NDArray[np.floating]) -> Doubles:
    """(3,3) by Rodrigues' formula of (3,) rad."""
    vector = np.asarray(axis_angle, np.float64)
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def pose_vertices(
    head: HeadModel, template: NDArray[np.floating], expression: NDArray[np.floating], angles: NDArray[np.floating]
) -> Doubles:
    """(V,3) metres, before the translation.

    Args:
        head: bases, joints and weights.
        template: (V,3) with the shape applied.
        expression: (E,).
        angles: (15,) axis-angle of root, neck, jaw, left eye, right eye.
    """
    used = np.flatnonzero(expression)
    shaped = (
        np.asarray(template, np.float64) + head.expression_basis[:, :, used] @ np.asarray(expression, np.float64)[used]
    )
    turns = np.stack([rotation_matrix(angle) for angle in np.asarray(angles, np.float64).reshape(-1, 3)])
    joints = head.joint_regressor.astype(np.float64) @ shaped
    posed = shaped + head.pose_basis @ (turns[1:] - np.eye(3)).reshape(-1)
    linear, shift = np.zeros((5, 3, 3)), np.zeros((5, 3))
    for joint, parent in enumerate(head.parents):
        # A joint turns about where its parents have carried it.
        above = np.eye(3) if parent < 0 else linear[parent]
        carried = joints[joint] if parent < 0 else above @ joints[joint] + shift[parent]
        linear[joint] = above @ turns[joint]
        shift[joint] = carried - linear[joint] @ joints[joint]
    weights = head.weights.astype(np.float64)
    blended = (weights @ linear.reshape(5, 9)).reshape(-1, 3, 3)
    return np.asarray(np.einsum("vab,vb->va", blended, posed) + weights @ shift)
