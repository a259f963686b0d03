"""Who is seen: the numbers that make one synthetic person, drawn from a seed. Colours are linear reflectances."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["HAIR_STYLES", "FEATURE_SIZE", "Identity", "draw_identity", "identity_feature"]

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

FEATURE_SIZE = 512

SHAPES = ("gender", "age", "weight", "muscle", "height", "proportions", "african", "asian", "caucasian")
"""Anny's identity controls, as `shape_names` of the head; a coefficient is the distance from the template's value."""

HAIR_STYLES = ("bald", "buzz", "short", "quiff", "curly", "afro", "bob", "long", "bun")

_SKIN_DARK = np.array([0.062, 0.030, 0.018])
_SKIN_OLIVE = np.array([0.36, 0.195, 0.110])
_SKIN_LIGHT = np.array([0.66, 0.435, 0.335])
_HAIR = {
    "black": (0.010, 0.008, 0.007),
    "brown": (0.045, 0.024, 0.013),
    "chestnut": (0.085, 0.036, 0.016),
    "blond": (0.36, 0.235, 0.105),
    "red": (0.20, 0.058, 0.018),
    "grey": (0.30, 0.29, 0.28),
    "white": (0.62, 0.60, 0.57),
}
_IRIS = {
    "brown": ((0.060, 0.026, 0.010), (0.020, 0.009, 0.004)),
    "hazel": ((0.15, 0.085, 0.026), (0.045, 0.050, 0.024)),
    "green": ((0.13, 0.12, 0.045), (0.050, 0.095, 0.060)),
    "blue": ((0.17, 0.24, 0.31), (0.055, 0.115, 0.22)),
    "grey": ((0.21, 0.23, 0.24), (0.085, 0.105, 0.125)),
}


@dataclass(frozen=True, eq=False)
class Identity:
    """One person. Deterministic for a seed; lengths are metres, colours linear RGB."""

    seed: int
    shape: Floats
    """(9,) coefficients of the head's shape basis"""
    skin: Doubles
    """(3,)"""
    lips: Doubles
    """(3,)"""
    iris: Doubles
    """(2,3) at the pupil and at the rim"""
    hair: Doubles
    """(3,) of the scalp"""
    brow: Doubles
    """(3,)"""
    hair_style: str
    hair_volume: float
    """thickness of the hair"""
    hairline: float
    """height added to the hairline"""
    wave: float
    """0 straight … 1 curled strands"""
    brow_width: float
    """half the brow's height at its thickest"""
    brow_lift: float
    brow_density: float
    beard: float
    """0 none, 0.5 stubble, 1 full"""
    freckles: float
    blush: float
    lines: float
    """0 smooth … 1 deep lines of age"""
    makeup: float
    """0 none … 1 shaded lids and red lips"""
    pupil: float
    """radius"""

    @property
    def male(self) -> bool:
        """Whether a beard may grow: Anny's control of gender is on that side."""
        return float(self.shape[0]) > -0.5


def draw_identity(seed: int, index: int) -> Identity:
    """Person `index` of the corpus `seed`; every pair of numbers is another person, the same one every time."""
    rng = np.random.default_rng([0x1DE7, seed, index])
    male = bool(rng.random() < 0.5)
    age = float(rng.beta(1.6, 2.2))
    heritage = rng.dirichlet([0.55, 0.55, 0.55])
    melanin = float(np.clip(heritage @ [0.88, 0.38, 0.20] + rng.normal(0, 0.09), 0.03, 0.97))
    skin = _skin(melanin, rng)
    hair = _hair_colour(age, melanin, rng)
    makeup = 0.0 if male else float(rng.uniform(0.15, 1.0) * (rng.random() < 0.75))
    beard = float(rng.choice([0.0, 0.35, 0.6, 1.0], p=[0.4, 0.25, 0.15, 0.2])) if male else 0.0
    style = _style(male, age, melanin, rng)
    tint = np.array([0.66, 0.20, 0.22]) if makeup > 0.6 else np.array([0.78, 0.46, 0.48])
    lips = skin**0.85 * tint + np.array([0.012, 0.0, 0.003])
    return Identity(
        seed=int(rng.integers(2**31)),
        shape=_shape(male, age, heritage, rng),
        skin=skin,
        lips=np.clip(lips * np.exp(rng.normal(0, 0.06, 3)), 0.008, 0.8),
        iris=_iris(melanin, rng),
        hair=hair,
        # Brows are darker than blond hair, and than the skin below them.
        brow=np.clip(np.minimum(hair * 0.6, skin * [0.34, 0.30, 0.28]), 0.005, 0.16),
        hair_style=style,
        hair_volume=_volume(style, rng),
        hairline=float(rng.normal(0, 0.003) + (0.012 * age if male else 0.0)),
        wave=float(np.clip(rng.beta(1.2, 2.0) + (0.5 if style in ("curly", "afro") else 0.0), 0, 1)),
        brow_width=float(rng.uniform(0.0026, 0.0038) if male else rng.uniform(0.0017, 0.0028)),
        brow_lift=float(rng.normal(0.0, 0.0010) + (0.0 if male else 0.0012)),
        brow_density=float(rng.uniform(0.65, 1.0)),
        beard=beard,
        freckles=float(rng.beta(0.7, 2.2) * max(0.0, 1 - 1.3 * melanin)),
        blush=float(rng.uniform(0.5, 1.25)),
        lines=float(np.clip(age + rng.normal(0, 0.1), 0, 1)),
        makeup=makeup,
        pupil=float(rng.uniform(0.0017, 0.0025)),
    )


def _shape(male: bool, age: float, heritage: Doubles, rng: np.random.Generator) -> Floats:
    """Coefficients within what the linear basis stays a plausible head for (looked at, not derived)."""
    gender = rng.uniform(-0.12, 0.0) if male else rng.uniform(-1.35, -0.9)
    values = {
        "gender": gender,
        "age": -0.10 + 0.38 * age,
        "weight": rng.uniform(-0.40, 0.50),
        "muscle": rng.uniform(-0.40, 0.40),
        "height": rng.uniform(-0.25, 0.25),
        "proportions": rng.uniform(-0.7, 0.1),
    }
    values |= dict(zip(("african", "asian", "caucasian"), heritage - 1 / 3, strict=True))
    return np.array([values[name] for name in SHAPES], np.float32)


def _skin(melanin: float, rng: np.random.Generator) -> Doubles:
    light, olive, dark = np.log(_SKIN_LIGHT), np.log(_SKIN_OLIVE), np.log(_SKIN_DARK)
    if melanin < 0.5:
        tone = light + (olive - light) * (melanin / 0.5)
    else:
        tone = olive + (dark - olive) * ((melanin - 0.5) / 0.5)
    return np.asarray(np.exp(tone + rng.normal(0, 0.03, 3) * [0.6, 1.0, 1.4]))


def _hair_colour(age: float, melanin: float, rng: np.random.Generator) -> Doubles:
    dark = float(np.clip(melanin * 2.8 - 0.35, 0, 1))
    share = np.array([0.15 + 0.75 * dark, 0.30, 0.22 * (1 - dark), 0.26 * (1 - dark) ** 2, 0.12 * (1 - dark) ** 2])
    name = str(rng.choice(["black", "brown", "chestnut", "blond", "red"], p=share / share.sum()))
    if age > 0.6 and rng.random() < (age - 0.45) * 1.6:
        name = str(rng.choice(["grey", "white"]))
    return np.asarray(np.array(_HAIR[name]) * np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.04, 3)))


def _iris(melanin: float, rng: np.random.Generator) -> Doubles:
    brown = float(np.clip(0.25 + 1.8 * melanin, 0, 0.97))
    share = np.array([brown, *(np.array([0.25, 0.2, 0.4, 0.15]) * (1 - brown))])
    colour = np.array(_IRIS[str(rng.choice(list(_IRIS), p=share / share.sum()))])
    return np.asarray(colour * np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.06, (2, 3))))


def _style(male: bool, age: float, melanin: float, rng: np.random.Generator) -> str:
    curl = 0.25 if melanin < 0.55 else 1.5
    if male:
        weights = {
            "bald": 0.25 + 1.1 * age,
            "buzz": 1.0,
            "short": 1.6,
            "quiff": 1.0,
            "curly": curl,
            "afro": curl - 0.25,
        }
        weights["long"] = 0.2
    else:
        weights = {"short": 0.4, "bob": 1.5, "long": 2.2, "bun": 1.2, "curly": 0.6 * curl, "afro": curl - 0.2}
        weights["buzz"] = 0.1
    names, share = list(weights), np.array(list(weights.values()))
    return str(rng.choice(names, p=share / share.sum()))


def _volume(style: str, rng: np.random.Generator) -> float:
    low, high = {
        "bald": (0.0, 0.0),
        "buzz": (0.002, 0.004),
        "short": (0.007, 0.014),
        "quiff": (0.010, 0.017),
        "curly": (0.016, 0.026),
        "afro": (0.030, 0.050),
        "bob": (0.011, 0.017),
        "long": (0.009, 0.015),
        "bun": (0.006, 0.009),
    }[style]
    return float(rng.uniform(low, high))


def identity_feature(identity: Identity) -> Floats:
    """(512,) unit vector that stands in for an AdaFace embedding.

    A fixed random projection of the standardised shape and appearance, squashed by tanh: people who look alike have
    a high cosine, the same person has exactly one vector. It is not what AdaFace would say of the pictures.
    """
    parts = [identity.shape / 0.35, np.log(identity.skin) / 0.8, np.log(identity.lips) / 0.8]
    parts += [np.log(identity.iris).reshape(-1) / 0.9, np.log(identity.hair) / 1.2, np.log(identity.brow) / 1.2]
    parts.append(np.array([style == identity.hair_style for style in HAIR_STYLES], np.float64) * 1.5)
    scales = {"hair_volume": 0.02, "hairline": 0.01, "brow_width": 0.001, "brow_lift": 0.0015, "pupil": 0.0004}
    numbers = [field.name for field in fields(identity) if field.type == "float"]
    parts.append(np.array([getattr(identity, name) / scales.get(name, 0.5) for name in numbers]))
    values = np.concatenate([np.asarray(part, np.float64) for part in parts])
    projection = np.random.default_rng(0xFACE).normal(0, 1 / np.sqrt(len(values)), (FEATURE_SIZE, len(values)))
    feature = np.tanh(projection @ values)
    return np.asarray(feature / np.linalg.norm(feature), np.float32)
