"""Whether somebody speaks: a causal rule on the loudness of frames, with hysteresis."""

from __future__ import annotations

import math

import numpy as np

from .graphs import Float

_SILENCE = -66.0  # dB below full scale, RMS: nothing below it is speech
_LOUD = -34.0  # a background louder than this is taken for sound, not for noise
_ON, _OFF = 9.0, 6.0  # dB above the background at which speech begins, and below which it ends
_MEMORY = 100  # frames (4 s): speech falls to the background at least once in that time
_HANG = 8  # frames (320 ms) below `_OFF` until speech has ended: a pause between words is not silence


class Loudness:
    """Feed every frame once; `speaking` is the state after it. The background is the least level of the last 4 s."""

    def __init__(self) -> None:
        self._levels = np.full(_MEMORY, _SILENCE)
        self.speaking = False
        self._count = self._quiet = 0

    def reset(self) -> None:
        """Nothing was heard."""
        self._levels[:] = _SILENCE
        self.speaking = False
        self._count = self._quiet = 0

    def hear(self, samples: Float) -> bool:
        """Takes one frame of samples (−1…1); whether speech goes on."""
        power = float(samples @ samples) / len(samples)
        level = max(10 * math.log10(power + 1e-12), _SILENCE)
        self._levels[self._count % _MEMORY] = level
        self._count += 1
        background = min(float(self._levels.min()), _LOUD)
        if level > background + _ON:
            self.speaking, self._quiet = True, 0
        elif level > background + _OFF:
            self._quiet = 0
        else:
            self._quiet += 1
            if self._quiet >= _HANG:
                self.speaking = False
        return self.speaking
