"""How the head moves and how the jaw follows: velocity and acceleration of the pose, jaw correlation and slope."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from .errors import MetricError

__all__ = ["HEAD_HEIGHT", "jaw_agreement", "pose_motion", "pose_velocity"]

HEAD_HEIGHT = 0.24
"""Metres, an adult's from chin to crown; for heads whose own is not known."""


def pose_motion(
    rotation: NDArray[Any], translation: NDArray[Any], head_height: float = HEAD_HEIGHT
) -> dict[str, float]:
    """Mean and standard deviation of the pose's velocity and acceleration, a frame (EmoGene's idle metrics).

    The velocity of a frame is the norm of six numbers: the rotation from the frame before (axis-angle, rad) and the
    translation from it (head heights); the acceleration is the norm of the change of those six.

    Args:
        rotation: [T, 3] axis-angle, rad.
        translation: [T, 3] metres.
        head_height: metres.

    Returns:
        velocity_mean, velocity_std, acceleration_mean, acceleration_std.

    Raises:
        MetricError: shapes disagree, fewer than three frames, or no head height.
    """
    velocity = pose_velocity(rotation, translation, head_height)
    speed = np.linalg.norm(velocity, axis=1)
    acceleration = np.linalg.norm(np.diff(velocity, axis=0), axis=1)
    return {
        "velocity_mean": float(speed.mean()),
        "velocity_std": float(speed.std()),
        "acceleration_mean": float(acceleration.mean()),
        "acceleration_std": float(acceleration.std()),
    }


def pose_velocity(rotation: NDArray[Any], translation: NDArray[Any], head_height: float = HEAD_HEIGHT) -> NDArray[Any]:
    """[T-1, 6] rotation (axis-angle, rad) and translation (head heights) from each frame to the next; as `pose_motion`.

    Raises MetricError as that does.
    """
    turns, moves = np.asarray(rotation, dtype=np.float64), np.asarray(translation, dtype=np.float64)
    if turns.shape != moves.shape or turns.ndim != 2 or turns.shape[1] != 3 or len(turns) < 3:
        raise MetricError(f"poses of shapes {turns.shape} and {moves.shape}: give [T, 3] of both with T ≥ 3")
    if not head_height > 0:
        raise MetricError(f"a head height of {head_height} m: give its size in metres")
    pose = Rotation.from_rotvec(turns)
    turned = (pose[1:] * pose[:-1].inv()).as_rotvec()
    return np.concatenate([turned, np.diff(moves, axis=0) / head_height], axis=1)


def jaw_agreement(predicted: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Pearson's correlation of the jaw's opening with the truth, and the slope of predicted over true.

    Args:
        predicted, truth: [T] opening in rad, or [T, 3] axis-angle, whose first component is the opening.

    Raises:
        MetricError: shapes disagree, or the true jaw never moves.
    """
    first, second = (np.asarray(jaw, dtype=np.float64) for jaw in (predicted, truth))
    first, second = (jaw[:, 0] if jaw.ndim == 2 else jaw for jaw in (first, second))
    if first.shape != second.shape or first.ndim != 1 or len(first) < 3:
        raise MetricError(f"jaws of shapes {first.shape} and {second.shape}: give [T] of the same frames")
    spread = second.std()
    if spread < 1e-9:
        raise MetricError("the true jaw never moves: nothing can follow it")
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    correlation = 0.0 if first.std() < 1e-9 else covariance / float(first.std() * spread)
    return {"correlation": correlation, "slope": covariance / float(spread**2)}
