"""Whether somebody speaks: a causal rule on the loudness of frames, with hysteresis."""

from __future__ import annotations

import math
from collections import deque

from .graphs import Float

_SILENCE = -66.0  # dB below full scale, RMS: nothing below it is speech
_LOUD = -34.0  # a background louder than this is taken for sound, not for noise
_ON, _OFF = 9.0, 6.0  # dB above the background at which speech begins, and below which it ends
_MEMORY = 100  # frames (4 s): speech falls to the background at least once in that time
_HANG = 8  # frames (320 ms) below `_OFF` until speech has ended: a pause between words is not silence


class Loudness:
    """Feed every frame once; `speaking` is the state after it. The background is the least level of the last 4 s."""

    def __init__(self) -> None:
        self._levels: deque[tuple[int, float]] = deque()  # number and level of frames that no later one is below
        self.reset()

    def reset(self) -> None:
        """Nothing was heard."""
        self._levels.clear()
        self.speaking = False
        self._count = self._quiet = 0

    def hear(self, samples: Float) -> bool:
        """Takes one frame of samples (−1…1); whether speech goes on."""
        power = float(samples.dot(samples)) / len(samples)
        level = max(10 * math.log10(power + 1e-12), _SILENCE)
        background = min(self._least(level), _LOUD)
        if level > background + _ON:
            self.speaking, self._quiet = True, 0
        elif level > background + _OFF:
            self._quiet = 0
        else:
            self._quiet += 1
            if self._quiet >= _HANG:
                self.speaking = False
        return self.speaking

    def _least(self, level: float) -> float:
        """Takes the level of a frame; the least of the newest `_MEMORY` ones, silence before the first."""
        levels = self._levels
        while levels and levels[-1][1] >= level:
            levels.pop()
        levels.append((self._count, level))
        self._count += 1
        if levels[0][0] < self._count - _MEMORY:
            levels.popleft()
        return levels[0][1] if self._count >= _MEMORY else _SILENCE
