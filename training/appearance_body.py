"""Below Anny's head: the neck continued, and a crew-neck sweater. Bound to the rim, which follows the root joint."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from .appearance_skin import skin_albedo
from .appearance_surface import Array, Indices, Splats, Surface, even_subset, noise, smoothstep, splats, unit

__all__ = ["body"]

_CLOTH = np.array([0.030, 0.052, 0.082])
_RIB = np.array([0.024, 0.043, 0.070])
_NECK_LENGTH = 0.036
_BOTTOM = -0.222
"""Where the sweater ends, below every picture of the demo camera; metres."""


def _rim(surface: Surface) -> Array:
    """(720,3) the rim of the neck, one point a degree from the back round by +x."""
    edges = np.sort(
        np.concatenate([surface.faces[:, [0, 1]], surface.faces[:, [1, 2]], surface.faces[:, [2, 0]]]), axis=1
    )
    unique, count = np.unique(edges, axis=0, return_counts=True)
    rim = surface.vertices[np.unique(unique[count == 1])]
    rim = rim[rim[:, 1] < -0.06]
    centre = rim.mean(axis=0)
    angle = np.arctan2(rim[:, 0] - centre[0], rim[:, 2] - centre[2])
    order = np.argsort(angle)
    wanted = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    return np.stack([np.interp(wanted, angle[order], rim[order, axis], period=2 * np.pi) for axis in range(3)], axis=1)


def _grid_points(grid: Array, spacing: float, rng: np.random.Generator) -> tuple[Array, Array, Indices, Indices]:
    """Even points of a surface given as a closed grid (rows,720,3): position, outward normal, row, column."""
    down = np.gradient(grid, axis=0)
    round_ = (np.roll(grid, -1, axis=1) - np.roll(grid, 1, axis=1)) / 2
    normal = unit(np.cross(round_, down)).reshape(-1, 3)
    outward = grid - grid.mean(axis=1, keepdims=True)
    sign = np.sign((normal * outward.reshape(-1, 3)).sum())
    position = grid.reshape(-1, 3)
    order = rng.permutation(len(position))
    kept = order[even_subset(position[order], sign * normal[order], spacing)]
    return position[kept], sign * normal[kept], kept // grid.shape[1], kept % grid.shape[1]


def _profile(rim: Array) -> tuple[Array, Array, Array]:
    """Grids (rows,720,3) of the continued neck, the collar and the sweater."""
    centre = rim.mean(axis=0)
    normal = np.linalg.svd(rim - centre)[2][2]
    azimuth = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    front, lateral = np.cos(azimuth)[:, None], np.abs(np.sin(azimuth))[:, None]
    axis = -normal * np.sign(normal[1])
    outward = unit((rim - centre) - ((rim - centre) @ axis)[:, None] * axis)
    # Behind, the garment falls straight down; along the neck's axis it would stand off the nape.
    along = unit(axis * (0.5 + 0.5 * front) + np.array([0.0, -1.0, 0.15]) * (0.5 - 0.5 * front))
    reach = np.linspace(-0.003, _NECK_LENGTH, 60)[:, None, None] * (0.62 + 0.38 * front)
    flare = 0.1 * np.clip(reach, 0, None) ** 2 / _NECK_LENGTH
    neck = rim + along * reach + outward * (flare - 0.0004)
    opening = rim + along * (0.012 + 0.010 * np.clip(front, 0, None)) + outward * 0.0035
    turn = np.linspace(-0.35 * np.pi, 0.6 * np.pi, 48)[:, None, None]
    collar = opening + outward * 0.0060 * np.sin(turn) + outward * 0.0045 + along * 0.0085 * (1 - np.cos(turn))
    start = collar[-8]
    t = np.linspace(0, 1, 220)[:, None, None]
    flat = unit(np.stack([np.sin(azimuth), np.zeros(720), np.cos(azimuth)], axis=1))
    width = 0.035 + 0.185 * lateral**1.6 + 0.02 * np.clip(front, 0, None)
    drop = 0.175 - 0.095 * lateral**1.5
    power = 0.85 + 0.35 * lateral
    sweater = start + flat * width * t ** (1.35 - 0.45 * lateral) + np.array([0.0, -1.0, 0.0]) * drop * t**power
    sweater = sweater + np.array([0.0, -1.0, 0.0]) * 0.10 * lateral * np.clip(t - 0.75, 0, 1) ** 1.5
    return neck, collar, sweater


def body(surface: Surface, rng: np.random.Generator, seed: int) -> list[Splats]:
    """Neck, collar and sweater."""
    neck, collar, sweater = _profile(_rim(surface))
    rooted = np.flatnonzero((surface.head.weights[surface.faces, 0] > 0.97).all(axis=1))
    tree = cKDTree(surface.centroids[rooted])

    def anchored(position: Array, normal: Array, spacing: float, albedo: Array, tangent: Array | None = None) -> Splats:
        width = 0.95 * spacing
        anchor = rooted[tree.query(position)[1]]
        return splats(anchor, position, normal, (width, width, 0.12 * width), albedo, tangent=tangent, opacity=0.97)

    position, normal, _, _ = _grid_points(neck, 0.0027, rng)
    parts = [anchored(position, normal, 0.0027, skin_albedo(position, seed))]
    position, normal, row, _ = _grid_points(collar, 0.0017, rng)
    seam = np.exp(-(((row - 36) / 2.0) ** 2))
    albedo = _RIB * (1.0 - 0.35 * seam + 0.12 * noise(position, 0.003, seed + 50))[:, None]
    parts.append(anchored(position, normal, 0.0017, albedo))
    position, normal, row, _ = _grid_points(sweater, 0.0046, rng)
    shown = position[:, 1] > _BOTTOM
    position, normal, row = position[shown], normal[shown], row[shown]
    knit = 0.5 + 0.5 * np.sin(row * 1.15)
    fold = noise(position, 0.05, seed + 51)
    edge = 0.6 + 0.4 * smoothstep(row.astype(float), 0.0, 6.0)
    albedo = _CLOTH * ((0.86 + 0.16 * knit + 0.07 * fold + 0.07 * noise(position, 0.006, seed + 52)) * edge)[:, None]
    bumped = unit(normal + 0.10 * np.stack([noise(position, 0.06, seed + 53 + axis) for axis in range(3)], axis=1))
    parts.append(anchored(position, bumped, 0.0046, albedo))
    return parts
