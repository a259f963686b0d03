"""Painting of the face: skin, lips, lids, brows, beard and the scalp under the hair, on the template's coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .identity import Identity
from .noise import Doubles, field, mix, smoothstep

__all__ = ["hair_height", "paint_skin"]

_BLUSH = (  # centre (x mirrored), radius, strength
    ((0.042, -0.008, 0.056), 0.018, 0.50),
    ((0.000, -0.002, 0.092), 0.011, 0.55),
    ((0.012, -0.010, 0.076), 0.008, 0.30),
    ((0.000, -0.068, 0.070), 0.014, 0.25),
    ((0.085, 0.005, -0.020), 0.024, 0.50),
)
_SHADE = (
    ((0.023, 0.019, 0.062), 0.008, 0.30),
    ((0.030, 0.016, 0.062), 0.007, 0.25),
    ((0.033, 0.037, 0.06), 0.009, 0.22),
)

# Height of the hairline by the azimuth about a vertical axis through z = -0.02, degrees from the front.
_LINE_AZIMUTH = np.array([0, 25, 42, 54, 62, 70, 80, 100, 118, 135, 155, 180.0])
_LINE_HEIGHT = np.array([0.100, 0.101, 0.098, 0.082, 0.052, 0.030, 0.030, 0.040, 0.010, -0.030, -0.048, -0.054])


def hair_height(points: NDArray[np.floating], identity: Identity) -> Doubles:
    """(N,) metres above the hairline; negative on the face and the neck."""
    azimuth = np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] + 0.02))
    line = np.interp(azimuth, _LINE_AZIMUTH, _LINE_HEIGHT)
    # Receding takes the temples more than the middle.
    line = line + identity.hairline * smoothstep(azimuth, 75, 45) * (1 + 0.8 * smoothstep(azimuth, 10, 38))
    return np.asarray(points[:, 1] - line)


def _bell(points: Doubles, centre: tuple[float, float, float], radius: float) -> Doubles:
    mirrored = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], axis=1)
    return np.asarray(np.exp(-((mirrored - centre) ** 2).sum(axis=1) / (2 * radius**2)))


def paint_skin(
    points: Doubles, lip: Doubles, lid: Doubles, ear: Doubles, identity: Identity
) -> tuple[Doubles, Doubles]:
    """Reflectance (N,3) and gloss (N,) at template points (N,3).

    lip, lid, ear: (N,) how much of these regions a point is, 0…1.
    """
    albedo = _complexion(points, ear, identity)
    albedo = _lines(albedo, points, identity)
    albedo = _beard(albedo, points, lip, identity)
    albedo = _lids(albedo, points, lid, identity)
    share = smoothstep(lip, 0.30, 0.72)
    albedo = mix(albedo, _lips(points, identity), share)
    albedo = _brows(albedo, points, identity)
    albedo = _scalp(albedo, points, ear, identity)
    oily = _bell(points, (0, 0.0, 0.09), 0.014) + 0.7 * _bell(points, (0, 0.08, 0.075), 0.03)
    gloss = 0.030 + 0.030 * oily + (0.06 + 0.10 * identity.makeup) * share
    return np.clip(albedo, 0.002, 0.95), gloss


def _complexion(points: Doubles, ear: Doubles, identity: Identity) -> Doubles:
    skin, seed = identity.skin, identity.seed
    warm = skin * np.array([1.06, 0.76, 0.74])
    dark = skin**1.12 * np.array([0.78, 0.66, 0.66])
    albedo = np.broadcast_to(skin, points.shape)
    for centre, radius, strength in _BLUSH:
        albedo = mix(albedo, warm, np.clip(strength * identity.blush * _bell(points, centre, radius), 0, 0.8))
    albedo = mix(albedo, warm, 0.35 * ear)
    for centre, radius, strength in _SHADE:
        albedo = mix(albedo, dark, strength * _bell(points, centre, radius))
    tone = 0.022 * field(points, 0.0035, seed, 2) + 0.022 * field(points, 0.03, seed + 1)
    ruddy = 0.022 * field(points, 0.010, seed + 2)
    albedo = albedo * np.exp(tone[:, None] + ruddy[:, None] * np.array([0.3, -0.7, -0.7]))
    return np.asarray(albedo * (1 - _freckles(points, identity))[:, None] * np.array([1, 0.97, 0.95]))


def _freckles(points: Doubles, identity: Identity) -> Doubles:
    """(N,) darkening: spots of noise on nose and cheeks, and a few moles."""
    where = _bell(points, (0.028, 0.0, 0.075), 0.022) + 0.6 * _bell(points, (0, 0.0, 0.09), 0.015)
    spots = smoothstep(field(points, 0.0022, identity.seed + 3), 1.5, 2.4)
    dark = 0.55 * identity.freckles * np.clip(where, 0, 1) * spots
    rng = np.random.default_rng(identity.seed + 4)
    for _ in range(rng.integers(0, 5)):
        at = np.array([rng.uniform(-0.055, 0.055), rng.uniform(-0.07, 0.09)])
        near = ((points[:, :2] - at) ** 2).sum(axis=1) + np.where(points[:, 2] > 0.02, 0, 1)
        dark = np.maximum(dark, 0.65 * np.exp(-near / (2 * rng.uniform(0.0006, 0.0011) ** 2)))
    return np.asarray(dark)


def _lines(albedo: Doubles, points: Doubles, identity: Identity) -> Doubles:
    """Wrinkles of the forehead, at the eyes and from nose to mouth."""
    x, y = np.abs(points[:, 0]), points[:, 1]
    front = points[:, 2] > 0.02
    bend = 0.0018 * field(points[:, :1], 0.02, identity.seed + 5)
    forehead = np.zeros(len(points))
    for height in (0.066, 0.075, 0.084):
        forehead += np.exp(-((y - height - bend + 6 * x**2) ** 2) / (2 * 0.0007**2))
    forehead *= smoothstep(x, 0.045, 0.025) * 0.26
    fold_x = np.interp(-y, [-0.002, 0.012, 0.028, 0.042, 0.050], [0.0175, 0.0225, 0.0285, 0.0325, 0.0335])
    fold = np.exp(-((x - fold_x) ** 2) / (2 * 0.0011**2)) * smoothstep(y, 0.0, -0.008) * smoothstep(y, -0.052, -0.036)
    feet = np.zeros(len(points))
    for slope in (-0.5, -0.05, 0.4):
        offset = y - 0.029 - slope * (x - 0.049)
        feet += np.exp(-(offset**2) / (2 * 0.0005**2)) * smoothstep(x, 0.048, 0.051) * smoothstep(x, 0.063, 0.056)
    dark = np.where(front, identity.lines * (forehead + 0.45 * fold + 0.25 * feet) + 0.10 * fold, 0.0)
    return np.asarray(albedo * (1 - np.clip(dark, 0, 0.6)[:, None] * np.array([0.75, 1.0, 1.0])))


def _beard(albedo: Doubles, points: Doubles, lip: Doubles, identity: Identity) -> Doubles:
    if identity.beard == 0:
        return albedo
    x, y = np.abs(points[:, 0]), points[:, 1]
    edge = np.interp(x, [0, 0.02, 0.035, 0.05, 0.065, 0.075], [-0.0165, -0.0165, -0.030, -0.026, -0.006, 0.03])
    area = smoothstep(edge - y + 0.0015 * field(points, 0.004, identity.seed + 6), -0.001, 0.007)
    area = area * smoothstep(y, -0.100, -0.082) * smoothstep(points[:, 2], -0.02, 0.004)
    area = area * (1 - smoothstep(lip, 0.05, 0.4)) * (1 - 0.65 * _bell(points, (0.010, -0.054, 0.08), 0.005))
    grain = smoothstep(field(points * [1, 0.4, 1], 0.0009, identity.seed + 7), 1.0 - 2.0 * identity.beard, 1.2)
    share = area * (0.22 + 0.68 * identity.beard * grain) * min(1.0, 0.45 + identity.beard)
    return mix(albedo, identity.brow * 1.1, np.clip(share, 0, 0.93))


def _lids(albedo: Doubles, points: Doubles, lid: Doubles, identity: Identity) -> Doubles:
    """Darker rims, a lash line that make-up strengthens, and eye shadow."""
    x, y = np.abs(points[:, 0]) - 0.0308, points[:, 1] - 0.030
    rim = smoothstep(lid, 0.35, 0.85)
    albedo = mix(albedo, identity.skin * np.array([0.62, 0.42, 0.40]), 0.55 * rim)
    upper = smoothstep(y, 0.0, 0.003)
    albedo = mix(albedo, np.array([0.012, 0.008, 0.007]), rim * upper * (0.45 + 0.5 * identity.makeup))
    albedo = mix(albedo, np.array([0.02, 0.013, 0.012]), rim * (1 - upper) * 0.45 * identity.makeup)
    shadow = np.exp(-((x / 0.016) ** 2) - ((y - 0.009) / 0.005) ** 2) * (points[:, 2] > 0.02)
    tint = np.array([[0.20, 0.10, 0.09], [0.16, 0.11, 0.17], [0.10, 0.12, 0.15]])[identity.seed % 3]
    return mix(albedo, identity.skin**0.5 * tint, 0.75 * identity.makeup * shadow)


def _lips(points: Doubles, identity: Identity) -> Doubles:
    inner = smoothstep(np.abs(points[:, 1] + 0.0385), 0.0045, 0.0005)
    furrow = 0.05 * field(points * [1, 0.15, 0.15], 0.0008, identity.seed + 8)
    albedo = mix(np.broadcast_to(identity.lips, points.shape), identity.lips * np.array([0.72, 0.5, 0.5]), 0.8 * inner)
    return np.asarray(albedo * np.exp(furrow + 0.04 * field(points, 0.006, identity.seed + 9))[:, None])


def _brows(albedo: Doubles, points: Doubles, identity: Identity) -> Doubles:
    """Hairs along an arch; they start upright at the nose and lie down towards the temple."""
    x, y = np.abs(points[:, 0]), points[:, 1] - identity.brow_lift
    along = np.clip((x - 0.0095) / 0.0395, -0.2, 1.2)
    centre = np.interp(along, [-0.2, 0, 0.35, 0.65, 1, 1.2], [0.0435, 0.0440, 0.0478, 0.0495, 0.0450, 0.0415])
    half = identity.brow_width * np.interp(along, [-0.2, 0.0, 0.12, 0.6, 1, 1.2], [0.0, 0.75, 1, 0.85, 0.25, 0.0])
    across = (y - centre) / np.maximum(half, 1e-5)
    lean = np.interp(along, [0, 0.25, 1], [0.25, 1.4, 3.0])
    strand = np.stack([points[:, 0] - np.sign(points[:, 0]) * lean * y, 0.25 * y + 0.05 * points[:, 0]], axis=1)
    grain = field(strand, 0.0009, identity.seed + 10)
    body = smoothstep(np.abs(across) + 0.28 * grain, 1.25, 0.55) * smoothstep(along, -0.10, 0.08)
    body = body * smoothstep(along, 1.15, 0.92) * (points[:, 2] > 0.01)
    return mix(albedo, identity.brow, np.clip(body * identity.brow_density * (0.86 + 0.14 * grain), 0, 0.96))


def _scalp(albedo: Doubles, points: Doubles, ear: Doubles, identity: Identity) -> Doubles:
    """Roots of the hair, so that gaps between strands are not skin."""
    if identity.hair_style == "bald":
        share = 0.16 * smoothstep(hair_height(points, identity) + 0.001 * field(points, 0.003, 11), -0.001, 0.006)
    else:
        ragged = 0.0016 * field(points * [1, 0.5, 1], 0.0022, identity.seed + 12)
        share = 0.93 * smoothstep(hair_height(points, identity) + ragged, -0.001, 0.007)
    return mix(albedo, identity.hair * 0.75, share * (1 - ear))
