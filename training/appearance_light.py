"""Baked light: a soft key, a fill, an ambient sky with occlusion, and highlights for a viewer in front."""

from __future__ import annotations

import numpy as np

from .appearance_surface import Array, Splats, unit

__all__ = ["light", "to_srgb", "visibility"]

_KEY = unit(np.array([-0.55, 0.62, 0.95]))
_FILL = unit(np.array([0.9, 0.1, 0.6]))
_RIM = unit(np.array([0.75, 0.5, -0.75]))
_KEY_COLOUR = np.array([1.0, 0.945, 0.87]) * 1.12
_FILL_COLOUR = np.array([0.80, 0.90, 1.0]) * 0.26
_RIM_COLOUR = np.array([0.9, 0.95, 1.0]) * 0.22
_SKY = np.array([0.95, 0.98, 1.0]) * 0.42
_GROUND = np.array([1.0, 0.88, 0.80]) * 0.26
_CELL = 0.0025
_BIAS = 0.0028


def _directions(count: int) -> Array:
    """Evenly spread directions (count,3): a Fibonacci sphere."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), z, ring * np.sin(angle)], axis=1)


def visibility(points: Array, occluders: Array, direction: Array, cell: float = _CELL, bias: float = _BIAS) -> Array:
    """(N,) 1 where nothing of the occluders (M,3) lies between a point (N,3) and the far `direction`, else 0.

    A shadow map of `cell` metres; what lies less than `bias` metres before a point does not hide it.
    """
    helper = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = unit(np.cross(helper, direction))
    basis = np.stack([right, np.cross(direction, right)], axis=1)
    low = np.minimum(points.min(axis=0), occluders.min(axis=0)) @ basis - 0.5
    grid = int(1.6 / cell)
    depth = np.full(grid * grid, -np.inf)
    cells = ((occluders @ basis - low) / cell).astype(np.int64)
    np.maximum.at(depth, cells[:, 0] % grid * grid + cells[:, 1] % grid, occluders @ direction)
    mine = ((points @ basis - low) / cell).astype(np.int64)
    hidden = depth[mine[:, 0] % grid * grid + mine[:, 1] % grid] > points @ direction + bias
    return np.asarray(1.0 - hidden)


def _ambient(points: Array, normal: Array, occluders: Array) -> Array:
    """(N,3) light of sky and ground that reaches each point."""
    total, open_total = np.zeros((len(points), 3)), np.zeros(len(points))
    for direction in _directions(72):
        cosine = np.clip(normal @ direction, 0, None)
        sky = _GROUND + (_SKY - _GROUND) * (0.5 + 0.5 * direction[1])
        seen = visibility(points, occluders, direction)
        total += (cosine * seen)[:, None] * sky
        open_total += cosine
    return np.asarray(total / open_total[:, None])


def _soft(points: Array, occluders: Array, direction: Array, rng: np.random.Generator) -> Array:
    """(N,) share of a wide light that each point sees."""
    jitter = unit(direction + rng.normal(scale=0.13, size=(12, 3)))
    return np.asarray(np.mean([visibility(points, occluders, one) for one in jitter], axis=0))


def light(made: Splats, occluders: Array, rng: np.random.Generator) -> Array:
    """(N,3) linear colour of each splat. Light wraps round (half-Lambert) and its edge is warm, as on skin."""
    point = made.position + made.normal * 0.0008
    ambient = _ambient(point, made.normal, occluders)
    key_seen = _soft(point, occluders, _KEY, rng)
    fill_seen = _soft(point, occluders, _FILL, rng)
    wrap = np.clip((made.normal @ _KEY + 0.25) / 1.25, 0, 1)[:, None] ** 1.3
    shadow = key_seen[:, None] ** np.array([0.75, 1.0, 1.1])
    irradiance = ambient * 0.95 + wrap * shadow * _KEY_COLOUR
    irradiance += np.clip((made.normal @ _FILL + 0.3) / 1.3, 0, 1)[:, None] * fill_seen[:, None] * _FILL_COLOUR
    irradiance += np.clip(made.normal @ _RIM, 0, 1)[:, None] ** 1.5 * _RIM_COLOUR
    half = unit(_KEY + np.array([0.0, 0.0, 1.0]))
    spark = np.clip(made.normal @ half, 0, 1) ** 28 * key_seen
    colour = made.albedo * irradiance + (made.gloss * spark)[:, None] * np.array([1.0, 0.97, 0.93])
    return np.asarray(np.where(made.glow[:, None] > 0.5, made.albedo, colour))


def to_srgb(linear: Array) -> Array:
    """Display values 0…1 of linear light, with a soft shoulder so that highlights keep their hue."""
    mapped = np.where(linear < 0.7, linear, 0.7 + 0.3 * (1 - np.exp(-(linear - 0.7) / 0.3)))
    mapped = np.clip(mapped, 0, 1)
    return np.asarray(np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055))
