"""Emotions: what each does to the voice, to the action units and to the mouth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...runtime.manifest import EMOTIONS as CLASSES
from .speech import Prosody


@dataclass(frozen=True)
class Emotion:
    """An emotion at full intensity.

    prosody: multipliers of the voice. aus: added action units, 0…5. mouth: added expression weights.
    opening: factor on the gap between the lips. probabilities: the class an observer would name.
    """

    prosody: Prosody
    aus: dict[str, float]
    mouth: dict[str, float]
    opening: float
    probabilities: dict[str, float] = field(default_factory=dict)


def _both(name: str, weight: float) -> dict[str, float]:
    return {f"{name}Left": weight, f"{name}Right": weight}


LOOKS = {
    "neutral": Emotion(Prosody(), {}, {}, 1.0, {"neutral": 1.0}),
    "angry": Emotion(
        Prosody(rate=1.10, pitch=1.08, pitch_range=1.5, volume=1.4),
        {"AU04": 5.0, "AU07": 5.0},  # EMFACS: 4, 7 and 22; with 5, or with the corners drawn down, it looks sad
        {
            **_both("noseSneer", 0.50),
            **_both("mouthUpperUp", 0.08),
            **_both("mouthLowerDown", 0.10),
            "mouthFunnel": 0.46,
            "mouthPucker": 0.27,
            "jawForward": 0.50,
        },
        1.45,
        {"angry": 1.0},
    ),
    "disgust": Emotion(
        Prosody(rate=0.90, pitch=0.94, pitch_range=0.8, volume=0.95),
        {"AU04": 4.4, "AU06": 3.4, "AU07": 2.8},  # EMFACS: 9, 10, 15 and 16; 9 lowers the brow and lifts the cheek
        {
            **_both("noseSneer", 1.0),
            **_both("mouthUpperUp", 0.55),
            **_both("mouthLowerDown", 0.24),
            **_both("mouthFrown", 0.46),
            "mouthShrugUpper": 0.24,
        },
        1.15,
        {"disgust": 1.0},
    ),
    "fear": Emotion(
        Prosody(rate=1.14, pitch=1.18, pitch_range=0.8, volume=0.85),
        {"AU01": 4.4, "AU04": 2.0, "AU05": 4.4},
        {**_both("mouthStretch", 0.62), **_both("mouthFrown", 0.15)},
        0.95,
        {"fear": 1.0},
    ),
    "happy": Emotion(
        Prosody(rate=1.05, pitch=1.14, pitch_range=1.5, volume=1.15),
        {"AU06": 4.4},  # EMFACS: 6 and 12, and 25, which shows the teeth
        {
            **_both("mouthSmile", 1.0),
            **_both("mouthDimple", 0.5),
            **_both("mouthUpperUp", 0.75),
            **_both("mouthLowerDown", 0.15),
        },
        1.20,
        {"happy": 1.0},
    ),
    "sad": Emotion(
        Prosody(rate=0.82, pitch=0.90, pitch_range=0.5, volume=0.7),
        {"AU01": 4.5, "AU04": 2.5},
        {**_both("mouthFrown", 0.85), "mouthShrugLower": 0.42},
        0.85,
        {"sad": 1.0},
    ),
    "surprise": Emotion(
        Prosody(rate=1.04, pitch=1.26, pitch_range=1.9, volume=1.15),
        {"AU01": 5.0, "AU05": 5.0},
        {"mouthFunnel": 0.20},
        1.35,
        {"surprise": 1.0},
    ),
    # Not one of the seven classes: an observer who knows only those hesitates between disgust and nothing.
    "contempt": Emotion(
        Prosody(rate=0.92, pitch=0.96, pitch_range=0.7, volume=0.95),
        {"AU04": 0.8, "AU07": 2.2},
        {"mouthSmileRight": 0.55, "mouthDimpleRight": 0.50, "mouthUpperUpRight": 0.16, "mouthLeft": 0.12},
        0.92,
        {"disgust": 0.5, "neutral": 0.5},
    ),
}


def prosody_of(emotion: str, intensity: float, base: Prosody) -> Prosody:
    """`base` with the emotion's multipliers at `intensity` 0…1."""
    full = LOOKS[emotion].prosody
    return Prosody(
        base.rate * full.rate**intensity,
        base.pitch * full.pitch**intensity,
        base.pitch_range * full.pitch_range**intensity,
        base.volume * full.volume**intensity,
    )


def probabilities(emotion: str, intensity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Class probabilities `[T,7]` of an emotion at `intensity` `[T]`: the rest is neutral."""
    out = np.zeros((len(intensity), len(CLASSES)), np.float32)
    for name, share in LOOKS[emotion].probabilities.items():
        out[:, CLASSES.index(name)] += share * intensity
    out[:, CLASSES.index("neutral")] += 1 - intensity
    return out
