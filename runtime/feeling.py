"""The emotion of one avatar over time: what was asked for, eased, and what every frame was made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .easing import Eased
from .emotion import (
    NEUTRAL,
    Emotion,
    Timeline,
    action_units,
    check_emotion,
    check_timeline,
    from_probabilities,
    is_timeline,
    probabilities,
)
from .errors import ControlError
from .graphs import Float
from .manifest import ACTION_UNITS, FRAME_RATE, MotionSpec
from .motion import Motion

TRANSITION = 0.25  # seconds


@dataclass(frozen=True, eq=False)
class FrameEmotion:
    """The emotion that a frame was made with.

    names: classes of the network. asked: the wish that was being eased to, None where the audio decides.
    gate: share of the emotional residual, 0…1. What else it says is worked out when it is asked for.
    """

    names: tuple[str, ...]
    gate: float
    asked: Emotion | None
    _wished: Sequence[float] = field(repr=False)
    """The asked-for probabilities [C] times their weight, the weight, and more; shared, and never written to."""
    _logits: Float | None = field(repr=False)
    """[7] of the audio; None says neutral."""

    @cached_property
    def weight(self) -> float:
        """Share of the asked-for probabilities, 0…1."""
        return self._wished[len(self.names)]

    @cached_property
    def probabilities(self) -> Float:
        """[C] the audio's (1 - weight) and the asked-for ones (weight)."""
        used = np.array(self._wished[: len(self.names)], np.float32)
        if self._logits is None:
            used[self.names.index(NEUTRAL)] = 1
            return used
        heard = np.exp(self._logits - self._logits.max())
        used[: len(heard)] += (1 - self.weight) / heard.sum() * heard
        return used

    @cached_property
    def emotion(self) -> Emotion:
        """As an `Emotion`."""
        return from_probabilities(self.probabilities, self.names)

    @property
    def name(self) -> str:
        """The class that shows most."""
        return self.names[int(self.probabilities.argmax())]

    @property
    def intensity(self) -> float:
        """1 - p(neutral)."""
        return 1 - float(self.probabilities[self.names.index(NEUTRAL)])

    @property
    def valence(self) -> float:
        """-1…1, by the map of `emotion`."""
        return self.emotion.valence

    @property
    def arousal(self) -> float:
        """-1…1, by the map of `emotion`."""
        return self.emotion.arousal


class Feeling:
    """Eases the asked-for emotion from frame to frame and gives it to the motion network.

    What is eased is weight · probabilities and the weight itself, in which network and gate are linear, so a change
    from one emotion to the next passes through mixtures of the two and nothing else.
    """

    def __init__(self, spec: MotionSpec, inputs: tuple[Float, Float] | None) -> None:
        """inputs: the network's `emotion` [C] and `emotion_weight` [1], None for one that cannot be steered."""
        self._names, self._inputs = spec.emotions, inputs
        self._classes = len(spec.emotions)
        self._eased = Eased(self._classes + 1 + len(ACTION_UNITS), TRANSITION)
        self._nothing = (0.0,) * (self._classes + 1)
        self._wish: Emotion | Timeline | None = None
        self._plan: tuple[tuple[float, Emotion | None], ...] = ((0.0, None),)
        self._targets: tuple[Sequence[float], ...] = (self._eased.target,)
        self._lift: Sequence[float] | None = None  # action units that the emotion needs; None is none
        self._changed = False
        self._origin: int | None = None
        self._stage = -1

    @property
    def wish(self) -> Any:
        """What was asked for last."""
        return self._wish

    @wish.setter
    def wish(self, value: Any) -> None:
        listed = is_timeline(value)
        plan = check_timeline(value) if listed else ((0.0, check_emotion(value)),)
        if self._inputs is None and any(emotion is not None for _, emotion in plan):
            raise ControlError(
                "the residual of this avatar's motion network cannot be steered by an emotion (a released checkpoint "
                "never sees the class): emotion can only be None; train one with GRMNConfig(steerable=True)"
            )
        targets = tuple(self._target(emotion) for _, emotion in plan)
        if listed and plan[0][0] > 0:
            plan, targets = ((0.0, None), *plan), (self._target(None), *targets)
        self._wish = plan if listed else plan[0][1]
        self._plan, self._targets = plan, targets
        self._changed = True

    @property
    def seconds(self) -> float:
        """Time constant of a transition."""
        return self._eased.seconds

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._eased.seconds = value

    def reset(self) -> None:
        """The next frame begins where it wants to be, and a timeline begins anew."""
        self._origin, self._stage = None, -1

    def advance(self, index: int) -> None:
        """To be called once for each frame, before the network is run. index: of the frame."""
        fresh, still = self._origin is None, self._eased.still
        if still and not (fresh or self._changed) and len(self._plan) == 1:
            return  # nothing changes, as nearly always
        if fresh or self._changed:
            self._origin, self._stage, self._changed = max(index, 0), -1, False
        stage, now = max(self._stage, 0), (index - (self._origin or 0)) / FRAME_RATE
        while stage + 1 < len(self._plan) and self._plan[stage + 1][0] <= now + 1e-9:
            stage += 1
        if stage != self._stage:
            self._stage, still = stage, False
            self._eased.aim(self._targets[stage])
        if fresh:
            self._eased.snap()
        state = self._eased.advance()
        lift = state[self._classes + 1 :]
        self._lift = lift if any(lift) else None
        if self._inputs is not None and not still:
            emotion, weight = self._inputs
            share = state[self._classes]
            scale = 1 / max(share, 1e-6)
            weight[0] = share
            emotion[:] = [scale * part for part in state[: self._classes]]

    def units(self, recorded: Float) -> Float:
        """Action units [6]: the recorded ones, lifted to what the emotion needs where they are less."""
        out = recorded.copy()
        if self._lift is not None:
            out[:] = [max(had, lift) for had, lift in zip(recorded.tolist(), self._lift, strict=True)]
        return out

    def report(self, motion: Motion, rest: bool) -> FrameEmotion:
        """What a frame was made with. rest: with nothing, it is the rest pose."""
        asked = self._plan[max(self._stage, 0)][1]
        if rest:
            return FrameEmotion(self._names, 0.0, asked, self._nothing, None)
        return FrameEmotion(self._names, float(motion.gate[0]), asked, self._eased.value, motion.emotion_logits.copy())

    def _target(self, emotion: Emotion | None) -> Sequence[float]:
        if emotion is None:
            return [0.0] * (self._classes + 1 + len(ACTION_UNITS))
        return [*probabilities(emotion, self._names), 1.0, *action_units(emotion)]
