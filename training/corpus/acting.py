"""A calm face with an emotion: its look is added, and the lips part in proportion to those of the calm face.

A look that lifts the lips would shift the moment of a closure that comes out of a half-open vowel, and part lips that
P, B and M shut. So the jaw makes up for what a look does to the gap between the lips, and where the jaw is shut
already, the look parts them less. With g the gap of the calm face beyond that of shut lips, s the strength of the
emotion and o the look's opening, the gap is

    g_acted = o^s · g.

Upper face, a = AU / 5 clipped to 0…1, both sides alike:

    browInnerUp = 0.9·a01     browOuterUp = 0.35·a01     browDown = 0.9·a04      eyeWide = 0.8·a05
    cheekSquint = 0.9·a06     eyeSquint = 0.8·a07        eyeBlink = a45
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.errors import CheckpointError, ControlError
from ...runtime.manifest import ACTION_UNITS
from .emotions import LOOKS

Track = npt.NDArray[np.float32]

UPPER_FACE = {
    "browInnerUp": ("AU01", 0.9),
    **{f"browOuterUp{side}": ("AU01", 0.35) for side in ("Left", "Right")},
    **{f"browDown{side}": ("AU04", 0.9) for side in ("Left", "Right")},
    **{f"eyeWide{side}": ("AU05", 0.8) for side in ("Left", "Right")},
    **{f"cheekSquint{side}": ("AU06", 0.9) for side in ("Left", "Right")},
    **{f"eyeSquint{side}": ("AU07", 0.8) for side in ("Left", "Right")},
    **{f"eyeBlink{side}": ("AU45", 1.0) for side in ("Left", "Right")},
}
"""Expression name to (action unit, weight at AU 5)."""

_JAW = 77.0  # mm by which the lips part per rad
_PARTED = {
    "mouthFunnel": 5.7,
    "mouthPucker": -1.4,
    "mouthLeft": -1.2,
    "mouthRight": -1.2,
    "mouthRollLower": -1.9,
    "mouthRollUpper": -1.3,
    "mouthShrugLower": -3.6,
    "mouthShrugUpper": 3.0,
    "jawForward": 1.2,
    **{f"mouthSmile{side}": -0.97 for side in ("Left", "Right")},
    **{f"mouthPress{side}": -0.57 for side in ("Left", "Right")},
    **{f"mouthLowerDown{side}": 2.13 for side in ("Left", "Right")},
    **{f"mouthUpperUp{side}": 2.5 for side in ("Left", "Right")},
}
"""mm by which the lips part per weight: the mean of three pairs of the inner lips of Anny's head."""


@dataclass(frozen=True)
class Face:
    """jaw: `[T,3]` axis-angle, rad. expression: `[T,E]`. aus: `[T,6]`, 0…5."""

    jaw: Track
    expression: Track
    aus: Track


def upper_face(aus: Track) -> dict[str, Track]:
    """Expression weights `[T]` by name from action units `[T,6]` (0…5), by the formula above."""
    share = np.clip(aus / np.float32(5), 0, 1).astype(np.float32)
    return {
        name: (share[:, ACTION_UNITS.index(unit)] * weight).astype(np.float32)
        for name, (unit, weight) in UPPER_FACE.items()
    }


def act(calm: Face, names: Sequence[str], emotion: str, strength: Track) -> Face:
    """`calm` with an emotion of `strength` `[T]`, 0…1; `names` are the head's expressions.

    Raises:
        CheckpointError: the head lacks an expression that the emotion needs.
        ControlError: the emotion has no look.
    """
    look = LOOKS.get(emotion)
    if look is None:
        raise ControlError(f"emotion {emotion!r} has no look: choose from {', '.join(LOOKS)}")
    units = np.zeros(len(ACTION_UNITS), np.float32)
    for unit, height in look.aus.items():
        units[ACTION_UNITS.index(unit)] = height
    aus = np.clip(calm.aus + strength[:, None] * units, 0, 5).astype(np.float32)
    mouth, opening = _mouth(calm, names, look.mouth, look.opening, strength)
    before, after = upper_face(calm.aus), upper_face(aus)
    expression = calm.expression + mouth
    for name in UPPER_FACE:
        expression[:, column(names, name)] += after[name] - before[name]
    jaw = calm.jaw.copy()
    jaw[:, 0] = opening
    return Face(jaw, np.clip(expression, 0, 1).astype(np.float32), aus)


def column(names: Sequence[str], name: str) -> int:
    """Where an expression is among `names`. Raises CheckpointError if it is not there."""
    if name not in names:
        raise CheckpointError(
            f"the head has no expression {name!r}, which the corpus needs: use a head with ARKit's names"
        )
    return names.index(name)


def _mouth(
    calm: Face, names: Sequence[str], mouth: Mapping[str, float], opening: float, strength: Track
) -> tuple[Track, Track]:
    """What is added to the expression `[T,E]`, and the jaw's opening `[T]` that keeps the gap in proportion."""
    parted = np.array([_PARTED.get(name, 0.0) for name in names], np.float32)
    lifts, rest = np.zeros((2, len(names)), np.float32)
    for name, weight in mouth.items():
        (lifts if _PARTED.get(name, 0.0) > 0 else rest)[column(names, name)] = weight
    jaw = calm.jaw[:, 0]
    gap = np.maximum(calm.expression @ parted + _JAW * jaw, 0)
    wider = (opening**strength - 1) * gap - strength * float(rest @ parted)
    lifted = strength * float(lifts @ parted)
    room = wider + _JAW * np.maximum(jaw, 0)  # a lift that a rising jaw can take back
    held = np.clip(np.divide(room, lifted, out=np.ones_like(room), where=lifted > 0), 0, 1)
    added = strength[:, None] * (rest + held[:, None] * lifts)
    return added.astype(np.float32), np.maximum(jaw + (wider - held * lifted) / _JAW, 0).astype(np.float32)
