"""Controls that ease into a new value, so that nothing a caller sets can make the picture jump."""

from __future__ import annotations

import math

import numpy as np

from .errors import ControlError
from .graphs import Float
from .manifest import FRAME_RATE

_LONGEST = 60.0  # seconds
_GONE = 1e-4


def check_seconds(what: str, value: object) -> float:
    """A time constant in seconds. Raises ControlError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST:
        raise ControlError(f"{what} {value!r} is not a number of seconds from 0 to {_LONGEST:g}")
    return float(value)


class Eased:
    """A vector [n] that follows its target through two low-passes: neither it nor its velocity ever jumps.

    It stays between the values it was given, however often they change. After `seconds` three quarters of a step are
    done, after three times that all but 2%. A `value` that was handed out is never written again.
    """

    def __init__(self, size: int, seconds: float) -> None:
        self.target = np.zeros(size, np.float32)
        self.value = np.zeros(size, np.float32)
        self._first = self.value.copy()
        self.seconds = seconds
        self._idle = True

    @property
    def still(self) -> bool:
        """Whether the value is the target, and `advance` has nothing to do."""
        return self._idle

    def aim(self, target: Float) -> None:
        """Where to go from now on."""
        self.target[:] = target
        self._idle = False

    def snap(self) -> None:
        """Is at its target at once."""
        self.value = self.target.copy()
        self._first[:] = self.target
        self._idle = True

    def advance(self) -> Float:
        """One frame (40 ms) on; the value."""
        if self._idle:
            return self.value
        if not self.seconds:
            self.snap()
            return self.value
        share = 1 - math.exp(-2.6 / (self.seconds * FRAME_RATE))
        way = self.target - self._first
        self._first += share * way
        self.value = self.value + share * (self._first - self.value)
        # One product tells, on nearly every frame, that some channel is still further away than that.
        if float(way @ way) * (1 - share) ** 2 < 2 * len(way) * _GONE**2:
            left = np.abs(self.target - self.value).max(), np.abs(self.target - self._first).max()
            if max(left) < _GONE:
                self.snap()
        return self.value
