"""Hair as shells over the scalp and curtains that hang from it, cut into strands by a texture.

A fragment of hair is there where the strand texture is below the hair's cover at that place, so tips and hairline
fray. Every vertex follows one vertex of the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..head import HeadModel
from .identity import Identity
from .noise import Doubles, field, smoothstep, tile
from .skin import hair_height

__all__ = ["CROWN", "STRANDS", "Hair", "make_hair", "paint_strands"]

STRANDS = (512, 512)
"""Rows (along a strand) and columns (across) of the strand texture; it tiles."""

_LAYERS = {"buzz": 2, "short": 3, "quiff": 3, "curly": 3, "afro": 3, "bob": 3, "long": 3, "bun": 3}
_CURTAIN = {"bob": -0.066, "long": -0.128}
_CENTRE = np.array([0.0, 0.055, -0.025])
CROWN = np.array([0.0, 0.90, -0.44])
"""Where strands come from, seen from the middle of the skull."""
_AROUND, _DOWN = 56, 14


@dataclass(frozen=True, eq=False)
class Hair:
    """H vertices and K triangles."""

    root: NDArray[np.intp]
    """(H,) the head's vertex that each follows"""
    offset: Doubles
    """(H,3) metres from it, at rest"""
    loose: NDArray[np.bool_]
    """(H,) hangs: turns with neck and head alone"""
    faces: NDArray[np.int32]
    """(K,3)"""
    uv: Doubles
    """(K,3,2) columns and rows of the strand texture"""
    cover: Doubles
    """(H,) share of strands that are there; above 1: all"""
    two_sided: NDArray[np.bool_]
    """(K,) seen from inside too"""
    shade: Doubles
    """(H,) light that the hair around leaves"""


def paint_strands(identity: Identity) -> tuple[Doubles, Doubles]:
    """Reflectance (STRANDS,3), and the cover (STRANDS) from which on a strand is there, evenly spread over 0…1."""
    rng = np.random.default_rng(identity.seed + 30)
    length = 170 * (1 - 0.75 * identity.wave) + 10
    fine, broad = tile(STRANDS, (length, 1.3), rng), tile(STRANDS, (length * 0.8, 7.0), rng)
    cut = 0.5 * tile(STRANDS, (length * 0.9, 1.6), rng) + 0.5 * broad + 0.5 * tile(STRANDS, (length, 18.0), rng)
    if identity.wave > 0.15:
        # Curls of some millimetres, waves of some centimetres.
        size = 44 - 34 * identity.wave
        bend = (4 + 0.22 * size) * identity.wave * tile(STRANDS, (size, 1.6 * size), rng)
        columns = (np.arange(STRANDS[1]) + np.rint(bend)).astype(int) % STRANDS[1]
        fine, broad, cut = (np.take_along_axis(image, columns, axis=1) for image in (fine, broad, cut))
    rank = np.empty(cut.size)
    rank[np.argsort(cut, axis=None, kind="stable")] = (np.arange(cut.size) + 0.5) / cut.size
    tone = np.exp(0.26 * fine + 0.20 * broad)[..., None] * np.exp(0.06 * broad[..., None] * np.array([1, 0, -1]))
    # What lies deeper among the strands is darker.
    return identity.hair * tone * (0.55 + 0.65 * (1 - rank.reshape(STRANDS)))[..., None], rank.reshape(STRANDS)


def make_hair(head: HeadModel, identity: Identity) -> Hair | None:
    """The hair of a person on the template, or None if there is none."""
    style = identity.hair_style
    if style == "bald":
        return None
    parts = [_shells(head, identity, _LAYERS[style])]
    if style in _CURTAIN:
        parts += [_curtain(head, identity, _CURTAIN[style], layer) for layer in (0, 1)]
    if style == "bun":
        parts.append(_bun(head, identity))
    return _join(parts)


def _join(parts: list[Hair]) -> Hair:
    starts = np.cumsum([0, *(len(part.root) for part in parts)])
    faces = [part.faces + np.int32(start) for part, start in zip(parts, starts[:-1], strict=True)]
    names = ("root", "offset", "loose", "uv", "cover", "two_sided", "shade")
    return Hair(faces=np.concatenate(faces), **{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def _shells(head: HeadModel, identity: Identity, layers: int) -> Hair:
    points = head.v_template.astype(np.float64)
    height = hair_height(points, identity)
    outer = ~head.region("ears", "mouth", "tongue", "left_eye", "right_eye", "eyelids")
    above = (height[head.faces] > -0.006).all(axis=1) & (points[head.faces, 1] > -0.08).all(axis=1) & outer
    # The skin's inner folds (sockets) lie below the surface, in front of the skull's middle.
    above &= np.linalg.norm(points[head.faces] - _CENTRE, axis=2).min(axis=1) > 0.06
    roots, inverse = np.unique(head.faces[above], return_inverse=True)
    corners: NDArray[np.int32] = inverse.reshape(-1, 3).astype(np.int32)
    base, rise = points[roots], height[roots]
    outward = _unit(0.5 * _unit(base - _CENTRE) + 0.5 * _normals(points, head.faces)[roots])
    thickness = _thickness(base, rise, identity)
    uv = _polar(base, corners)
    made = []
    for layer in range(1, layers + 1):
        share = layer / layers
        cover = 1.35 - 0.62 * share**2 * (1.0 if identity.hair_style != "buzz" else 1.3)
        made.append(
            Hair(
                root=roots,
                offset=outward * (thickness * (0.55 + 0.45 * share) + 0.0004)[:, None],
                loose=np.zeros(len(roots), bool),
                faces=corners,
                uv=uv + layer * np.array([137.0, 71.0]),
                cover=cover * smoothstep(rise, -0.004 + 0.002 * share, 0.006 + 0.006 * share),
                # Through gaps at the temples one sees the far side from inside; one layer is enough for that.
                two_sided=np.full(len(corners), layer == 1),
                shade=np.full(len(roots), 0.62 + 0.38 * share),
            )
        )
    return _join(made)


def _thickness(base: Doubles, rise: Doubles, identity: Identity) -> Doubles:
    volume = identity.hair_volume
    ramp = smoothstep(rise, -0.004, 0.014 + 1.1 * volume)
    lumps = field(base, 0.030, identity.seed + 31)
    front = smoothstep(base[:, 2], -0.01, 0.06) * smoothstep(np.abs(base[:, 0]), 0.075, 0.03)
    extra = {"quiff": 1.1 * front, "afro": 0.0 * front}.get(identity.hair_style, 0.15 * front)
    curl = 0.22 * identity.wave * field(base, 0.011, identity.seed + 33) if identity.wave > 0.5 else 0.0
    sides = 1 - (0.55 if identity.hair_style in ("short", "quiff") else 0.1) * smoothstep(base[:, 1], 0.09, 0.03)
    return np.asarray(volume * ramp * sides * (1 + extra) * np.exp(0.10 * (1 + identity.wave) * lumps + curl))


def _polar(base: Doubles, corners: NDArray[np.int32]) -> Doubles:
    """(K,3,2) texture coordinates: strands run from the crown down; a triangle never spans the seam."""
    axis = _unit(CROWN)
    side = np.array([1.0, 0, 0])
    front = np.cross(side, axis)
    away = _unit(base - _CENTRE)
    polar = np.arccos(np.clip(away @ axis, -1, 1))
    turn = np.arctan2(away @ side, away @ front)[corners]
    turn = np.where(turn - turn[:, :1] > np.pi, turn - 2 * np.pi, turn)
    turn = np.where(turn - turn[:, :1] < -np.pi, turn + 2 * np.pi, turn)
    return np.stack([turn * (3 * STRANDS[1] / (2 * np.pi)), polar[corners] * 240], axis=-1)


def _curtain(head: HeadModel, identity: Identity, end: float, layer: int) -> Hair:
    """Hair hanging round the back from temple to temple, down to height `end`."""
    around = np.linspace(-1, 1, _AROUND)
    down = np.linspace(0, 1, _DOWN)
    azimuth, fall = np.meshgrid(np.radians(180 - 113 * around), down, indexing="ij")
    wobble = field(np.stack([azimuth, 0.4 * fall], -1).reshape(-1, 2), 0.25, identity.seed + 32 + layer).reshape(
        fall.shape
    )
    swing = identity.wave * np.sin(fall * 14 + 1.5 * wobble) * 0.0025 * smoothstep(fall, 0.2, 0.6)
    out = identity.hair_volume * (0.95 - 0.5 * layer) + 0.0016 * wobble + swing
    top, bottom = 0.088, end + 0.004 * wobble
    height = top + (bottom - top) * fall
    # Half axes of the head at that height: skull above, a looser fall below.
    wide = np.interp(height, [-0.13, -0.06, 0.0, 0.05, 0.09], [0.088, 0.084, 0.084, 0.079, 0.068]) + out
    deep = np.interp(height, [-0.13, -0.06, 0.0, 0.05, 0.09], [0.074, 0.072, 0.088, 0.099, 0.094]) + out
    points = np.stack([wide * np.sin(azimuth), height, deep * np.cos(azimuth) - 0.026], axis=-1).reshape(-1, 3)
    index = np.arange(_AROUND * _DOWN).reshape(_AROUND, _DOWN)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.stack([a, d, b, b, d, c], axis=-1).reshape(-1, 3).astype(np.int32)
    uv = np.stack([np.broadcast_to(around[:, None] * 700, fall.shape), (height - top) * -1500], axis=-1).reshape(-1, 2)
    edge = smoothstep(np.abs(around), 1.0, 0.90)[:, None] * smoothstep(fall, 0.0, 0.08)
    cover = (1.15 - 0.12 * layer) * edge * (1 - 0.75 * smoothstep(fall, 0.72, 1.0))
    scalp = np.flatnonzero(hair_height(head.v_template, identity) > 0)
    root = scalp[cKDTree(head.v_template[scalp]).query(points)[1]]
    shade = 1 - 0.35 * smoothstep(fall, 0.1, 0.6) * (0.4 + 0.6 * smoothstep(np.abs(np.degrees(azimuth) - 180), 50, 100))
    return Hair(
        root=root,
        offset=points - head.v_template[root],
        loose=np.ones(len(points), bool),
        faces=faces,
        uv=uv[faces],
        cover=cover.reshape(-1),
        two_sided=np.ones(len(faces), bool),
        shade=shade.reshape(-1) * (1 - 0.25 * layer),
    )


def _bun(head: HeadModel, identity: Identity) -> Hair:
    """A knot at the back of the crown."""
    centre = np.array([0.0, 0.138, -0.085])
    across, down = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0.05, np.pi - 0.4, 11), indexing="ij")
    radius = 0.032 * np.exp(0.06 * field(np.stack([np.sin(across), np.cos(across), down], -1).reshape(-1, 3), 0.5, 3))
    axis = _unit(np.array([0.0, 0.75, -0.65]))
    side, front = np.array([1.0, 0, 0]), np.cross([1.0, 0, 0], axis)
    a, d = across.reshape(-1, 1), down.reshape(-1, 1)
    points = centre + radius[:, None] * (
        np.sin(d) * np.cos(a) * side + np.sin(d) * np.sin(a) * front + 0.85 * np.cos(d) * axis
    )
    index = np.arange(across.size).reshape(across.shape)
    p, q, r, s = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.stack([p, s, q, q, s, r], axis=-1).reshape(-1, 3).astype(np.int32)
    uv = np.concatenate([a * 90 + d * 60, d * 60 - a * 30], axis=1)
    scalp = np.flatnonzero(hair_height(head.v_template, identity) > 0)
    root = np.full(len(points), scalp[cKDTree(head.v_template[scalp]).query(centre)[1]])
    count = len(points)
    shade = 0.7 + 0.3 * smoothstep(d[:, 0], 2.2, 1.0)
    return Hair(
        root=root,
        offset=points - head.v_template[root],
        loose=np.ones(count, bool),
        faces=faces,
        uv=uv[faces],
        cover=np.full(count, 1.2),
        two_sided=np.zeros(len(faces), bool),
        shade=shade,
    )


def _unit(vectors: Doubles) -> Doubles:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def _normals(points: Doubles, faces: NDArray[np.int32]) -> Doubles:
    cross = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    total = np.zeros_like(points)
    for corner in range(3):
        np.add.at(total, faces[:, corner], cross)
    return _unit(total)
