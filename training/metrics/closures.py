"""When lips shut: the moment of every single closure, and by how much another take of the same speech differs.

A closure's moment is the middle of the time in which the lips are less than half apart. Half is between the closure's
least gap and the widest one before it, or after it, so a mouth that opens wider, or a smile that lifts a lip for good,
does not count as earlier or later.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .lips import closed_frames

__all__ = ["closure_shifts", "single_closures"]

Floats = NDArray[np.float64]

_REACH = 6  # frames to both sides in which a mouth opens before and after a closure
_LONGEST = 5  # frames: what is shut for longer is a pause, not a consonant


def single_closures(gap: Floats) -> list[tuple[int, int]]:
    """First and last frame of every run of closed frames of a lip gap [T] that opens again on both sides.

    Closed is what `metrics.lips` calls so. Raises MetricError if the lips never open.
    """
    closed = closed_frames(np.maximum(gap, 0))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], closed.astype(np.int8), [0]])))
    runs = [(int(start), int(stop) - 1) for start, stop in edges.reshape(-1, 2)]
    wide = float(np.percentile(gap, 95)) / 4
    return [run for run in runs if run[1] - run[0] < _LONGEST and _opens(gap, run, wide)]


def closure_shifts(gap: Floats, neutral: Floats, rate: float = 25.0) -> list[float]:
    """Milliseconds by which each single closure of `neutral` [T] comes later in `gap` [T], of the same speech.

    A closure that `gap` does not have is NaN. Raises MetricError if the neutral lips never open.
    """
    shifts = []
    for run in single_closures(neutral):
        moments = [_moment(track, run) for track in (gap, neutral)]
        shifts.append(1000 / rate * (moments[0] - moments[1]))
    return shifts


def _opens(gap: Floats, run: tuple[int, int], wide: float) -> bool:
    start, last = run
    if start < _REACH or last + _REACH >= len(gap):
        return False
    return bool(gap[start - _REACH : start].max() > wide and gap[last + 1 : last + 1 + _REACH].max() > wide)


def _moment(gap: Floats, run: tuple[int, int]) -> float:
    """The middle of a closure, in frames, near where the neutral speech has it; NaN if nothing shuts there."""
    start, last = run
    near = gap[start - 1 : last + 2]
    lowest = start - 1 + int(near.argmin())
    before, after = gap[start - _REACH : lowest + 1], gap[lowest : last + 1 + _REACH]
    left, right = _crossing(before[::-1]), _crossing(after)
    return lowest + 0.5 * (right - left)


def _crossing(side: Sequence[float] | Floats) -> float:
    """Frames from the first value, the least, to where the track is half way up to the nearest peak."""
    track = np.asarray(side, np.float64)
    falls = np.flatnonzero(np.diff(track) < 0)
    rises = falls[track[falls] > track[0] + 0.5 * (track.max() - track[0])]
    peak = int(rises[0]) if len(rises) else int(track.argmax())
    half = 0.5 * (track[0] + track[peak])
    above = np.flatnonzero(track > half)
    if not len(above):
        return float("nan")
    step = int(above[0])
    low, high = track[step - 1], track[step]
    return float(step - 1 + (half - low) / (high - low))
