"""Landmarks: LMD, the gap between the lips and the mouth's box, from the usual 68 points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...plugins.camera import Camera
from .errors import MetricError

__all__ = ["INNER_PAIRS", "MOUTH", "lip_gap", "lmd", "mouth_box", "project"]

Doubles = NDArray[np.float64]

MOUTH = slice(48, 68)
"""The mouth's points of the 68: outer lip 48-59, inner lip 60-67."""
INNER_PAIRS = ((61, 67), (62, 66), (63, 65))
_POINTS = 68


def lmd(predicted: NDArray[Any], truth: NDArray[Any], region: slice | None = MOUTH) -> float:
    """Landmark distance in pixels: the mean distance of the region's points after both regions are centred.

    As Chen et al. 2018 and the authors' evaluation: a head that sits elsewhere costs nothing, a mouth of another form
    does.

    Args:
        predicted, truth: [T, 68, 2] pixels, or [T, K, 2] with `region` None for all K points.

    Raises:
        MetricError: shapes disagree, or `region` is given for other points than the 68.
    """
    first, second = _tracks(predicted, truth)
    if region is not None:
        if first.shape[1] != _POINTS:
            raise MetricError(f"{first.shape[1]} landmarks: the mouth is known of 68; give those or no region")
        first, second = first[:, region], second[:, region]
    centred = (first - first.mean(axis=1, keepdims=True)) - (second - second.mean(axis=1, keepdims=True))
    return float(np.linalg.norm(centred, axis=-1).mean())


def lip_gap(landmarks: NDArray[Any]) -> Doubles:
    """Distance of the inner lips [T] in pixels, the mean of three pairs of the 68 points. Raises MetricError."""
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim != 3 or points.shape[1] != _POINTS:
        raise MetricError(f"landmarks of shape {points.shape}: the lips' gap needs [T, 68, 2]")
    distances = [np.linalg.norm(points[:, upper] - points[:, lower], axis=-1) for upper, lower in INNER_PAIRS]
    gap: Doubles = np.mean(distances, axis=0)
    return gap


def mouth_box(landmarks: NDArray[Any], width: int, height: int, margin: float = 0.25) -> NDArray[np.float32]:
    """A mask [H, W], 1 in the box around one picture's mouth points [68, 2], enlarged by `margin` of its size."""
    points = np.asarray(landmarks, dtype=np.float64)[MOUTH]
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    left, top = np.floor(low).astype(int).clip(0, (width, height))
    right, bottom = np.ceil(high).astype(int).clip(0, (width, height))
    mask = np.zeros((height, width), np.float32)
    mask[top:bottom, left:right] = 1
    return mask


def project(points: NDArray[Any], camera: Camera) -> Doubles:
    """World points [..., 3] in metres to pixels [..., 2]: `fx·x/z + cx - 0.5`, pixel centres at integers."""
    seen = np.asarray(points, dtype=np.float64) @ camera.view[:3, :3].T + camera.view[:3, 3]
    scaled = seen[..., :2] / seen[..., 2:]
    pixels: Doubles = scaled * np.array([camera.fx, camera.fy]) + np.array([camera.cx, camera.cy]) - 0.5
    return pixels


def _tracks(predicted: NDArray[Any], truth: NDArray[Any]) -> tuple[Doubles, Doubles]:
    if predicted.shape != truth.shape or predicted.ndim != 3 or len(predicted) == 0:
        raise MetricError(f"landmarks of shapes {predicted.shape} and {truth.shape}: give [T, K, 2] of the same frames")
    return np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
