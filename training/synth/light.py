"""The light of a clip: a key, a fill, and surroundings as spherical harmonics of degree 2, in world space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .noise import Doubles

__all__ = ["Lighting", "draw_lighting", "irradiance", "to_srgb"]


@dataclass(frozen=True, eq=False)
class Lighting:
    """Directions point from the head to the light."""

    key: Doubles
    """(3,) unit"""
    key_colour: Doubles
    """(3,)"""
    fill: Doubles
    """(3,) unit"""
    fill_colour: Doubles
    """(3,)"""
    harmonics: Doubles
    """(9,3) irradiance over π, in the order 1, y, z, x, xy, yz, 3z²-1, xz, x²-y²"""


def draw_lighting(rng: np.random.Generator) -> Lighting:
    """A lit room: key from above and one side, weaker fill from the other, sky brighter than ground."""
    side = float(rng.choice([-1.0, 1.0]))
    key = _toward(side * rng.uniform(15, 55), rng.uniform(18, 48))
    fill = _toward(-side * rng.uniform(25, 75), rng.uniform(-5, 20))
    warmth = rng.normal(0, 0.06)
    strength = rng.uniform(0.75, 1.05)
    harmonics = np.zeros((9, 3))
    harmonics[0] = rng.uniform(0.30, 0.40) * np.exp(rng.normal(0, 0.03, 3))
    harmonics[1] = rng.uniform(0.04, 0.11) * np.array([0.95, 1.0, 1.08])
    harmonics[2] = rng.uniform(0.02, 0.09)
    harmonics[3] = rng.normal(0, 0.05) * np.exp(rng.normal(0, 0.08, 3))
    harmonics[4:] = rng.normal(0, 0.012, (5, 1))
    return Lighting(
        key=key,
        key_colour=strength * np.exp(np.array([1.0, 0.15, -1.0]) * (warmth + 0.05)),
        fill=fill,
        fill_colour=strength * rng.uniform(0.12, 0.35) * np.exp(np.array([-1.0, 0.0, 1.0]) * (warmth + 0.04)),
        harmonics=harmonics,
    )


def _toward(azimuth: float, elevation: float) -> Doubles:
    """(3,) a direction by its angles, degrees: 0, 0 is where the face looks (+z)."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def irradiance(
    normals: Doubles, ambient: NDArray[np.floating], key_seen: Doubles, lighting: Lighting, wrap: NDArray[np.floating]
) -> Doubles:
    """(V,3) light that arrives at vertices, over π.

    Args:
        normals: (V,3) unit.
        ambient: (V,) share of the surroundings that is seen.
        key_seen: (V,) share of the key that is seen.
        wrap: (V,) how far light bleeds past the terminator: skin and hair are not opaque.
    """
    x, y, z = normals.T
    basis = np.stack([np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], axis=1)
    total = np.clip(basis @ lighting.harmonics, 0.02, None) * np.asarray(ambient, np.float64)[:, None]
    key = np.clip((normals @ lighting.key + wrap) / (1 + wrap), 0, 1) ** 1.25
    # Red bleeds furthest under the skin, so the edge of a shadow is warm.
    shadow = np.clip(key_seen, 0, 1)[:, None] ** np.array([0.75, 1.0, 1.1])
    total += key[:, None] * shadow * lighting.key_colour
    fill = np.clip((normals @ lighting.fill + 0.3) / 1.3, 0, 1) * np.asarray(ambient, np.float64)
    return np.asarray(total + fill[:, None] * lighting.fill_colour)


def to_srgb(linear: NDArray[np.floating]) -> NDArray[np.float32]:
    """Display values 0…1 of linear light; above 0.75 a shoulder keeps the hue of highlights."""
    value = np.asarray(linear, np.float32)
    value = np.where(value < 0.75, value, 0.75 + 0.25 * (1 - np.exp((0.75 - value) / 0.25)))
    value = np.clip(value, 0, 1)
    return np.asarray(np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055), np.float32)
