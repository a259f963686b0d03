"""Smooth random fields that paint skin, hair and rooms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

__all__ = ["field", "mix", "smoothstep", "tile"]

Doubles = NDArray[np.float64]
_GRID = 48


def smoothstep(value: NDArray[np.floating], low: float, high: float) -> Doubles:
    """0 below `low`, 1 above `high`, smooth between; the other way round where `low` > `high`."""
    share = np.clip((np.asarray(value, np.float64) - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share))


def mix(first: NDArray[np.floating], second: NDArray[np.floating], share: NDArray[np.floating]) -> Doubles:
    """Colours (N,3) between two, by share (N,)."""
    return np.asarray(first + (second - first) * share[:, None])


def field(points: NDArray[np.floating], wavelength: float, seed: int, octaves: int = 1) -> Doubles:
    """(N,) noise of about unit variance at points (N,D), varying over `wavelength`; it repeats after 48 of them."""
    rng = np.random.default_rng(seed)
    total, power = np.zeros(len(points)), 0.0
    for octave in range(octaves):
        grid = rng.standard_normal((_GRID,) * points.shape[1]).astype(np.float32)
        at = np.asarray(points, np.float64).T * (2.0**octave / wavelength) + rng.uniform(0, _GRID, (points.shape[1], 1))
        weight = 0.6**octave
        total += weight * map_coordinates(grid, at, order=1, mode="grid-wrap")
        power += weight**2
    # Linear interpolation halves the variance along each axis, near enough.
    return np.asarray(total / np.sqrt(power) * 1.5 ** (points.shape[1] / 2))


def tile(shape: tuple[int, int], widths: tuple[float, float], rng: np.random.Generator) -> Doubles:
    """(H,W) noise of unit variance that tiles; `widths` are the feature sizes in pixels along rows and columns."""
    spectrum = np.fft.rfft2(rng.standard_normal(shape))
    y, x = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    spectrum *= np.exp(-2 * np.pi**2 * ((widths[0] * y) ** 2 + (widths[1] * x) ** 2) / 4)
    spectrum[0, 0] = 0
    value = np.fft.irfft2(spectrum, shape)
    return np.asarray(value / value.std())
