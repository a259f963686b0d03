"""Creases of skin that an expression folds: where they run, how deep a person's are, and which expressions fold them.

A crease is a groove with a rim in the height of the skin: it tilts the normal and hides itself from part of the light.
The mesh stays as it is. Curves are drawn on the template's coordinates (metres; x > 0 is the person's left), so every
person has them in the same places, with own numbers, wobble and depths. Which unit folds what follows the
appearance changes that FACS lists (Ekman, Friesen and Hager 2002); depths and widths were looked at, not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .atlas import Atlas
from .identity import Identity
from .noise import Doubles, field, smoothstep

__all__ = ["CREASES", "Creases", "folded", "paint_creases"]

Floats = NDArray[np.float32]

MOST_TILT, MOST_DARK = 0.9, 0.55
"""Bounds of what all creases together make of a place: slope of the skin, share of the light that is hidden."""
_STEP = 0.0003  # metres between samples of a curve
_RIM, _RIM_WIDTH = 0.45, 2.2  # skin that a groove displaces stands beside it
_REACH, _RIM_REACH = 3.4, 1.65  # widths from a curve at which it ends
_LOW, _HIGH = np.array([-0.075, -0.080, 0.015]), np.array([0.075, 0.105, 0.2])  # where creases can be, metres
_CHIN, _CHIN_RADIUS, _PEBBLE = np.array([0.0, -0.068, 0.070]), 0.0105, 0.00022
_FROM = 0.10  # of its expressions, before a crease shows


@dataclass(frozen=True)
class _Curve:
    """A groove along points (x,y), or a smooth ridge if `depth` is negative. Metres."""

    points: Sequence[tuple[float, float]]
    depth: float
    width: float
    dark: float = 0.0
    """share of the light that its ground does not see"""


@dataclass(frozen=True)
class _Crease:
    """What folds together. `drivers`: expressions, of both sides on average if they have sides and `side` is 0."""

    drivers: dict[str, float]
    side: int = 0
    """1 the person's left, -1 right, 0 the middle"""


def _sides(name: str, **drivers: float) -> dict[str, _Crease]:
    return {f"{name}{suffix}": _Crease(drivers, side) for suffix, side in (("Left", 1), ("Right", -1))}


CREASES: dict[str, _Crease] = {
    "forehead": _Crease({"browInnerUp": 1.0}),  # AU 1
    **_sides("overBrow", browOuterUp=1.0),  # AU 2
    "frown": _Crease({"browDown": 1.0}),  # AU 4
    "noseRoot": _Crease({"browDown": 0.45, "noseSneer": 0.75}),  # AU 4, 9
    **_sides("nose", noseSneer=1.0),  # AU 9
    **_sides("crowsFeet", cheekSquint=0.9, eyeSquint=0.25),  # AU 6, 7
    **_sides("underEye", cheekSquint=0.6, eyeSquint=0.6),  # AU 6, 7
    **_sides("nasolabial", mouthSmile=0.55, mouthUpperUp=0.45, noseSneer=0.55),  # AU 12, 10, 9
    **_sides("cheek", mouthSmile=0.55, mouthDimple=0.55, mouthStretch=0.55),  # AU 12, 14, 20
    **_sides("mouthCorner", mouthFrown=1.0),  # AU 15
    "chin": _Crease({"mouthShrugLower": 1.2, "mouthFrown": 0.3}),  # AU 17
}
_SIDED = ("browOuterUp", "browDown", "noseSneer", "cheekSquint", "eyeSquint", "mouthSmile", "mouthUpperUp",
          "mouthDimple", "mouthStretch", "mouthFrown")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Creases:
    """One person's, K of them in the order of `CREASES`, fully folded."""

    index: NDArray[np.int32]
    """(SIZE²,) row of a texel in what `at` gives; 0 where no crease is"""
    rows: int
    maps: tuple[tuple[NDArray[np.intp], Floats], ...]
    """K times rows (n,) and what is there (n,3): slope along x, slope along y, share of the light that is hidden"""

    def at(self, amounts: Floats) -> Floats:
        """(rows,3) of amounts (K,) in 0…1, bounded."""
        total = np.zeros((self.rows, 3), np.float32)
        for amount, (rows, values) in zip(amounts, self.maps, strict=True):
            if amount > 0:
                total[rows] += amount * values
        total[:, :2] = np.clip(total[:, :2], -MOST_TILT, MOST_TILT)
        total[:, 2] = np.clip(total[:, 2], 0, MOST_DARK)
        return total


def folded(expression: Floats, names: Sequence[str]) -> Floats:
    """(K,) how far expressions (E,) fold each crease, 0…1. Small movements, such as speech makes, fold none."""
    amounts = np.zeros(len(CREASES), np.float32)
    for number, crease in enumerate(CREASES.values()):
        total = 0.0
        for name, weight in crease.drivers.items():
            sides = {1: ("Left",), -1: ("Right",), 0: ("Left", "Right")}[crease.side] if name in _SIDED else ("",)
            total += weight * float(np.mean([expression[names.index(name + side)] for side in sides]))
        amounts[number] = np.clip((total - _FROM) / (1 - _FROM), 0, 1)
    return amounts


def paint_creases(atlas: Atlas, texels: NDArray[np.intp], free: Doubles, identity: Identity) -> Creases:
    """A person's creases.

    Args:
        atlas: of the head.
        texels: (N,) numbers of the atlas' texels that are skin.
        free: (N,) 0…1, how much of each may fold: lips and lids do not.
        identity: whose; `lines` makes them deeper, the seed shapes them.
    """
    inside = np.flatnonzero((atlas.position[texels] > _LOW).all(axis=1) & (atlas.position[texels] < _HIGH).all(axis=1))
    texels, free = texels[inside], free[inside]
    points = atlas.position[texels]
    rng = np.random.default_rng([0xC2EA5E, identity.seed])
    bend = 0.0007 * np.stack([field(points[:, :2], 0.018, int(rng.integers(2**31))) for _ in range(2)], axis=1)
    skin = _Skin(points, points[:, :2] + bend, free * smoothstep(points[:, 2], _LOW[2], 0.03))
    found = []
    for name, crease in CREASES.items():
        kind = name.removesuffix("Left").removesuffix("Right")
        own = np.random.default_rng([0xC2EA5E, identity.seed, list(_PAINTERS).index(kind)])  # the same on both sides
        deep = float(np.clip((0.62 + 0.40 * identity.lines) * np.exp(own.normal(0, 0.15)), 0.4, 1.2))
        deep *= float(np.exp(rng.normal(0, 0.06)))  # but no face is quite alike on both
        for curve in _PAINTERS[kind](own):
            skin.carve(curve, crease.side or 1)
        if kind == "chin":
            skin.pebble(int(own.integers(2**31)))
        found.append(skin.done(deep))
    return _packed(atlas, texels, found)


class _Skin:
    """Skin in whose height creases are carved: points (N,3) and flat (N,2) in metres, free (N,)."""

    def __init__(self, points: Doubles, flat: Doubles, free: Doubles) -> None:
        self.points, self._flat, self._free = points, flat, free
        self._values = np.zeros((len(points), 3))
        self._touched = np.zeros(len(points), bool)

    def carve(self, curve: _Curve, side: int) -> None:
        """Add a curve's slopes and shade, mirrored if `side` is -1."""
        line, taper = _sampled(np.array(curve.points, np.float64) * [side, 1])
        reach = _REACH * curve.width * (_RIM_REACH if curve.depth > 0 else 1)
        low, high, (x, y) = line.min(axis=0) - reach, line.max(axis=0) + reach, self._flat.T
        index = np.flatnonzero((y > low[1]) & (y < high[1]) & (x > low[0]) & (x < high[0]))
        distance, sample = cKDTree(line).query(self._flat[index], distance_upper_bound=reach)
        inside = np.isfinite(distance)
        index, distance, sample = index[inside], distance[inside], sample[inside]
        away = (self._flat[index] - line[sample]) / np.maximum(distance, 1e-9)[:, None]
        r, share = distance / curve.width, taper[sample]
        rise = (1 + _RIM) * r * np.exp(-(r**2) / 2)
        if curve.depth > 0:
            rise -= _RIM * r / _RIM_WIDTH**2 * np.exp(-((r / _RIM_WIDTH) ** 2) / 2)
        self._values[index, :2] += away * (curve.depth / curve.width * rise * share)[:, None]
        self._values[index, 2] += curve.dark * share * np.exp(-(r**2) / (2 * 1.25**2))
        self._touched[index] = True

    def pebble(self, seed: int) -> None:
        """Add the pebbles of a chin whose muscle is tense."""
        away = ((self.points - _CHIN) ** 2).sum(axis=1)
        index = np.flatnonzero(away < (3 * _CHIN_RADIUS) ** 2)
        points, step = self.points[index], 0.0004
        middle = _PEBBLE * field(points, 0.0042, seed)
        where = np.exp(-away[index] / (2 * _CHIN_RADIUS**2))
        for axis in range(2):
            beside = _PEBBLE * field(points + step * np.eye(3)[axis], 0.0042, seed)
            self._values[index, axis] += where * (beside - middle) / step
        self._values[index, 2] += 0.08 * where * np.clip(-middle / _PEBBLE, 0, 2)
        self._touched[index] = True

    def done(self, deep: float) -> tuple[NDArray[np.intp], Floats]:
        """Numbers (n,) of the points that were carved and what is there (n,3), times `deep`; all is smooth again."""
        there = np.flatnonzero(self._touched)
        values = deep * self._free[there, None] * self._values[there]
        self._values[there], self._touched[there] = 0, False
        kept = np.abs(values).max(axis=1) > 1e-3
        return there[kept], values[kept].astype(np.float32)


def _packed(atlas: Atlas, texels: NDArray[np.intp], found: list[tuple[NDArray[np.intp], Floats]]) -> Creases:
    used = np.unique(np.concatenate([there for there, _ in found]))
    row = np.zeros(len(texels), np.int32)
    row[used] = np.arange(1, len(used) + 1)
    everywhere = np.zeros(len(atlas.texels), np.int32)
    everywhere[texels] = row
    maps = tuple((row[there].astype(np.intp), values) for there, values in found)
    return Creases(atlas.spread_numbers(everywhere), len(used) + 1, maps)


def _sampled(points: Doubles) -> tuple[Doubles, Doubles]:
    """A curve (P,2) as close samples (S,2), rounded at its corners, and its depth there: it fades towards both ends."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    count = max(int(length[-1] / _STEP), 2)
    at = np.linspace(0, length[-1], count)
    kernel = np.hanning(2 * (count // 10) + 3)[1:-1]
    kernel /= kernel.sum()
    half = len(kernel) // 2
    line = np.stack([np.interp(at, length, points[:, axis]) for axis in range(2)], axis=1)
    padded = np.pad(line, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    smooth = np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(2)], axis=1)
    share = np.minimum(at, length[-1] - at) / length[-1]
    return smooth, smoothstep(share, -0.02, 0.30)


def _arch(height: float, half: float, dip: float) -> list[tuple[float, float]]:
    """A line across the forehead."""
    x = np.linspace(-half, half, 15)
    return [(float(a), float(height - 6 * a * a - dip * np.exp(-((a / 0.009) ** 2)))) for a in x]


def _forehead(rng: np.random.Generator) -> list[_Curve]:
    dip, first, gap = rng.uniform(0, 0.002), rng.uniform(0.060, 0.063), rng.uniform(0.0075, 0.0095)
    return [
        _Curve(_arch(first + gap * row, float(rng.uniform(0.024, 0.033)), dip), 0.00090, 0.00130, 0.25)
        for row in range(int(rng.integers(3, 5)))
    ]


def _over_brow(rng: np.random.Generator) -> list[_Curve]:
    first, gap = rng.uniform(0.066, 0.068), rng.uniform(0.007, 0.009)
    curves = []
    for row in range(int(rng.integers(2, 4))):
        x = np.linspace(rng.uniform(0.015, 0.020), rng.uniform(0.046, 0.052), 8)
        points = [(float(a), float(first + gap * row - 5.5 * a * a)) for a in x]
        curves.append(_Curve(points, 0.0008, 0.00130, 0.22))
    return curves


def _frown(rng: np.random.Generator) -> list[_Curve]:
    """Upright furrows between the brows, one, two or three; the brows' heads bulge beside them."""
    at = {1: (0.0015,), 2: (-0.0068, 0.0068), 3: (-0.0085, 0.0, 0.0085)}[int(rng.choice([1, 2, 2, 2, 3]))]
    curves = []
    for x in at:
        top, foot = rng.uniform(0.056, 0.063), rng.uniform(0.037, 0.040)
        out = x + float(np.sign(x)) * rng.uniform(0.0008, 0.0028)
        curves.append(_Curve([(x, foot), (x * 0.95, 0.5 * (foot + top)), (out, top)], 0.00125, 0.00145, 0.32))
    curves += [_Curve([(s * 0.0125, 0.043), (s * 0.0145, 0.050)], -0.0014, 0.0042) for s in (-1, 1)]
    return curves


def _nose_root(rng: np.random.Generator) -> list[_Curve]:
    high = rng.uniform(0.0325, 0.0345)
    return [
        _Curve([(-w, y - 0.001), (0, y), (w, y - 0.001)], 0.0007, 0.0010, 0.25)
        for y, w in ((high, 0.0085), (high - 0.0048, 0.0070))
    ]


def _nose(rng: np.random.Generator) -> list[_Curve]:
    down = rng.uniform(-0.001, 0.001)
    return [
        _Curve([(0.0045, y + down), (0.0090, y + down - 0.0030), (0.0125, y + down - 0.0080)], 0.0006, 0.00095, 0.22)
        for y in (0.0260, 0.0205, 0.0150)
    ]


def _crows_feet(rng: np.random.Generator) -> list[_Curve]:
    curves = []
    for slope in np.linspace(0.55, -0.75, int(rng.integers(3, 6))):
        slope += rng.normal(0, 0.05)
        length, start = rng.uniform(0.010, 0.016), rng.uniform(0.0490, 0.0505)
        y = 0.029 + slope * (start - 0.0465)
        curves.append(_Curve([(start, y), (start + length, y + slope * length)], 0.00065, 0.00105, 0.22))
    return curves


def _under_eye(rng: np.random.Generator) -> list[_Curve]:
    low = rng.uniform(-0.0008, 0.0008)
    groove = [(0.0195, 0.0185 + low), (0.0300, 0.0138 + low), (0.0425, 0.0165 + low)]
    ridge = [(0.0215, 0.0218), (0.0310, 0.0192), (0.0410, 0.0215)]
    return [_Curve(groove, 0.0009, 0.0015, 0.22), _Curve(ridge, -0.0009, 0.0025)]


def _nasolabial(rng: np.random.Generator) -> list[_Curve]:
    out = rng.uniform(-0.0008, 0.0012)
    groove = [(0.0178, 0.001), (0.0225 + out, -0.012), (0.0285 + out, -0.028), (0.0325 + out, -0.042)]
    ridge = [(x + 0.0065, y) for x, y in groove[1:]]
    return [_Curve(groove, 0.0021, 0.0025, 0.32), _Curve(ridge, -0.0022, 0.0050)]


def _cheek(rng: np.random.Generator) -> list[_Curve]:
    out = rng.uniform(-0.001, 0.002)
    line = [(0.0365 + out, -0.0270), (0.0405 + out, -0.0370), (0.0400 + out, -0.0460), (0.0370 + out, -0.0530)]
    return [_Curve(line, 0.0012, 0.0020, 0.20)]


def _mouth_corner(rng: np.random.Generator) -> list[_Curve]:
    out = rng.uniform(-0.001, 0.001)
    return [_Curve([(0.0262, -0.0410), (0.0295 + out, -0.0510), (0.0305 + out, -0.0630)], 0.0011, 0.0015, 0.25)]


def _chin(rng: np.random.Generator) -> list[_Curve]:
    high = rng.uniform(-0.0585, -0.0565)
    return [_Curve([(-0.0145, high - 0.0025), (0.0, high), (0.0145, high - 0.0025)], 0.0009, 0.0017, 0.22)]


_PAINTERS: dict[str, Callable[[np.random.Generator], list[_Curve]]] = {
    "forehead": _forehead,
    "overBrow": _over_brow,
    "frown": _frown,
    "noseRoot": _nose_root,
    "nose": _nose,
    "crowsFeet": _crows_feet,
    "underEye": _under_eye,
    "nasolabial": _nasolabial,
    "cheek": _cheek,
    "mouthCorner": _mouth_corner,
    "chin": _chin,
}
