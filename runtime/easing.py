"""Controls that ease into a new value, so that nothing a caller sets can make the picture jump."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from .errors import ControlError
from .graphs import Float
from .manifest import FRAME_RATE
from .numbers import as_number

_LONGEST = 60.0  # seconds
_GONE = 1e-4

Numbers = TypeVar("Numbers")


def check_seconds(what: str, value: object) -> float:
    """A time constant in seconds. Raises ControlError."""
    seconds = as_number(value)
    if seconds is None or not 0 <= seconds <= _LONGEST:
        raise ControlError(f"{what} {value!r} is not a number of seconds from 0 to {_LONGEST:g}")
    return seconds


class _Following(ABC, Generic[Numbers]):
    """Numbers that follow a target through two low-passes: neither they nor their velocity ever jump.

    They stay between the values they were given, however often these change. After `seconds` three quarters of a step
    are done, after three times that all but 2%. Neither a target nor a value is ever written to.
    """

    def __init__(self, start: Numbers, seconds: float) -> None:
        self.seconds = seconds
        self.aim(start)
        self.snap()

    @property
    def still(self) -> bool:
        """Whether the value is the target, and `advance` has nothing to do."""
        return self._still

    def aim(self, target: Numbers) -> None:
        """Where to go from now on."""
        self.target = target
        self._still = False

    def snap(self) -> None:
        """Is at its target at once."""
        self.value = self._first = self.target
        self._still = True

    def advance(self) -> Numbers:
        """One frame (40 ms) on; the value."""
        if self._still:
            return self.value
        target, seconds = self.target, self.seconds  # once: another thread may set them meanwhile
        share = 1 - math.exp(-2.6 / (seconds * FRAME_RATE)) if seconds else 1.0
        self._first = self._between(self._first, target, share)
        self.value = self._between(self.value, self._first, share)
        if self._near(self._first, target) and self._near(self.value, target):
            self.value = self._first = target
            self._still = self.target is target
        return self.value

    @abstractmethod
    def _between(self, start: Numbers, end: Numbers, share: float) -> Numbers:
        """A share of the way from start to end."""

    @abstractmethod
    def _near(self, numbers: Numbers, target: Numbers) -> bool:
        """Whether they are the target's, as far as anybody sees."""


class Eased(_Following[Sequence[float]]):
    """A few numbers, of Python: for up to twenty or so, numpy would take longer."""

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__([0.0] * size, seconds)

    def _between(self, start: Sequence[float], end: Sequence[float], share: float) -> Sequence[float]:
        return [a + share * (b - a) for a, b in zip(start, end, strict=True)]

    def _near(self, numbers: Sequence[float], target: Sequence[float]) -> bool:
        for goal, number in zip(target, numbers, strict=True):  # noqa: SIM110 - in every frame; `all` is slower
            if not -_GONE < goal - number < _GONE:
                return False
        return True


class EasedArray(_Following[Float]):
    """Many numbers: an array [n]."""

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__(np.zeros(size, np.float32), seconds)

    def _between(self, start: Float, end: Float, share: float) -> Float:
        way = end - start
        way *= share
        way += start
        return way

    def _near(self, numbers: Float, target: Float) -> bool:
        left = target - numbers
        return float(left @ left) < _GONE**2
