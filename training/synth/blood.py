"""Blood under the skin: where a feeling makes a face flush or go pale, how much, and how slowly.

More haemoglobin absorbs green and blue and hardly any red. Directions are those of Darwin (1872: red in rage, pale in
fear) and of Drummond (1999: flushed when provoked); that skin is a matter of two chromophores, one of which follows
emotions, is from Jimenez et al. (2010), whose measured maps this has not. Amounts are of the size by which the painted
cheeks of two people differ, so that it stays skin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from ..corpus import FRAME_RATE
from .identity import Identity
from .noise import Doubles, smoothstep

__all__ = ["AREAS", "SECONDS", "blood_of", "blood_weights", "felt", "tint"]

Floats = NDArray[np.float32]

AREAS = ("face", "cheeks", "forehead", "nose", "eyes", "lips", "ears", "neck")
SECONDS = 2.5
"""Time constant with which blood follows a feeling."""
MOST = 0.5
"""Bound of the change of absorbance."""
_ABSORBS = np.array([0.10, 1.0, 0.78])
"""Of linear red, green and blue, in shares of green's."""

_FEELINGS: dict[str, dict[str, float]] = {
    "neutral": {},
    "angry": {"face": 0.08, "cheeks": 0.15, "forehead": 0.14, "nose": 0.08, "ears": 0.18, "neck": 0.12},
    "disgust": {"face": -0.10, "cheeks": -0.04, "lips": -0.07},
    "fear": {"face": -0.14, "cheeks": -0.06, "lips": -0.13, "ears": -0.06},
    "happy": {"face": 0.03, "cheeks": 0.20, "nose": 0.06, "lips": 0.05, "ears": 0.05},
    "sad": {"face": -0.03, "eyes": 0.15, "nose": 0.16},
    "surprise": {"face": 0.02, "cheeks": 0.04},
    "contempt": {},
}
"""Change of absorbance at full intensity, natural logarithm, in the middle of an area of light skin."""

_BELLS = {  # centre (x mirrored), radius, height
    "cheeks": (((0.042, -0.008, 0.056), 0.017, 0.8), ((0.055, 0.002, 0.042), 0.017, 0.5)),
    "forehead": (((0.0, 0.075, 0.075), 0.024, 0.8), ((0.032, 0.070, 0.062), 0.020, 0.6)),
    "nose": (((0.0, -0.002, 0.092), 0.012, 1.0), ((0.012, -0.010, 0.076), 0.008, 0.4)),
    "eyes": (((0.031, 0.020, 0.058), 0.008, 0.7), ((0.031, 0.034, 0.058), 0.007, 0.6)),
    "ears": (((0.085, 0.005, -0.020), 0.026, 1.0),),
}


def felt(probabilities: Floats, at_full: float) -> Floats:
    """(T,) how much of a feeling the blood follows, from (T,) 1 - p(neutral), which is `at_full` at full intensity.

    Whoever is seen has felt so before the clip begins: it starts from the clip's mean.
    """
    strength = np.clip(np.asarray(probabilities, np.float64) / max(at_full, 1e-6), 0, 1)
    keep = float(np.exp(-1 / (SECONDS * FRAME_RATE)))
    slow, _ = lfilter([1 - keep], [1, -keep], strength, zi=[keep * strength.mean()])
    return np.asarray(slow, np.float32)


def blood_of(emotion: str, intensity: float, identity: Identity) -> Floats:
    """(A,) change of absorbance by area, of `AREAS`. People differ in how much they show, the same one never."""
    own = np.random.default_rng([0xB100D, identity.seed])
    shows = own.uniform(0.75, 1.25) * np.exp(own.normal(0, 0.12, len(AREAS)))
    # Melanin lies above the blood and hides it.
    seen = float(np.clip(0.35 + 0.65 * np.sqrt(identity.skin[1] / 0.40), 0.35, 1.0))
    full = np.array([_FEELINGS[emotion].get(area, 0.0) for area in AREAS])
    return np.asarray(intensity * seen * shows * full, np.float32)


def blood_weights(points: Doubles, lip: Doubles, skin: NDArray[np.bool_]) -> Floats:
    """(V,A) how much of each area template points (V,3) are. lip: (V,) 0…1; skin: (V,) what has blood that is seen."""
    mirrored = np.concatenate([np.abs(points[:, :1]), points[:, 1:]], axis=1)
    weights = np.zeros((len(points), len(AREAS)))
    for area, bells in _BELLS.items():
        for centre, radius, height in bells:
            near = ((mirrored - centre) ** 2).sum(axis=1) / (2 * radius**2)
            weights[:, AREAS.index(area)] += height * np.exp(-near)
    front = smoothstep(points[:, 2], -0.01, 0.03)
    weights[:, AREAS.index("face")] = front * smoothstep(points[:, 1], -0.095, -0.075)
    weights[:, AREAS.index("neck")] = smoothstep(points[:, 1], -0.075, -0.10) * smoothstep(points[:, 2], -0.05, 0.0)
    weights[:, AREAS.index("lips")] = lip
    return (weights * skin[:, None]).astype(np.float32)


def tint(weights: Floats, blood: Floats) -> Floats:
    """(V,3) factor on the reflectance of vertices; 1 where no area of blood (A,) is."""
    change = np.clip(weights @ blood, -MOST, MOST)
    return np.asarray(np.exp(-change[:, None] * _ABSORBS), np.float32)
