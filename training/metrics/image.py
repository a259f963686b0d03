"""Picture metrics: PSNR and SSIM, over the whole picture or inside a mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from .errors import MetricError

__all__ = ["psnr", "ssim", "ssim_map"]

Doubles = NDArray[np.float64]

WINDOW, SIGMA = 11, 1.5
"""Of SSIM's Gaussian window, as Wang et al. 2004 and 3DGS."""
_C1, _C2 = 0.01**2, 0.03**2
IDENTICAL = 100.0
"""dB, given for equal pictures so that means over a clip stay finite."""


def psnr(predicted: NDArray[Any], truth: NDArray[Any], mask: NDArray[Any] | None = None) -> float:
    """Peak signal-to-noise ratio in dB, at most 100.

    Args:
        predicted, truth: [H, W, 3], uint8 or floats 0…1.
        mask: [H, W] weights 0…1 of the pixels; all alike if None.

    Raises:
        MetricError: the sizes disagree or the mask is empty.
    """
    first, second = _pair(predicted, truth)
    squared = ((first - second) ** 2).mean(axis=-1)
    error = _weighted(squared, mask)
    return IDENTICAL if error <= 10 ** (-IDENTICAL / 10) else -10 * math.log10(error)


def ssim(predicted: NDArray[Any], truth: NDArray[Any], mask: NDArray[Any] | None = None) -> float:
    """Structural similarity, the mean of `ssim_map` over the picture or the mask. Arguments and errors as `psnr`."""
    return _weighted(ssim_map(predicted, truth), mask)


def ssim_map(predicted: NDArray[Any], truth: NDArray[Any]) -> Doubles:
    """SSIM of every pixel [H, W], the channels' mean: an 11×11 Gaussian window of σ 1.5, zeros outside the picture.

    Zeros outside are what 3DGS' own `ssim` pads with, so that the numbers compare. Raises MetricError.
    """
    first, second = _pair(predicted, truth)
    mean_a, mean_b = _blur(first), _blur(second)
    variance_a, variance_b = _blur(first**2) - mean_a**2, _blur(second**2) - mean_b**2
    covariance = _blur(first * second) - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    bottom = (mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2)
    result: Doubles = (top / bottom).mean(axis=-1)
    return result


def _blur(picture: Doubles) -> Doubles:
    kernel = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        picture = correlate1d(picture, kernel, axis=axis, mode="constant")
    return picture


def _pair(predicted: NDArray[Any], truth: NDArray[Any]) -> tuple[Doubles, Doubles]:
    if predicted.shape != truth.shape or predicted.ndim != 3 or predicted.shape[2] != 3:
        raise MetricError(f"pictures of shapes {predicted.shape} and {truth.shape}: give two RGB pictures of one size")
    first, second = (
        picture.astype(np.float64) / (255.0 if picture.dtype == np.uint8 else 1.0) for picture in (predicted, truth)
    )
    return first, second


def _weighted(values: Doubles, mask: NDArray[Any] | None) -> float:
    if mask is None:
        return float(values.mean())
    weights = np.asarray(mask, dtype=np.float64)
    if weights.shape != values.shape:
        raise MetricError(f"a mask of shape {weights.shape} for a picture of {values.shape}: give one of the same size")
    if weights.sum() <= 0:
        raise MetricError("the mask is empty in this picture: check the scene's masks")
    return float((values * weights).sum() / weights.sum())
