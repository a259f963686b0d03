"""Skin, lips, mouth and teeth of the demo avatar, as surfels on Anny's triangles. Albedos are linear."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .appearance_surface import Array, Points, Splats, Surface, noise, smoothstep, splats, unit

__all__ = ["mouth", "relit_below_eyes", "skin"]

Mask = NDArray[np.bool_]

_BASE = np.array([0.615, 0.352, 0.232])
_BLUSH = np.array([0.62, 0.255, 0.19])
_PALE = np.array([0.63, 0.395, 0.26])
_SHADOWED = np.array([0.42, 0.225, 0.175])
_LIP = np.array([0.445, 0.160, 0.140])
_LIP_INNER = np.array([0.34, 0.085, 0.082])
_FLESH = np.array([0.20, 0.042, 0.038])
_TONGUE = np.array([0.40, 0.135, 0.125])
_GUM = np.array([0.42, 0.14, 0.13])
_ENAMEL = np.array([0.66, 0.60, 0.50])

_TOOTH_EDGES = {
    "upper_teeth": np.array([0.0, 8.6, 15.2, 22.8, 29.8, 36.6, 46.5, 60.0]) * 1e-3,
    "lower_teeth": np.array([0.0, 5.4, 11.4, 18.2, 25.2, 32.2, 42.5, 60.0]) * 1e-3,
}
"""Arc length from the middle line to each tooth's far edge, metres."""
_TEETH_SHIFT = {"upper_teeth": np.array([0.0, -0.0020, 0.0035]), "lower_teeth": np.array([0.0, -0.0012, 0.0005])}
"""MakeHuman's upper teeth sit too deep and high to be seen when this head talks; metres."""
_FOLD_REACH, _FOLD_DEPTH = 0.026, 0.007
"""How far the fold of the lower lid lies from the middle of the eye at most, and how far below it at least; metres."""
_LID_SPACING = 0.00078  # metres
_UNFOLDED = 1.1
"""How much larger shutting the eyes makes faces of the lids' folds, at least."""
_LONGEST = 2.5  # lengths to widths of a lid's surfels at most
_GUM_LINE = {"upper_teeth": -0.0272, "lower_teeth": -0.0448}


def _blob(points: Array, centre: tuple[float, float, float], radius: float) -> Array:
    """(N,1) bell about a centre; both sides of the face at once."""
    mirrored = np.abs(points[:, :1])
    offset = np.concatenate([mirrored, points[:, 1:]], axis=1) - centre
    return np.asarray(np.exp(-(offset**2).sum(axis=1, keepdims=True) / (2 * radius**2)))


def _mix(albedo: Array, colour: Array, share: Array) -> Array:
    return np.asarray(albedo + (colour - albedo) * share)


def skin_albedo(points: Array, seed: int) -> Array:
    """(N,3) skin with warm cheeks, nose, chin and ears, pale forehead, dark eye sockets, pores and freckles."""
    albedo = np.broadcast_to(_BASE, points.shape)
    albedo = _mix(albedo, _PALE, 0.6 * _blob(points, (0.0, 0.085, 0.07), 0.035))
    albedo = _mix(albedo, _BLUSH, 0.42 * _blob(points, (0.040, -0.006, 0.056), 0.017))
    albedo = _mix(albedo, _BLUSH, 0.50 * _blob(points, (0.0, 0.0, 0.090), 0.010))
    albedo = _mix(albedo, _BLUSH, 0.30 * _blob(points, (0.012, -0.008, 0.075), 0.007))
    albedo = _mix(albedo, _BLUSH, 0.22 * _blob(points, (0.0, -0.066, 0.07), 0.014))
    albedo = _mix(albedo, _BLUSH, 0.45 * _blob(points, (0.085, 0.005, -0.02), 0.022))
    albedo = _mix(albedo, _SHADOWED, 0.20 * _blob(points, (0.024, 0.018, 0.06), 0.008))
    albedo = _mix(albedo, _SHADOWED, 0.22 * _blob(points, (0.034, 0.036, 0.06), 0.009))
    tone = 0.030 * noise(points, 0.0025, seed) + 0.022 * noise(points, 0.007, seed + 1)
    tone += 0.025 * noise(points, 0.025, seed + 2)
    ruddy = 0.03 * noise(points, 0.011, seed + 3)
    albedo = albedo * (1 + tone[:, None] + ruddy[:, None] * np.array([0.3, -0.6, -0.6]))
    return np.asarray(albedo * (1 - _freckles(points, seed))[:, None])


def _freckles(points: Array, seed: int) -> Array:
    """(N,) darkening by a few small spots on nose and cheeks."""
    rng = np.random.default_rng(seed + 5)
    spots = np.stack([rng.normal(0, 0.026, 90), rng.normal(0.0, 0.010, 90)], axis=1)
    size, depth = rng.uniform(0.0005, 0.0010, 90), rng.uniform(0.04, 0.15, 90)
    near = points[:, None, :2] - spots
    bell = depth * np.exp(-(near**2).sum(axis=2) / (2 * size**2))
    return np.asarray(np.where(points[:, 2] > 0.03, bell.max(axis=1), 0.0))


def _lip_share(surface: Surface, points: Points) -> Array:
    """(N,1) how much lip a point is: the region, softened over one edge of the mesh."""
    share, count = np.zeros(len(surface.vertices)), np.zeros(len(surface.vertices))
    inner = surface.region("lips", "mouth").astype(float)
    for corner in range(3):
        np.add.at(share, surface.faces[:, corner], inner)
        np.add.at(count, surface.faces[:, corner], 1.0)
    share /= np.maximum(count, 1)
    at = (share[surface.faces[points.face_index]] * points.bary).sum(axis=1)
    return smoothstep(at, 0.12, 0.88)[:, None]


def _zones(surface: Surface) -> list[tuple[Mask, float]]:
    """Faces and spacing (metres): what is looked at most is finest."""
    centre = surface.centroids
    outer = surface.region("skin", "ears")
    front = outer & (centre[:, 2] > 0.012) & (centre[:, 1] > -0.085) & (centre[:, 1] < 0.108)
    features = front & (np.abs(centre[:, 0]) < 0.052) & (centre[:, 2] > 0.035) & (centre[:, 1] < 0.06)
    features &= centre[:, 1] > -0.060
    ears = surface.region("ears")
    return [
        (surface.region("lips"), 0.00082),
        (surface.region("eyelids"), _LID_SPACING),
        (features, 0.00112),
        (front & ~features, 0.00150),
        (ears, 0.0018),
        (outer & ~front & ~ears & (centre[:, 1] < 0.0), 0.0026),
        (outer & ~front & ~ears & (centre[:, 1] >= 0.0), 0.0038),
    ]


def skin(surface: Surface, rng: np.random.Generator, seed: int) -> list[Splats]:
    """All outer skin with lips and lids."""
    parts = []
    closed = surface.posed("eyeBlinkLeft", "eyeBlinkRight")
    every = np.arange(len(surface.faces))
    folds = surface.region("skin") & (surface.stretch(every, closed) > _UNFOLDED)
    for mask, spacing in _zones(surface):
        lids = bool((mask & surface.region("eyelids")).any())
        points = surface.sample(mask, spacing, rng, closed if lids else None)
        points = points.take(~folds[points.face_index])
        width = np.full(len(points), 0.90 * spacing)
        if lids:
            width = np.clip(width / surface.stretch(points.face_index, closed), 0.5 * spacing, None)
        parts.append(_surfels(surface, points, width, width, None, seed))
    if folds.any():  # a head that cannot shut its eyes has none
        parts.append(_lid_folds(surface, folds, closed, seed))
    return [*parts, _under_skin(surface, rng, seed)]


def _lid_folds(surface: Surface, folds: Mask, closed: Array, seed: int) -> Splats:
    """What shut eyes unfold above the lids, which open eyes hide; closed: (V,3) with shut eyes.

    Lids that close grow in one direction, their surfels alike in all: long ones keep the eye from showing between.
    """
    points = surface.sample(folds, _LID_SPACING, np.random.default_rng([seed, 1]), closed)
    width = 0.90 * _LID_SPACING / surface.stretch(points.face_index, closed)
    along, longer = surface.longer(points.face_index, closed)
    return _surfels(surface, points, width * np.clip(longer, 1.0, _LONGEST), width, along, seed)


def _surfels(surface: Surface, points: Points, length: Array, width: Array, along: Array | None, seed: int) -> Splats:
    """Skin at points, of lengths (metres) along unit directions (N,3)."""
    lip = _lip_share(surface, points)
    albedo = _mix(skin_albedo(points.position, seed), _lips(points.position, seed), lip) * _nostrils(points)
    return splats(
        points.face_index,
        _flatten_ears(surface, points) - points.normal * 0.00025,
        points.normal,
        np.stack([length, width, 0.12 * width], axis=1),
        albedo,
        along,
        gloss=0.045 + 0.10 * lip[:, 0] + 0.10 * _oily(points.position),
        opacity=0.97,
    )


def relit_below_eyes(surface: Surface, made: Splats, colour: Array) -> Array:
    """(N,3) `colour`, where skin below the eyes that no light reaches has the colour of the lit skin nearest to it.

    It lies in the fold behind the lower lid, which bulges before it. A squint stretches the bulge, and between its
    surfels the dark of the fold would show as specks.
    """
    eyes = (surface.head.joint_regressor.astype(np.float64) @ surface.vertices)[3:5]
    offset = made.position[:, None] - eyes
    below = (np.linalg.norm(offset, axis=2) < _FOLD_REACH) & (offset[..., 1] < -_FOLD_DEPTH)
    chosen = np.flatnonzero(below.any(axis=1) & surface.region("skin", "eyelids")[made.face_index])
    light = colour[chosen].mean(axis=1)
    hidden = light < 0.5 * np.quantile(light, 0.75)  # about half of this skin is the fold
    lit = chosen[~hidden]
    out = colour.copy()
    out[chosen[hidden]] = colour[lit[cKDTree(made.position[lit]).query(made.position[chosen[hidden]])[1]]]
    return out


def _flatten_ears(surface: Surface, points: Points) -> Array:
    """Positions with the ears laid against the head: hair covers them."""
    across = points.position[:, 0]
    flat = np.sign(across) * np.minimum(np.abs(across), 0.068 + 0.25 * np.abs(np.abs(across) - 0.068))
    ear = surface.region("ears")[points.face_index]
    return np.stack([np.where(ear, flat, across), points.position[:, 1], points.position[:, 2]], axis=1)


def _under_skin(surface: Surface, rng: np.random.Generator, seed: int) -> Splats:
    """A coarse layer below the face, so that nothing dark shows between surfels where an expression stretches it."""
    centre, normal = surface.centroids, surface.face_normals
    openings = cKDTree(centre[surface.region("lips", "mouth", "eyelids")])
    face = (
        surface.region("skin")
        & (openings.query(centre)[0] > 0.007)
        & (centre[:, 2] > 0.012)
        & (centre[:, 1] > -0.085)
        & (centre[:, 1] < 0.105)
    )
    nostril = (np.abs(centre[:, 0]) < 0.018) & (centre[:, 2] > 0.062) & (normal[:, 1] < -0.2) & (centre[:, 1] < 0.0)
    spacing = 0.0027
    points = surface.sample(face & ~nostril, spacing, rng)
    width = 0.9 * spacing
    below = points.position - points.normal * 0.0014
    albedo = skin_albedo(points.position, seed)
    return splats(points.face_index, below, points.normal, (width, width, 0.1 * width), albedo, opacity=0.98)


def _nostrils(points: Points) -> Array:
    """(N,1) 1 on the outside, dark within the nostrils, which open downwards."""
    x, y, z = points.position.T
    oval = ((np.abs(x) - 0.0098) / 0.0036) ** 2 + ((z - 0.0795) / 0.0042) ** 2
    down = smoothstep(-points.normal[:, 1], 0.15, 0.55) * (y < 0.0) * (y > -0.0150)
    return np.asarray(1 - 0.88 * down * np.exp(-0.5 * oval**2))[:, None]


def _oily(points: Array) -> Array:
    shine = _blob(points, (0.0, 0.01, 0.088), 0.014) + _blob(points, (0.0, 0.075, 0.08), 0.022)
    return np.asarray((shine + 0.7 * _blob(points, (0.040, 0.004, 0.055), 0.012))[:, 0])


def _lips(points: Array, seed: int) -> Array:
    """(N,3) lips: darker where they meet, with fine furrows across."""
    middle = np.abs(points[:, 1] + 0.0385)
    inner = smoothstep(middle, 0.0045, 0.0005)[:, None] * 0.7
    furrow = np.sin(points[:, 0] / 0.00035 + 1.5 * noise(points, 0.004, seed + 7))
    albedo = _mix(np.broadcast_to(_LIP, points.shape), _LIP_INNER, inner)
    return np.asarray(albedo * (1 + 0.035 * furrow + 0.05 * noise(points, 0.006, seed + 8))[:, None])


def _depth_light(points: Array, dark: float) -> Array:
    """(N,1) how much light reaches a point inside the mouth; none behind z = `dark` metres."""
    return (0.04 + 0.80 * smoothstep(points[:, 2], dark, 0.072) ** 2)[:, None]


def mouth(surface: Surface, rng: np.random.Generator, seed: int) -> list[Splats]:
    """Inside of the mouth, tongue, teeth and gums; lit by depth, as the mouth is closed in the neutral head."""
    parts = []
    for region, spacing, colour in (("mouth", 0.0031, _FLESH), ("tongue", 0.0021, _TONGUE)):
        points = surface.sample(surface.region(region), spacing, rng)
        rough = (1 + 0.10 * noise(points.position, 0.004, seed + 11))[:, None]
        albedo = colour * rough * _depth_light(points.position, 0.016 if region == "mouth" else 0.030)
        width = 0.75 * spacing
        parts.append(
            splats(points.face_index, points.position, points.normal, (width, width, 0.12 * width), albedo, glow=1.0)
        )
    for region in _TOOTH_EDGES:
        outward = unit(surface.centroids * [1.0, 0.0, 1.0] - [0.0, 0.0, 0.030])
        front = surface.region(region) & (surface.centroids[:, 2] > 0.034)
        front &= (surface.face_normals * outward).sum(axis=1) > -0.2
        points = surface.sample(front, 0.00072, rng)
        width = 0.00066
        albedo = _teeth(surface, points, region)
        middle = smoothstep(np.abs(points.position[:, 0]), 0.021, 0.008)[:, None]
        position = points.position + _TEETH_SHIFT[region] * middle
        facing = unit(points.position * [1.0, 0.0, 1.0] - [0.0, 0.0, 0.020])
        parts.append(splats(points.face_index, position, facing, (width, width, 0.0001), albedo, glow=1.0))
    return parts


def _arc_length(surface: Surface, points: Points, region: str) -> Array:
    """(N,) metres from the middle line along the dental arch, without sign."""
    vertices = surface.vertices[np.unique(surface.faces[surface.region(region)])]
    centre = 0.030
    angle = np.arctan2(np.abs(vertices[:, 0]), vertices[:, 2] - centre)
    radius = np.hypot(vertices[:, 0], vertices[:, 2] - centre)
    bins = np.linspace(0, np.pi / 2, 12)
    outer = np.array([radius[np.abs(angle - one) < 0.16].max(initial=0.03) for one in bins])
    line = np.stack([outer * np.sin(bins), outer * np.cos(bins)], axis=1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    mine = np.arctan2(np.abs(points.position[:, 0]), points.position[:, 2] - centre)
    return np.asarray(np.interp(mine, bins, length))


def _teeth(surface: Surface, points: Points, region: str) -> Array:
    """(N,3) teeth with gaps and a scalloped gum line, darker towards the back."""
    edges = _TOOTH_EDGES[region]
    arc = _arc_length(surface, points, region)
    tooth = np.clip(np.searchsorted(edges, arc, side="right") - 1, 0, len(edges) - 2)
    within = (arc - edges[tooth]) / (edges[tooth + 1] - edges[tooth])
    from_middle = np.abs(2 * within - 1)
    upward = 1.0 if region == "upper_teeth" else -1.0
    scallop = 0.0016 * (1 - from_middle**2)
    gum = smoothstep(upward * (points.position[:, 1] - _GUM_LINE[region]) - scallop, -0.0003, 0.0003)[:, None]
    tints = np.array([1.0, 0.97, 0.90, 0.95, 0.93, 0.9, 0.88])[tooth]
    gap = smoothstep(from_middle, 0.86, 1.0) * 0.55
    enamel = _ENAMEL * (tints * (1 - gap) * (1 - 0.12 * from_middle))[:, None]
    enamel = (
        enamel * (1 - 0.25 * smoothstep(upward * (points.position[:, 1] - _GUM_LINE[region]), -0.004, 0.0))[:, None]
    )
    front = (0.10 + 0.90 * smoothstep(points.position[:, 2], 0.030, 0.064))[:, None]
    front = front * (1 - 0.78 * smoothstep(np.abs(points.position[:, 0]), 0.012, 0.022))[:, None]
    return np.asarray(_mix(enamel, _GUM, gum) * front)
