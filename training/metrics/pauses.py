"""Is the mouth shut while nobody speaks: lip gaps in the pauses of recorded speech, whose phonemes nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import MetricError
from .lips import closed_frames

__all__ = ["PauseReport", "pause_frames", "pause_report"]

_FRAME = 640  # samples: 40 ms at 16 kHz
_QUIET = 38.0  # dB below the loud frames
_LOUD = 95  # percentile that counts as loud
_MARGIN = 4  # frames to both sides that must be quiet too: lips may close late and part early


@dataclass(frozen=True)
class PauseReport:
    """Frames inside pauses, how many of them show shut lips, and the widest gap as a share of the clip's range."""

    frames: int
    shut: int
    widest: float  # lip gap over the clip's 95th percentile

    @property
    def share(self) -> float:
        """Of the pauses' frames, those that are shut; NaN without a pause."""
        return self.shut / self.frames if self.frames else float("nan")


def pause_frames(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Which frames [T] lie inside a pause: quieter by 38 dB than the clip's loud frames, and so are four on each side.

    Args:
        samples: [N] at 16 kHz; an incomplete last frame is left out.

    Raises:
        MetricError: there is not a whole frame.
    """
    count = len(samples) // _FRAME
    if np.ndim(samples) != 1 or count == 0:
        raise MetricError(f"sound of shape {np.shape(samples)}: give [N] samples at 16 kHz, {_FRAME} or more")
    power = (np.asarray(samples[: count * _FRAME], np.float64).reshape(count, _FRAME) ** 2).mean(axis=1)
    level = 10 * np.log10(power + 1e-12)
    quiet = np.pad(level < np.percentile(level, _LOUD) - _QUIET, _MARGIN, constant_values=True)
    around = np.lib.stride_tricks.sliding_window_view(quiet, 2 * _MARGIN + 1)
    return np.asarray(around.all(axis=1), np.bool_)


def pause_report(gap: NDArray[Any], samples: NDArray[Any]) -> PauseReport:
    """Lips [T] at 25 frames a second against the sound [N] at 16 kHz that they belong to.

    Raises:
        MetricError: either cannot be used, or their lengths differ by more than a frame.
    """
    pauses = pause_frames(samples)
    if abs(len(gap) - len(pauses)) > 1:
        raise MetricError(f"{len(gap)} lip gaps for {len(pauses)} frames of sound: they are not of one clip")
    count = min(len(gap), len(pauses))
    closed, pauses = closed_frames(gap)[:count], pauses[:count]
    wide = float(np.percentile(gap, 95))
    widest = float(np.max(np.asarray(gap)[:count][pauses], initial=0.0)) / wide
    return PauseReport(int(pauses.sum()), int((closed & pauses).sum()), widest)
