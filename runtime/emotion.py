"""Emotions as a caller asks for them, and the two-dimensional map of valence and arousal.

The map, over the whole plane: every class has a direction on the circle of valence (to the right) and arousal (up).
A point is written as a sum of its two neighbouring directions, which gives the shares of the two classes; its distance
from the centre, at most 1, is the intensity. The inverse is the same sum read backwards, so `Emotion.at(v, a)` has
valence v and arousal a again, and any other mixture has a place on the plane too. Directions: Russell's circumplex
(1980), with calm, which is no class of the networks, where arousal is low and nothing is wrong.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .errors import ControlError
from .manifest import ACTION_UNITS, EMOTIONS
from .numbers import as_number

NEUTRAL = "neutral"
CALM = "calm"
NAMES = (*EMOTIONS, "contempt", CALM)
LEVELS = 3

_ALIASES = {
    "anger": "angry", "disgusted": "disgust", "fearful": "fear", "afraid": "fear", "scared": "fear",
    "happiness": "happy", "joy": "happy", "sadness": "sad", "surprised": "surprise", "contemptuous": "contempt",
    "relaxed": CALM,
}  # fmt: skip

_DEGREES = {
    "happy": 20.0, "surprise": 75.0, "fear": 110.0, "angry": 140.0, "disgust": 165.0, "contempt": 188.0, "sad": 220.0,
    CALM: 300.0,
}  # fmt: skip
"""Direction of each class on the plane, counted from positive valence towards positive arousal."""
_DIRECTIONS = {
    name: (math.cos(math.radians(degrees)), math.sin(math.radians(degrees))) for name, degrees in _DEGREES.items()
}
_CIRCLE = frozenset(_DEGREES)
_AROUND, _ANGLES = tuple(_DEGREES), tuple(_DEGREES.values())

_UNITS = {
    "angry": {"AU04": 4.4, "AU07": 4.3},
    "disgust": {"AU04": 3.8, "AU06": 2.8, "AU07": 2.4},
    "fear": {"AU01": 3.6, "AU04": 1.6, "AU05": 3.4},
    "happy": {"AU06": 3.6},
    "sad": {"AU01": 3.4, "AU04": 1.8},
    "surprise": {"AU01": 4.2, "AU05": 3.8},
    "contempt": {"AU07": 1.6},
    CALM: {"AU45": 1.1},
}
"""Action units, 0…5, of an emotion at full intensity: EMFACS's combinations, as far as GRMN hears of them."""
_UNIT_ROWS = {name: [(ACTION_UNITS.index(u), v) for u, v in units.items()] for name, units in _UNITS.items()}
_UNFELT = (NEUTRAL, CALM)  # to a network, both are neutral


def emotion_name(text: Any) -> str:
    """The canonical name of an emotion. Raises ControlError for one that is not known."""
    name = text.strip().lower() if isinstance(text, str) else text
    name = _ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or name not in NAMES:
        raise ControlError(f"emotion {text!r} is not known: choose from {', '.join(NAMES)}")
    return name


@dataclass(frozen=True, init=False)
class Emotion:
    """What a face shall show: shares of emotions that add up to 1, and how strongly.

    `intensity` 0…1 is how much there is of it beside neutral; `level` 1, 2 or 3 is a third of that each.

        Emotion("sad", intensity=0.6)     Emotion("happy", level=2)
        Emotion({"happy": 2, "surprise": 1})     Emotion.at(valence=0.7, arousal=0.2)
    """

    shares: Mapping[str, float]
    intensity: float
    placed: bool = False
    """Whether it is a place of the plane: then any classes around it will do."""

    def __init__(
        self, what: str | Mapping[str, float], intensity: float | None = None, *, level: int | None = None
    ) -> None:
        """what: a name, or a mixture of names with weights of any sum. Raises ControlError."""
        if intensity is not None and level is not None:
            raise ControlError("an emotion was given intensity and level: pass one of them")
        if level is not None:
            if isinstance(level, bool) or level not in range(LEVELS + 1):
                raise ControlError(f"level {level!r} of an emotion is not 0, 1, 2 or 3: use intensity for less")
            intensity = level / LEVELS
        strength = 1.0 if intensity is None else _within("intensity", intensity, 0.0, 1.0)
        shares = _shares({what: 1.0} if isinstance(what, str) else what)
        neutral = shares.pop(NEUTRAL, 0.0)
        strength *= 1 - neutral
        shares = {name: share / (1 - neutral) for name, share in shares.items()} if neutral < 1 else {NEUTRAL: 1.0}
        object.__setattr__(self, "shares", MappingProxyType(shares))
        object.__setattr__(self, "intensity", strength)
        object.__setattr__(self, "placed", False)

    @classmethod
    def at(cls, valence: float, arousal: float) -> Emotion:
        """The emotion at a place of the plane, -1…1 each. Beyond the unit circle, that of the circle.

        Raises ControlError.
        """
        v, a = _within("valence", valence, -1.0, 1.0), _within("arousal", arousal, -1.0, 1.0)
        radius = math.hypot(v, a)
        if radius < 1e-9:
            return cls(NEUTRAL)
        found = object.__new__(cls)  # shares of the map need no check, and this is called for every frame
        shares = {name: share for name, share in _neighbours(v, a).items() if share > 0}
        found.__dict__.update(shares=MappingProxyType(shares), intensity=min(radius, 1.0), placed=True)
        return found

    @property
    def valence(self) -> float:
        """-1 unpleasant … 1 pleasant, by the map."""
        return _place(self)[0]

    @property
    def arousal(self) -> float:
        """-1 drowsy … 1 excited, by the map."""
        return _place(self)[1]

    @property
    def name(self) -> str:
        """The strongest of its emotions; neutral where neutral is stronger still."""
        name, share = max(self.shares.items(), key=lambda item: item[1])
        return name if share * self.intensity >= 1 - self.intensity else NEUTRAL

    def __repr__(self) -> str:
        what = next(iter(self.shares)) if len(self.shares) == 1 else {n: round(s, 4) for n, s in self.shares.items()}
        return f"Emotion({what!r}, intensity={self.intensity:.4g})"


Timeline = Sequence[tuple[float, "str | Emotion | Mapping[str, float] | None"]]
Wish = str | Emotion | Mapping[str, float] | Timeline | None


def check_emotion(value: Any) -> Emotion | None:
    """An emotion from what a caller gave; None leaves it to the audio. Raises ControlError."""
    if value is None or isinstance(value, Emotion):
        return value
    if isinstance(value, str | Mapping):
        return Emotion(value)
    raise ControlError(
        f"emotion is {type(value).__name__}: set None, a name, an Emotion, a mixture such as "
        '{"happy": 0.7, "surprise": 0.3}, or a list of (seconds, emotion)'
    )


def check_timeline(value: Any) -> tuple[tuple[float, Emotion | None], ...]:
    """Seconds and emotions of a timeline, in order. Raises ControlError."""
    entries: list[tuple[float, Emotion | None]] = []
    for item in value:
        if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
            raise ControlError(f"{item!r} of an emotion timeline is not a pair (seconds, emotion)")
        seconds = _within("seconds of a timeline", item[0], 0.0, math.inf)
        if entries and seconds <= entries[-1][0]:
            raise ControlError(f"the emotion timeline goes from {entries[-1][0]} s to {seconds} s: sort it by time")
        entries.append((seconds, check_emotion(item[1])))
    if not entries:
        raise ControlError("the emotion timeline is empty: give at least one (seconds, emotion), or None")
    return tuple(entries)


def is_timeline(value: Any) -> bool:
    """Whether a caller's value is meant as a timeline."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def probabilities(emotion: Emotion, names: Sequence[str]) -> list[float]:
    """[C] over the classes `names` of a network, adding up to 1. Calm is neutral to it.

    A place of the plane is made of the classes that the network knows. Raises ControlError for a class that was named
    and that it has not learned.
    """
    out = [0.0] * len(names)
    rest = 1.0
    shares = emotion.shares
    if emotion.placed and not all(name in names or name in _UNFELT for name in shares):
        shares = _neighbours(*_place(emotion), {*names, CALM})
    for name, share in shares.items():
        if name in _UNFELT:
            continue
        if name not in names:
            raise ControlError(f"this avatar has not learned {name!r}: it knows {', '.join(names)}")
        out[names.index(name)] = share * emotion.intensity
        rest -= share * emotion.intensity
    out[names.index(NEUTRAL)] = max(rest, 0.0)
    return out


def action_units(emotion: Emotion) -> list[float]:
    """[6] action units, 0…5, that belong to an emotion."""
    out = [0.0] * len(ACTION_UNITS)
    for name, share in emotion.shares.items():
        strength = share * emotion.intensity
        for index, units in _UNIT_ROWS.get(name, ()):
            out[index] += units * strength
    return out


def from_probabilities(values: Iterable[float], names: Sequence[str]) -> Emotion:
    """The emotion that probabilities `[C]` over `names` describe."""
    shares = {name: float(max(p, 0.0)) for name, p in zip(names, values, strict=True) if p > 1e-6}
    return Emotion(shares if shares else NEUTRAL)


def _within(what: str, value: Any, low: float, high: float) -> float:
    number = as_number(value)
    if number is None or not low <= number <= high or math.isinf(number):
        bounds = f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number from {low:g} on"
        raise ControlError(f"{what} {value!r} is not {bounds}")
    return number


def _shares(weights: Any) -> dict[str, float]:
    if not isinstance(weights, Mapping) or not weights:
        raise ControlError(f"emotion {weights!r} is neither a name nor a mixture of names with weights")
    shares: dict[str, float] = {}
    for text, weight in weights.items():
        name = emotion_name(text)
        shares[name] = shares.get(name, 0.0) + _within(f"weight of {name}", weight, 0.0, 1e6)
    total = sum(shares.values())
    if total < 1e-9:
        raise ControlError("all weights of an emotion's mixture are 0: give one that is not")
    return {name: share / total for name, share in shares.items() if share > 0}


def _neighbours(v: float, a: float, known: Collection[str] = _CIRCLE) -> dict[str, float]:
    """Shares of the two known classes around a place that is not the centre."""
    first, second, x, y = _between(v, a, known)
    return {first: x / (x + y), second: y / (x + y)}


def _between(v: float, a: float, known: Collection[str] = _CIRCLE) -> tuple[str, str, float, float]:
    """The two neighbouring classes of a direction, and its coordinates in theirs: (v, a) = x·first + y·second."""
    angle = math.degrees(math.atan2(a, v)) % 360
    names, angles = _AROUND, _ANGLES
    if known is not _CIRCLE:
        names = tuple(name for name in _AROUND if name in known)
        angles = tuple(_DEGREES[name] for name in names)
    at = bisect_right(angles, angle) - 1  # -1: between the last and the first
    first, second = names[at], names[(at + 1) % len(names)]
    (fv, fa), (sv, sa) = _DIRECTIONS[first], _DIRECTIONS[second]
    cross = fv * sa - fa * sv
    return first, second, max((v * sa - a * sv) / cross, 0.0), max((fv * a - fa * v) / cross, 0.0)


def _place(emotion: Emotion) -> tuple[float, float]:
    v = sum(share * _DIRECTIONS[name][0] for name, share in emotion.shares.items() if name in _DEGREES)
    a = sum(share * _DIRECTIONS[name][1] for name, share in emotion.shares.items() if name in _DEGREES)
    length = math.hypot(v, a)
    if length < 1e-9:
        return 0.0, 0.0
    _, _, x, y = _between(v / length, a / length)
    # A mixture of two neighbours lies on the chord between them, 1/(x + y) from the centre: that is full intensity.
    reach = min(emotion.intensity * length * (x + y), 1.0)
    return v / length * reach, a / length * reach
