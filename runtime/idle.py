"""What a head does while nobody speaks: it holds still in segments, breathes, blinks and looks about.

The segments follow EmoGene's Algorithm 1: runs of the recorded track in which consecutive poses have a cosine
similarity of 1 give the bounds of a segment's length; in silence, segments of a random length within the bounds are
inserted into the track with a fixed gap between them. Here a segment does not freeze the head: it slows the track down,
with ease, and a seeded sway of frequencies without a common period keeps any two seconds apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cues import LEFT_EYE, NECK, ROTATION, CuePlayer, Stance
from .errors import ControlError
from .graphs import Float
from .head import rotation_matrix
from .manifest import ACTION_UNITS, FRAME_RATE

_SAME = 1 - 1e-6  # cosine similarity that counts as 1: the head turns by less than 0.1° a frame
_SHORTEST, _LONGEST = 8, 90  # frames of a segment, whatever the track says
_HELD = 0.3  # speed of the track within a segment
_EASE = 0.3  # seconds from one speed to another
_SHARE = 1 - math.exp(-1 / (_EASE * FRAME_RATE))
_SWELL = 1.0  # seconds in which sway sets in and fades
AU45 = ACTION_UNITS.index("AU45")
_BLINKING = (0.55, 1.0, 0.75, 0.35, 0.1)  # of the action unit's 5, one number a frame


@dataclass(frozen=True)
class Idle:
    """Idle motion in silence.

    seed: of everything random. gap: seconds between two segments. segment: shortest and longest in seconds; None finds
    them in the recorded track. sway: factor on breathing and sway, 0 to 3.
    """

    seed: int = 0
    gap: float = 1.0
    segment: tuple[float, float] | None = None
    sway: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise ControlError(f"idle.seed {self.seed!r} is not a whole number from 0 to 2**32 - 1")
        if not _number(self.gap) or not 0.04 <= self.gap <= 60:
            raise ControlError(f"idle.gap {self.gap!r} is not a number of seconds from 0.04 to 60")
        if not _number(self.sway) or not 0 <= self.sway <= 3:
            raise ControlError(f"idle.sway {self.sway!r} is not a number from 0 to 3")
        if self.segment is not None:
            low, high = self.segment if len(self.segment) == 2 else (0, 0)
            if not (_number(low) and _number(high) and 0.04 <= low <= high <= 60):
                raise ControlError(f"idle.segment {self.segment!r} is not (shortest, longest) in seconds, 0.04 to 60")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_idle(value: Any) -> Idle | None:
    """Idle settings; True is the default ones, False or None is off. Raises ControlError."""
    if value is None or value is False:
        return None
    if value is True:
        return Idle()
    if not isinstance(value, Idle):
        raise ControlError(f"idle {value!r} is not an Idle, True, False or None")
    return value


def segment_bounds(player: CuePlayer) -> tuple[int, int]:
    """Shortest and longest idle segment in frames: of the track's runs of consecutive poses with cosine similarity 1.

    A pose is the head's rotation matrix with its translation in head heights. Bounds are within 8 to 90 frames.
    """
    poses = np.stack(
        [
            np.append(rotation_matrix(joints[ROTATION]) @ rotation_matrix(joints[NECK]), translation * 4.2)
            for joints, translation in zip(player.poses, player.cues.translation, strict=True)
        ]
    )
    poses /= np.linalg.norm(poses, axis=1, keepdims=True)
    same = (poses[1:] * poses[:-1]).sum(axis=1, dtype=np.float64) >= _SAME
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
    runs = edges[1::2] - edges[::2] + 1
    runs = runs[runs >= _SHORTEST]
    if not len(runs):
        return _SHORTEST, 3 * _SHORTEST
    return int(runs.min()), int(min(runs.max(), _LONGEST))


class Sway:
    """Breathing and the small movements of a head that rests: sines whose frequencies have no common period."""

    def __init__(self, rng: np.random.Generator) -> None:
        # Hz, radians, and heights: three waves on each of rotation x y z, neck x, translation x y z
        self._rate = rng.uniform(0.11, 0.37, (7, 3)) * 2 * np.pi / FRAME_RATE
        self._phase = rng.uniform(0, 2 * np.pi, (7, 3))
        self._height = np.array([0.007, 0.010, 0.005, 0.0025, 0.0007, 0.0004, 0.0006])[:, None] * [1.0, 0.7, 0.5]
        self._rate[3], self._rate[5] = rng.uniform(0.22, 0.29) * 2 * np.pi / FRAME_RATE, self._rate[3, 0]  # one breath
        self._rate[3, 1:] *= 2.03
        self._rate[5] = self._rate[3]
        self._phase[5] = self._phase[3] + 0.4

    def at(self, frame: int) -> NDArray[np.float64]:
        """[7] rotation x y z, neck x (rad), translation x y z (m)."""
        moved: NDArray[np.float64] = (self._height * np.sin(self._rate * frame + self._phase)).sum(axis=1)
        return moved


class Resting:
    """Idle motion of one avatar: where in the track the head is, and what is added to it."""

    def __init__(self, player: CuePlayer) -> None:
        self._player = player
        self._found: tuple[int, int] | None = None
        cues = player.cues
        self._blinks = bool((cues.aus[:, AU45] > 2).any())  # a track without blinks or glances gets some
        self._glances = bool(np.ptp(player.poses[:, LEFT_EYE], axis=0).max() > 0.01)
        self._settings: Idle | None = Idle()
        self.reset()

    @property
    def settings(self) -> Idle | None:
        return self._settings

    @settings.setter
    def settings(self, value: Idle | None) -> None:
        if value != self._settings:
            self._settings = value
            self._begin()

    def reset(self) -> None:
        """The next frame is the first."""
        self._behind = 0.0  # frames that the head is behind the track
        self._speed, self._amount = 1.0, 0.0
        self._begin()

    def _begin(self) -> None:
        settings = self._settings or Idle()
        self._rng = np.random.default_rng(settings.seed)
        self._sway = Sway(self._rng)
        self._holding, self._left = False, 0
        self._blink = int(self._rng.uniform(1, 4) * FRAME_RATE)
        self._glance, self._gaze, self._looking = 0, np.zeros(2, np.float32), np.zeros(2, np.float32)

    def advance(self, silent: bool) -> None:
        """One frame on. silent: nobody speaks."""
        idle = silent and self._settings is not None
        goal = self._segment() if idle else 1.0
        if not idle:
            self._holding, self._left = False, 0
        self._speed += _SHARE * (goal - self._speed)
        if abs(self._speed - 1) < 1e-3 and goal == 1.0:
            self._speed = 1.0
        self._behind += 1 - self._speed
        swell = 1 / (_SWELL * FRAME_RATE)
        self._amount = min(max(self._amount + (swell if idle else -swell), 0.0), 1.0)

    def _segment(self) -> float:
        """Speed of the track that the segment or gap of this frame wants."""
        settings = self._settings or Idle()
        if not self._left:
            self._holding = not self._holding
            self._left = self._length(settings) if self._holding else max(round(settings.gap * FRAME_RATE), 1)
        self._left -= 1
        return _HELD if self._holding else 1.0

    def _length(self, settings: Idle) -> int:
        if settings.segment is not None:
            low, high = (max(round(part * FRAME_RATE), 1) for part in settings.segment)
        else:
            self._found = self._found or segment_bounds(self._player)
            low, high = self._found
        return int(self._rng.integers(low, high + 1))

    def place(self, frame: int) -> float:
        """Where in the track the head of a frame is."""
        return frame - self._behind

    def apply(self, frame: int, stance: Stance, aus: Float) -> None:
        """Adds breathing and sway to a stance, and to action units [6] and eyes what the track has none of."""
        if not self._amount or self._settings is None:
            return
        ease = self._amount * self._amount * (3 - 2 * self._amount)
        moved = self._sway.at(frame) * (ease * self._settings.sway)
        stance.joints[ROTATION] += moved[:3].astype(np.float32)
        stance.joints[NECK, 0] += np.float32(moved[3])
        stance.translation[:] += moved[4:].astype(np.float32)
        if not self._blinks:
            self._add_blink(aus)
        if not self._glances:
            self._add_glance(stance, ease)

    def _add_blink(self, aus: Float) -> None:
        self._blink -= 1
        if -len(_BLINKING) <= self._blink < 0:
            aus[AU45] = max(float(aus[AU45]), 5 * _BLINKING[-1 - self._blink])
        elif self._blink < 0:
            self._blink = int(self._rng.uniform(2, 6) * FRAME_RATE)

    def _add_glance(self, stance: Stance, ease: float) -> None:
        if not self._glance:
            self._glance = int(self._rng.uniform(0.5, 2.5) * FRAME_RATE)
            self._gaze = self._rng.normal(0, (0.015, 0.03)).astype(np.float32)
        self._glance -= 1
        self._looking += np.float32(0.6) * (self._gaze - self._looking)
        stance.joints[LEFT_EYE:, :2] += np.float32(ease) * self._looking
