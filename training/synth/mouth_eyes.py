"""Painting of eyeballs, lashes, teeth, gums, tongue and the inside of the mouth, on the template's coordinates."""

from __future__ import annotations

import numpy as np

from .identity import Identity
from .noise import Doubles, field, mix, smoothstep

__all__ = ["lash_cover", "paint_eye", "paint_flesh", "paint_teeth"]

_IRIS_RADIUS = 0.0062
_SCLERA = np.array([0.76, 0.72, 0.69])
_VEIN = np.array([0.66, 0.34, 0.30])
_FLESH = np.array([0.24, 0.050, 0.046])
_TONGUE = np.array([0.44, 0.150, 0.140])
_GUM = np.array([0.46, 0.150, 0.140])
_ENAMEL = np.array([0.78, 0.73, 0.62])

# Widths of the teeth from the middle line, metres, along the arch.
_WIDTHS = {"upper_teeth": (8.6, 6.6, 7.6, 7.0, 6.8, 9.9, 9.5), "lower_teeth": (5.4, 6.0, 6.8, 7.0, 7.0, 10.3, 10.0)}
_GUM_LINE = {"upper_teeth": -0.0272, "lower_teeth": -0.0448}
_ARCH_CENTRE = 0.030  # z


def paint_eye(points: Doubles, centre: Doubles, radius: float, identity: Identity) -> tuple[Doubles, Doubles]:
    """Reflectance (N,3) and gloss (N,) of an eyeball: pupil, iris with fibres, limbal ring, sclera with veins."""
    outward = (points - centre) / np.linalg.norm(points - centre, axis=1, keepdims=True)
    reach = radius * np.arccos(np.clip(outward[:, 2], -1, 1))
    angle = np.arctan2(outward[:, 1], outward[:, 0])
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    fibre = field(np.concatenate([ring, reach[:, None] * 60], axis=1), 0.07, identity.seed + 20, 2)
    blend = smoothstep(reach + 0.0004 * fibre, identity.pupil + 0.0004, 0.0047)
    iris = mix(np.broadcast_to(identity.iris[0], points.shape), identity.iris[1], blend)
    iris = iris * np.exp(0.32 * fibre)[:, None]
    iris = iris * (1 - 0.82 * smoothstep(reach, 0.0048, 0.0061))[:, None]
    iris = mix(
        iris, np.array([0.003, 0.003, 0.003]), smoothstep(reach, identity.pupil + 0.00025, identity.pupil - 0.00025)
    )
    veins = 0.05 + 0.06 * smoothstep(field(outward * radius, 0.0016, identity.seed + 21, 2), 0.9, 2.0)
    corner = smoothstep(reach, 0.010, 0.017)
    sclera = mix(np.broadcast_to(_SCLERA, points.shape), _VEIN, np.clip(veins + 0.40 * corner, 0, 1))
    return mix(iris, sclera, smoothstep(reach, _IRIS_RADIUS - 0.0004, _IRIS_RADIUS + 0.0004)), np.ones(len(points))


def paint_flesh(points: Doubles, tongue: bool, identity: Identity) -> tuple[Doubles, Doubles]:
    """Reflectance and gloss of the tongue or the inside of the mouth."""
    base = _TONGUE if tongue else _FLESH
    rough = 0.10 * field(points, 0.0022, identity.seed + 22)
    groove = 0.35 * np.exp(-((points[:, 0] / 0.0022) ** 2)) if tongue else np.zeros(len(points))
    return base * np.exp(rough - groove)[:, None], np.full(len(points), 0.10)


def paint_teeth(points: Doubles, region: str, identity: Identity) -> tuple[Doubles, Doubles]:
    """Reflectance and gloss of a row of teeth: gaps, tints and a scalloped gum line."""
    upper = region == "upper_teeth"
    edges = np.concatenate([[0.0], np.cumsum(_WIDTHS[region])]) * 1e-3
    arc = _arc_length(points)
    tooth = np.clip(np.searchsorted(edges, arc, side="right") - 1, 0, len(edges) - 2)
    from_middle = np.abs(2 * (arc - edges[tooth]) / (edges[tooth + 1] - edges[tooth]) - 1)
    above = (points[:, 1] - _GUM_LINE[region]) * (1.0 if upper else -1.0)
    gum = smoothstep(above - 0.0016 * (1 - from_middle**2), -0.0003, 0.0003)
    rng = np.random.default_rng(identity.seed + 23)
    tint = (np.array([1.0, 0.97, 0.90, 0.95, 0.93, 0.9, 0.88]) * rng.uniform(0.95, 1.0, 7))[tooth]
    shade = tint * (1 - 0.60 * smoothstep(from_middle, 0.84, 1.0)) * (1 - 0.10 * from_middle)
    yellow = np.array([1.0, 1.0 - 0.04 * identity.lines, 1.0 - 0.14 * identity.lines])
    enamel = _ENAMEL * yellow * shade[:, None] * (1 - 0.22 * smoothstep(above, -0.004, 0.0))[:, None]
    return mix(enamel, _GUM, gum), np.where(gum > 0.5, 0.08, 0.16)


def _arc_length(points: Doubles) -> Doubles:
    """(N,) metres from the middle line along an arch of teeth, by its outer radius at every angle."""
    across, ahead = np.abs(points[:, 0]), points[:, 2] - _ARCH_CENTRE
    angle = np.arctan2(across, ahead)
    radius = np.hypot(across, ahead)
    steps = np.linspace(0, np.pi / 2, 12)
    outer = np.array([radius[np.abs(angle - one) < 0.16].max(initial=0.03) for one in steps])
    line = np.stack([outer * np.sin(steps), outer * np.cos(steps)], axis=1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return np.asarray(np.interp(angle, steps, length))


def lash_cover(points: Doubles, centre: Doubles, identity: Identity) -> Doubles:
    """(N,) how much of a lash strip is hair: strands that thin out away from the lid."""
    arm = points - centre
    reach = np.linalg.norm(arm, axis=1)
    angle = np.arctan2(arm[:, 0], arm[:, 2])
    upper = smoothstep(points[:, 1], 0.0275, 0.0300)
    strand = field(np.stack([angle, 4.0 * reach], axis=1), 0.030, identity.seed + 24)
    length = 0.0006 + (0.0030 + 0.0022 * identity.makeup) * upper + 0.0009 * (1 - upper)
    fade = np.clip((reach - reach.min() - 0.0004) / length, 0, 2)
    return np.asarray(np.clip((0.58 + 0.24 * upper) + 0.30 * strand - 0.60 * fade, 0, 1))
