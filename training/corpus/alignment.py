"""Whether phoneme times belong to their sound: when the lips shut and open, by ear and by the times.

Behind shut lips little above the first formant is heard: nothing in P, a hum in B and M. Between two vowels, the
moments at which the band of 700 to 4000 Hz falls and rises past half its drop in decibels are compared to the
segment's own start and end. (A stop's segment lasts until its burst has passed, so it ends a little later.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.signal

from .phonemes import BILABIALS, VOWELS
from .speech import SAMPLE_RATE, Utterance

_STEP = 0.0025  # seconds between two levels
_WIDTH = 0.010  # seconds of sound in a level
_BAND = (700.0, 4000.0)


@dataclass(frozen=True)
class Closure:
    """A P, B or M between vowels.

    shut, opened: seconds by which the sound shuts and opens after the segment's start and end (negative: before).
    drop: how much quieter the closure is than the quieter vowel, dB.
    """

    phoneme: str
    shut: float
    opened: float
    drop: float


def closures(utterance: Utterance) -> list[Closure]:
    """Every P, B and M that stands between two vowels."""
    levels = _levels(utterance)
    found = []
    segments = utterance.segments
    for before, here, after in zip(segments, segments[1:], segments[2:], strict=False):
        if here.phoneme not in BILABIALS or before.phoneme not in VOWELS or after.phoneme not in VOWELS:
            continue
        first, last = ((s.start + s.end) / 2 for s in (before, after))
        part = levels[int(first / _STEP) : int(last / _STEP) + 1]
        inside = slice(*(int((t - first) / _STEP) for t in (here.start - 0.02, here.end + 0.02)))
        if len(part) < 4 or not len(part[inside]):
            continue
        lowest = max(inside.start, 0) + int(np.argmin(part[inside]))
        shut = _crossing(part[: lowest + 1][::-1])
        opened = _crossing(part[lowest:])
        drop = float(min(part[: lowest + 1].max(), part[lowest:].max()) - part[lowest])
        start = int(first / _STEP) * _STEP
        found.append(
            Closure(
                here.phoneme,
                start + (lowest - shut) * _STEP - here.start,
                start + (lowest + opened) * _STEP - here.end,
                drop,
            )
        )
    return found


def _crossing(levels: npt.NDArray[np.float64]) -> int:
    """Steps from the closure, which comes first, to where half the way to the vowel's level is passed."""
    half = (levels[0] + levels.max()) / 2
    return int(np.argmax(levels >= half))


def _levels(utterance: Utterance) -> npt.NDArray[np.float64]:
    """Level of the band at the times 0, _STEP, … in dB."""
    sos = scipy.signal.butter(4, _BAND, "bandpass", fs=SAMPLE_RATE, output="sos")
    power = scipy.signal.sosfiltfilt(sos, utterance.samples.astype(np.float64)) ** 2
    total = np.concatenate([[0.0], np.cumsum(power)])
    centres = np.arange(0, len(power), _STEP * SAMPLE_RATE).astype(int)
    half = int(_WIDTH * SAMPLE_RATE / 2)
    upper, lower = (np.clip(centres + sign * half, 0, len(power)) for sign in (1, -1))
    levels: npt.NDArray[np.float64] = 10 * np.log10((total[upper] - total[lower]) / (upper - lower) + 1e-9)
    return levels
