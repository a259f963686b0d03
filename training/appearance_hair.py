"""Hair and brows of the demo avatar: strands grown over the scalp, each a chain of thin Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .appearance_surface import Array, Indices, Splats, Surface, join, noise, smoothstep, splats, unit

__all__ = ["HairStyle", "brows", "hair", "scalp_share"]

_LINE_Z = np.array([-0.130, -0.070, -0.052, -0.046, -0.012, -0.006, 0.010, 0.030, 0.050, 0.070, 0.090])
_LINE_Y = np.array([-0.060, -0.055, -0.010, 0.026, 0.034, 0.006, 0.006, 0.050, 0.076, 0.097, 0.104])
"""The hairline in profile: hair above y for each z, metres."""
_SKULL = np.array([0.0, 0.055, -0.025])
"""Middle of the skull, metres."""


@dataclass(frozen=True)
class HairStyle:
    """A side-parted bob. Lengths in metres, colours linear."""

    part_front: tuple[float, float, float] = (0.020, 0.108, 0.060)
    part_back: tuple[float, float, float] = (0.012, 0.146, -0.030)
    end_height: float = -0.058
    volume: float = 0.0125
    step: float = 0.006
    root: tuple[float, float, float] = (0.026, 0.0148, 0.0094)
    tip: tuple[float, float, float] = (0.088, 0.047, 0.026)
    brow: tuple[float, float, float] = (0.040, 0.024, 0.016)


def scalp_share(points: Array, seed: int) -> Array:
    """(N,1) 0 on bare skin, 1 under hair, with an uneven edge of a few millimetres."""
    line = np.interp(points[:, 2], _LINE_Z, _LINE_Y)
    above = points[:, 1] - line + 0.0011 * noise(points, 0.012, seed + 30) + 0.0004 * noise(points, 0.003, seed + 31)
    return smoothstep(above, -0.003, 0.005)[:, None]


class _Body:
    """Distance to the outside of head and neck, for strands to lie on."""

    def __init__(self, surface: Surface, rng: np.random.Generator) -> None:
        points = surface.sample(surface.region("skin"), 0.0035, rng)
        keep = ~_near_ear(points.position)
        position, normal = _ear_patches(points.position[keep])
        self.position = np.concatenate([points.position[keep], position])
        self.normal = np.concatenate([points.normal[keep], normal])
        self.tree = cKDTree(self.position)

    def lift(self, points: Array, offset: Array) -> tuple[Array, Array]:
        """Points moved out to `offset` (N,) metres, or in towards it, and the normals below them."""
        _, near = self.tree.query(points, k=6)
        normal = unit(self.normal[near].mean(axis=1))
        height = ((points[:, None] - self.position[near]) * self.normal[near]).sum(axis=2).mean(axis=1)
        outside = np.clip(height - offset, 0, 0.03) * (0.12 + 0.11 * smoothstep(points[:, 1], 0.02, 0.07))
        return points + normal * (np.clip(offset - height, 0, 0.02) - outside)[:, None], normal


def _near_ear(points: Array, margin: float = 0.0) -> NDArray[np.bool_]:
    """(N,) points on the sides of the head where the ears are, and `margin` metres around them."""
    y, z = points[:, 1], points[:, 2]
    inside = (y > -0.032 - margin) & (y < 0.042 + margin) & (z > -0.058 - margin) & (z < 0.004 + margin)
    return np.asarray(inside & (np.abs(points[:, 0]) > 0.04))


def _ear_patches(points: Array) -> tuple[Array, Array]:
    """Points and normals of smooth patches in place of the ears: a quadratic through the skin around them."""
    around = points[_near_ear(points, 0.014)]
    y, z = np.meshgrid(np.arange(-0.032, 0.042, 0.0035), np.arange(-0.058, 0.004, 0.0035))

    def terms(y: Array, z: Array) -> Array:
        y, z = y - 0.005, z + 0.027
        return np.stack([np.ones_like(y), y, z, y * y, y * z, z * z], axis=-1)

    fit = np.linalg.lstsq(terms(around[:, 1], around[:, 2]), np.abs(around[:, 0]), rcond=None)[0]
    x = (terms(y, z) @ fit).ravel()
    right = np.stack([x, y.ravel(), z.ravel()], axis=1)
    normal = np.broadcast_to([1.0, 0.0, 0.0], right.shape)
    mirror = np.array([-1.0, 1.0, 1.0])
    return np.concatenate([right, right * mirror]), np.concatenate([normal, normal * mirror])


def _off_face(path: Array) -> NDArray[np.bool_]:
    """(S,) strands (S,T,3) that nowhere hang below the hairline in front of the face."""
    line = np.interp(path[:, :, 2], _LINE_Z, _LINE_Y)
    over = (path[:, :, 2] > 0.034) & (path[:, :, 1] < line - 0.004)
    return ~np.asarray(over.any(axis=1))


def _comb(points: Array, side: Array, style: HairStyle) -> Array:
    """(N,3) the way hair is combed: off the parting to its side (N,) ±1, and to the back."""
    front, back = np.array(style.part_front), np.array(style.part_back)
    along = np.clip((points - front) @ (back - front) / ((back - front) ** 2).sum(), 0, 1)
    away = points - (front + along[:, None] * (back - front))
    away[:, 0] = side * np.maximum(side * away[:, 0], 0.0)
    away = unit(away + side[:, None] * np.array([0.012, 0.0, 0.0])) + np.array([0.0, -0.05, -0.45])
    away[:, 2] -= 0.6 * smoothstep(points[:, 2], 0.0, 0.05)
    upright = unit(points - _SKULL)
    return unit(away - upright * (away * upright).sum(axis=1, keepdims=True))


def _grow(
    roots: Array, normals: Array, body: _Body, style: HairStyle, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Strands (S,T,3), the normals below them (S,T,3) and their layer 0…1 (S,): inside to outside."""
    layer = rng.random(len(roots)) ** 0.8
    front = smoothstep(roots[:, 2], 0.0, 0.04) * smoothstep(np.abs(roots[:, 0]), 0.07, 0.04)
    rise = style.volume * layer * (1 - 0.75 * front)
    point = roots + normals * 0.0012
    front, back = np.array(style.part_front), np.array(style.part_back)
    parting = front[0] + (roots[:, 2] - front[2]) * (back[0] - front[0]) / (back[2] - front[2])
    side = np.where(roots[:, 0] > parting, 1.0, -1.0)
    direction = unit(0.05 * normals + _comb(roots, side, style))
    path, below = [point], [normals]
    wander = rng.normal(scale=0.07, size=roots.shape)
    for step in range(int(0.24 / style.step)):
        growth = min(1.0, step * style.step / 0.024)
        behind = smoothstep(point[:, 1] - np.interp(point[:, 2], _LINE_Z, _LINE_Y), 0.0, 0.030)
        flat = 1.0 - 0.45 * smoothstep(point[:, 1], 0.085, 0.125)
        height = 0.0018 + rise * growth * flat * np.where(point[:, 2] > 0.0, behind, 1.0)
        inward = np.stack([-point[:, 0], np.zeros(len(point)), -(point[:, 2] + 0.035)], axis=1)
        curl = smoothstep(point[:, 1], -0.015, -0.055)[:, None]
        hangs = np.maximum(smoothstep(np.abs(point[:, 0]), 0.030, 0.060), smoothstep(point[:, 2], 0.0, -0.06))
        combed = (
            (0.30 - 0.18 * hangs[:, None]) * _comb(point, side, style) * smoothstep(point[:, 1], 0.03, 0.08)[:, None]
        )
        pull = np.array([0.0, -0.17, 0.0]) * hangs[:, None] + combed + 0.30 * curl * unit(inward)
        direction = unit(0.80 * direction + pull + wander * 0.25)
        moved = point + direction * style.step
        limit = np.interp(
            moved[:, 1], [-0.10, 0.0, 0.03, 0.06, 0.09, 0.115], [0.004, 0.012, 0.026, 0.050, 0.076, 0.095]
        )
        moved[:, 2] = np.minimum(moved[:, 2], limit)
        moved, normal = body.lift(moved, height)
        direction = unit(0.5 * direction + 0.5 * unit(moved - point))
        point = point + unit(moved - point) * style.step
        path.append(point)
        below.append(normal)
    return _smooth(np.stack(path, axis=1)), np.stack(below, axis=1), layer


def _smooth(path: Array) -> Array:
    """Strands (S,T,3) without the kinks of the surface's samples; roots stay."""
    for _ in range(10):
        path[:, 1:-1] = 0.25 * path[:, :-2] + 0.5 * path[:, 1:-1] + 0.25 * path[:, 2:]
    return path


def _anchors(surface: Surface, points: Array) -> Indices:
    """The nearest triangle that only head rotation moves, for each point."""
    still = np.flatnonzero(surface.still_faces() & (surface.centroids[:, 1] > 0.045))
    return np.asarray(still[cKDTree(surface.centroids[still]).query(points)[1]])


def hair(surface: Surface, rng: np.random.Generator, seed: int, count: int, style: HairStyle) -> Splats:
    """`count` Gaussians of strands. Even when fewer are wanted: whole strands are left out."""
    outer = surface.region("skin")
    fine = _baby_hairs(surface, rng, seed, style)
    roots = surface.sample(outer & (surface.centroids[:, 1] > -0.06), 0.0029, rng)
    roots = roots.take(scalp_share(roots.position, seed)[:, 0] > 0.5)
    body = _Body(surface, rng)
    path, below, layer = _grow(roots.position, roots.normal, body, style, rng)
    kept = _off_face(path)
    roots, path, below, layer = roots.take(kept), path[kept], below[kept], layer[kept]
    pieces, strand, along = _pieces(path, style, rng)
    chosen = np.sort(_first_strands(strand, count - len(fine), rng))
    pieces, strand, along = pieces[chosen], strand[chosen], along[chosen]
    start = path[strand, pieces]
    stop = path[strand, np.minimum(pieces + 2, path.shape[1] - 1)]
    middle = (start + stop) / 2
    normal = below[strand, pieces]
    shade = _colour(start, along, layer[strand], strand, style, seed)
    length = np.linalg.norm(stop - start, axis=1)
    width = 0.00072 + 0.00035 * (1 - layer[strand])
    scale = np.stack([0.46 * length + 0.0004, width * (1 - 0.45 * along**3), 0.5 * width], axis=1)
    tangent = unit(stop - start)
    strands = splats(
        _anchors(surface, roots.position)[strand],
        middle,
        unit(normal + 0.25 * rng.normal(size=normal.shape)),
        scale,
        shade,
        tangent=tangent,
        opacity=0.93 - 0.25 * along**4,
    )
    return join([fine, strands])


def _baby_hairs(surface: Surface, rng: np.random.Generator, seed: int, style: HairStyle) -> Splats:
    """Short thin hairs along the hairline of the face, so that it does not end like a cap."""
    front = surface.region("skin") & (surface.centroids[:, 2] > 0.004) & (surface.centroids[:, 1] > 0.0)
    points = surface.sample(front, 0.0009, rng)
    share = scalp_share(points.position, seed)[:, 0]
    points = points.take((share > 0.08) & (share < 0.97))
    count = len(points)
    side = np.where(points.position[:, 0] > style.part_front[0], 1.0, -1.0)
    combed = _comb(points.position, side, style) + rng.normal(scale=0.18, size=(count, 3))
    combed += np.array([0.0, 0.35, 0.0]) * smoothstep(np.abs(points.position[:, 0]), 0.05, 0.02)[:, None]
    combed -= points.normal * (combed * points.normal).sum(axis=1, keepdims=True)
    scale = np.stack([rng.uniform(0.0013, 0.0026, count), np.full(count, 0.00012), np.full(count, 0.00010)], axis=1)
    lift = points.position + points.normal * 0.0008 + unit(combed) * scale[:, :1]
    shade = np.array(style.root) * np.exp(rng.normal(0.35, 0.25, (count, 1)))
    return splats(points.face_index, lift, points.normal, scale, shade, tangent=combed, opacity=0.6)


def _pieces(path: Array, style: HairStyle, rng: np.random.Generator) -> tuple[Indices, Indices, Array]:
    """Which steps of which strands are drawn, and how far along its strand (0…1) each lies."""
    end = style.end_height + rng.normal(scale=0.004, size=len(path)) + 0.010 * smoothstep(path[:, -1, 2], -0.06, 0.0)
    rises = np.diff(path[:, :, 1], axis=1, prepend=np.inf) > -0.0005
    inside = np.cumprod((path[:, :, 1] > end[:, None]) & ~(rises & (path[:, :, 1] < 0.0)), axis=1)
    length = np.maximum(inside.sum(axis=1), 3)
    step, strand = (grid.ravel() for grid in np.meshgrid(np.arange(0, path.shape[1], 2), np.arange(len(path))))
    drawn = (step < length[strand]) & (step + 2 < path.shape[1])
    step, strand = step[drawn], strand[drawn]
    return step, strand, step / length[strand]


def _first_strands(strand: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Indices of `count` pieces of randomly chosen strands, whole but for the last."""
    order = rng.permutation(int(strand.max()) + 1)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return np.asarray(np.argsort(rank[strand], kind="stable")[:count])


def _colour(points: Array, along: Array, layer: Array, strand: Indices, style: HairStyle, seed: int) -> Array:
    """(N,3) darker at the roots and inside, with strands and locks of slightly different shades and a band of shine."""
    rng = np.random.default_rng(seed + 40)
    own = rng.normal(scale=0.20, size=int(strand.max()) + 1)[strand]
    lock = noise(points * np.array([1.0, 0.25, 1.0]), 0.016, seed + 41)
    root, tip = np.array(style.root), np.array(style.tip)
    base = root + (tip - root) * smoothstep(along + 0.15 * lock, 0.1, 1.0)[:, None]
    shade = (0.50 + 0.75 * layer) * np.exp(own + 0.16 * lock)
    shine = np.exp(-(((points[:, 1] - 0.098 - 0.006 * lock) / 0.016) ** 2)) + 0.35 * np.exp(
        -(((points[:, 1] - 0.02 - 0.008 * lock) / 0.022) ** 2)
    )
    gleam = (shine * layer * 0.5)[:, None] * np.array([0.16, 0.115, 0.085])
    return np.asarray(np.clip(base * shade[:, None] + gleam, 0.001, 1))


def brows(surface: Surface, rng: np.random.Generator, style: HairStyle, each: int = 300) -> list[Splats]:
    """Two brows of thin hairs that fan from upright at the nose to sweeping down at the temple."""
    parts = []
    mask = surface.region("skin", "eyelids")
    for side in (1.0, -1.0):
        t = rng.random(each) ** 0.9
        x = 0.0135 + 0.0375 * t
        y = np.interp(t, [0.0, 0.3, 0.62, 1.0], [0.0484, 0.0512, 0.0534, 0.0488])
        half = np.interp(t, [0.0, 0.08, 0.5, 1.0], [0.0012, 0.0020, 0.0018, 0.0006])
        y = y + half * np.clip(rng.normal(scale=0.55, size=each), -1, 1)
        points = surface.in_front(np.stack([side * x, y], axis=1), mask)
        t = (np.abs(points.position[:, 0]) - 0.0135) / 0.0375
        angle = np.interp(t, [0.0, 0.25, 0.6, 1.0], [1.15, 0.60, 0.12, -0.45]) + rng.normal(scale=0.14, size=len(t))
        direction = np.stack([side * np.cos(angle), np.sin(angle), np.zeros(len(t))], axis=1)
        direction -= points.normal * (direction * points.normal).sum(axis=1, keepdims=True)
        length = np.interp(t, [0.0, 0.2, 1.0], [0.0011, 0.0018, 0.0015]) * rng.uniform(0.8, 1.2, len(t))
        scale = np.stack([length, np.full(len(t), 0.00019), np.full(len(t), 0.00012)], axis=1)
        tone = np.exp(rng.normal(scale=0.25, size=(len(t), 1)))
        parts.append(
            splats(
                points.face_index,
                points.position + points.normal * 0.0007,
                points.normal,
                scale,
                np.array(style.brow) * tone,
                tangent=direction,
                opacity=np.interp(t, [0.0, 0.15, 0.85, 1.0], [0.35, 0.62, 0.65, 0.4]),
            )
        )
    return parts


def brow_shadow(points: Array) -> Array:
    """(N,1) soft tint of the skin under the brows, so that they read as one shape."""
    t = (np.abs(points[:, 0]) - 0.0135) / 0.0375
    y = np.interp(t, [0.0, 0.3, 0.62, 1.0], [0.0484, 0.0512, 0.0534, 0.0488])
    half = np.interp(t, [0.0, 0.08, 0.5, 1.0], [0.0015, 0.0021, 0.0019, 0.0008])
    inside = smoothstep(np.abs(points[:, 1] - y), half * 1.3, half * 0.3) if len(points) else np.zeros(0)
    ends = smoothstep(t, -0.06, 0.08) * smoothstep(t, 1.05, 0.9)
    return np.asarray((inside * ends * (points[:, 2] > 0.02) * 0.5)[:, None])
