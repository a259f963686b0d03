"""Do the lips close when they must, stay open when they must, and when: lip gaps against phoneme times.

Closed is a lip gap below 10% of the clip's 95th percentile, so that heads and units do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..corpus.phonemes import BILABIALS, LABIODENTALS, OPEN_VOWELS, SILENCE, Segment
from .errors import MetricError

__all__ = ["LipReport", "closed_frames", "find_offset", "lip_report", "pool_reports"]

Doubles = NDArray[np.float64]

CLOSED_SHARE, PERCENTILE = 0.10, 95
_SEARCH, _STEP = 0.4, 0.005  # s to both sides of 0, and between the offsets tried
_HALF_OPEN = 0.5  # what other sounds ask for


@dataclass(frozen=True)
class LipReport:
    """Counts, so that clips can be pooled, and the shares that follow from them."""

    bilabials: int  # P, B, M that lie inside the clip
    closures_present: int  # of those, with a closed frame within the tolerance
    closures_shown: int  # runs of closed frames that are not a pause's
    false_closures: int  # of those, without P, B or M within the tolerance, F and V excused
    excused_closures: int  # of those, explained by F or V alone
    open_vowels: int
    open_vowels_open: int  # the median frame of the vowel is not closed
    lateness_ms: tuple[float, ...]  # of every closure present: its middle against the phoneme's, after the correction
    offset_ms: float  # by which the lips were late; corrected before anything was counted
    tolerance_ms: float

    @property
    def present(self) -> float:
        """Share of P, B, M with a closure."""
        return self.closures_present / self.bilabials if self.bilabials else float("nan")

    @property
    def false(self) -> float:
        """Share of the closures shown that nothing asks for."""
        return self.false_closures / self.closures_shown if self.closures_shown else 0.0

    @property
    def open(self) -> float:
        """Share of open vowels that are open."""
        return self.open_vowels_open / self.open_vowels if self.open_vowels else float("nan")


def closed_frames(gap: NDArray[Any]) -> NDArray[np.bool_]:
    """Which frames [T] are closed. Raises MetricError for a gap that is not [T] finite numbers, or never opens."""
    values = np.asarray(gap, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise MetricError(f"a lip gap of shape {values.shape}: give [T] finite distances of the inner lips")
    wide = float(np.percentile(values, PERCENTILE))
    if wide <= 0:
        raise MetricError("the lips never open in this clip: their closures cannot be judged")
    return values < CLOSED_SHARE * wide


def lip_report(
    gap: NDArray[Any],
    segments: Sequence[Segment],
    frame_rate: float = 25.0,
    tolerance_ms: float = 40.0,
    offset_ms: float = 0.0,
) -> LipReport:
    """Count closures and openings.

    Args:
        gap: [T] distance of the inner lips in any unit; frame i is shown at (i + 0.5) / frame_rate seconds.
        segments: the phonemes in seconds of the audio.
        frame_rate: of `gap`.
        tolerance_ms: how far a closed frame may lie from the phoneme that asks for it.
        offset_ms: by how much the picture is late; it is taken off the frames' times. `find_offset` measures it.

    Raises:
        MetricError: the gap cannot be used, or the phonemes end elsewhere than the clip.
    """
    closed = closed_frames(gap)
    seconds = len(closed) / frame_rate
    _check_length(segments, seconds)
    time = (np.arange(len(closed), dtype=np.float64) + 0.5) / np.float64(frame_rate) - offset_ms / 1000
    reach = tolerance_ms / 1000
    inside = [s for s in segments if s.start >= time[0] and s.end <= time[-1]]
    asked = [s for s in inside if s.phoneme in BILABIALS]
    lateness = [late for s in asked if (late := _lateness(closed, time, s, reach)) is not None]
    shown = [run for run in _runs(closed, time) if not _near(run, segments, (SILENCE,), reach)]
    unasked = [run for run in shown if not _near(run, segments, BILABIALS, reach)]
    excused = [run for run in unasked if _near(run, segments, LABIODENTALS, reach)]
    vowels = [s for s in inside if s.phoneme in OPEN_VOWELS]
    return LipReport(
        bilabials=len(asked),
        closures_present=len(lateness),
        closures_shown=len(shown),
        false_closures=len(unasked) - len(excused),
        excused_closures=len(excused),
        open_vowels=len(vowels),
        open_vowels_open=sum(_is_open(closed, time, vowel) for vowel in vowels),
        lateness_ms=tuple(lateness),
        offset_ms=offset_ms,
        tolerance_ms=tolerance_ms,
    )


def find_offset(gap: NDArray[Any], segments: Sequence[Segment], frame_rate: float = 25.0) -> float:
    """By how many ms the lips are late (negative: early), where they correlate best with what the phonemes ask for.

    Expected is an opening of 0 on P, B, M and in silence, 1 on open vowels and a half elsewhere; searched are ±400 ms.

    Raises:
        MetricError: the gap cannot be used, or nothing correlates.
    """
    closed_frames(gap)
    values = np.asarray(gap, dtype=np.float64)
    values = np.minimum(values, np.percentile(values, PERCENTILE))
    time = (np.arange(len(values)) + 0.5) / frame_rate
    best, found = 0.0, None
    for offset in np.arange(-round(_SEARCH / _STEP), round(_SEARCH / _STEP) + 1) * _STEP:
        expected = _expected(time - offset, 1 / frame_rate, segments)
        if expected.std() < 1e-9:
            continue
        correlation = float(np.corrcoef(values, expected)[0, 1])
        if correlation > best:
            best, found = correlation, float(offset)
    if found is None:
        raise MetricError("the lips do not follow these phonemes at any offset: check that they are of one clip")
    return round(1000 * found, 3)


def pool_reports(reports: Sequence[LipReport]) -> LipReport:
    """The counts of several clips together; the offset is their mean. Raises MetricError if there are none."""
    if not reports:
        raise MetricError("there are no clips to pool")
    counts = {
        name: sum(getattr(report, name) for report in reports)
        for name in LipReport.__dataclass_fields__
        if name not in ("lateness_ms", "offset_ms", "tolerance_ms")
    }
    return LipReport(
        **counts,
        lateness_ms=tuple(late for report in reports for late in report.lateness_ms),
        offset_ms=float(np.mean([report.offset_ms for report in reports])),
        tolerance_ms=max(report.tolerance_ms for report in reports),
    )


def _check_length(segments: Sequence[Segment], seconds: float) -> None:
    end = max((segment.end for segment in segments), default=0.0)
    if abs(end - seconds) > 0.5 + 0.02 * seconds:
        raise MetricError(
            f"the phonemes end at {end:.2f} s, the lips at {seconds:.2f} s: they are not of one clip, or a frame rate "
            "is wrong"
        )


def _lateness(closed: NDArray[np.bool_], time: Doubles, segment: Segment, reach: float) -> float | None:
    """Middle of the closed frames around a segment against its own middle, ms; None without a closed frame."""
    near = closed & (time >= segment.start - reach) & (time <= segment.end + reach)
    if not near.any():
        return None
    return round(1000 * float(time[near].mean() - (segment.start + segment.end) / 2), 3)


def _runs(closed: NDArray[np.bool_], time: Doubles) -> list[tuple[float, float]]:
    """First and last time of every run of closed frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(np.int8)))
    return [(float(time[first]), float(time[last - 1])) for first, last in edges.reshape(-1, 2)]


def _near(
    run: tuple[float, float], segments: Sequence[Segment], phonemes: Sequence[str] | frozenset[str], reach: float
) -> bool:
    """Whether one of these phonemes lies within `reach` of the run; beyond the track is silence."""
    first, last = run[0] - reach, run[1] + reach
    if SILENCE in phonemes and (not segments or first < segments[0].start or last > segments[-1].end):
        return True
    return any(s.phoneme in phonemes and s.start <= last and s.end >= first for s in segments)


def _is_open(closed: NDArray[np.bool_], time: Doubles, vowel: Segment) -> bool:
    inside = np.flatnonzero((time >= vowel.start) & (time <= vowel.end))
    if len(inside) == 0:
        inside = np.array([np.abs(time - (vowel.start + vowel.end) / 2).argmin()])
    return bool(closed[inside].mean() < 0.5)


def _expected(time: Doubles, width: float, segments: Sequence[Segment]) -> Doubles:
    """The opening that the phonemes ask for, averaged over each frame's `width` seconds."""
    offsets = (np.arange(8) + 0.5) / 8 - 0.5
    fine = (time[:, None] + offsets[None] * width).reshape(-1)
    starts = np.array([segment.start for segment in segments])
    ends = np.array([segment.end for segment in segments])
    levels = np.array([_opening(segment.phoneme) for segment in segments])
    index = np.searchsorted(starts, fine, side="right") - 1
    inside = (index >= 0) & (fine < ends[index.clip(0)])
    values: Doubles = np.where(inside, levels[index.clip(0)], 0.0).reshape(len(time), -1).mean(axis=1)
    return values


def _opening(phoneme: str) -> float:
    if phoneme in BILABIALS or phoneme == SILENCE:
        return 0.0
    return 1.0 if phoneme in OPEN_VOWELS else _HALF_OPEN
