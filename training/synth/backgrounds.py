"""What is behind the head: walls, gradients, rooms and lights out of focus. Linear colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .noise import tile

__all__ = ["KINDS", "draw_background"]

Floats = NDArray[np.float32]
KINDS = ("flat", "gradient", "wall", "room", "lights")


def draw_background(size: int, rng: np.random.Generator) -> Floats:
    """(size,size,3) of a random kind."""
    kind = str(rng.choice(KINDS))
    base = _colour(rng)
    across = np.linspace(-1, 1, size)
    x, y = np.meshgrid(across, across)
    picture = np.broadcast_to(base, (size, size, 3)).copy()
    if kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        share = np.clip(0.5 + 0.4 * (np.cos(angle) * x + np.sin(angle) * y), 0, 1)[..., None]
        picture = picture * share + _colour(rng) * (1 - share)
    elif kind == "wall":
        texture = tile((size, size), (size / 40, size / 40), rng) + tile((size, size), (size / 8, size / 8), rng)
        picture *= np.exp(0.06 * texture)[..., None]
    elif kind == "room":
        picture = _room(picture, x, y, rng)
    elif kind == "lights":
        picture = _lights(picture * 0.35, x, y, rng)
    vignette = 1 - rng.uniform(0, 0.35) * (x**2 + y**2)[..., None] / 2
    return np.clip(picture * vignette, 0.004, 1.2).astype(np.float32)


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,) more often muted than bright."""
    grey = np.exp(rng.uniform(np.log(0.05), np.log(0.75)))
    return np.asarray(grey * np.exp(rng.normal(0, 0.25, 3) * rng.beta(1.2, 2.0)))


def _room(
    picture: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Furniture, frames and a window as boxes, out of focus."""
    for _ in range(rng.integers(5, 12)):
        centre, half = rng.uniform(-1.1, 1.1, 2), rng.uniform(0.06, 0.5, 2)
        box = (np.abs(x - centre[0]) < half[0]) & (np.abs(y - centre[1]) < half[1])
        picture[box] = _colour(rng)
    picture[y > rng.uniform(0.55, 1.0)] *= rng.uniform(0.3, 0.8)
    blur = len(x) * rng.uniform(0.008, 0.035)
    return np.stack([gaussian_filter(picture[..., channel], blur, mode="nearest") for channel in range(3)], axis=-1)


def _lights(
    picture: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Bright discs of one size."""
    radius = rng.uniform(0.05, 0.14)
    for _ in range(rng.integers(12, 40)):
        away = np.hypot(x - rng.uniform(-1, 1), y - rng.uniform(-1, 1)) / radius
        disc = 1 / (1 + np.exp(np.clip((away - 1) * 18, -40, 40)))
        picture = picture + 0.30 * rng.random() * disc[..., None] * _colour(rng) / 0.4
    return picture
