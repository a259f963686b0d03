"""Where the time of a frame goes. Memory is bounded: the newest few thousand frames are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

STAGES = ("audio", "motion", "draw", "step")
_KEPT = 4096


@dataclass(frozen=True)
class StageStats:
    """Wall time of one stage in milliseconds."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Stats:
    """Times of the newest frames. Stages: audio, motion, draw, and step, the whole frame.

    `frames` counts all frames ever made; the percentiles are those of the newest 4096.
    """

    frames: int
    stages: Mapping[str, StageStats]

    @property
    def fps(self) -> float:
        """Frames a second that the mean step makes; 0 before the first frame."""
        step = self.stages.get("step")
        return 1000.0 / step.mean if step and step.mean > 0 else 0.0

    def table(self) -> str:
        """The times as lines of text, one a stage."""
        lines = [f"{'stage':<8}{'mean':>9}{'p50':>9}{'p95':>9}{'p99':>9}  ms"]
        for name, s in self.stages.items():
            lines.append(f"{name:<8}{s.mean:>9.2f}{s.p50:>9.2f}{s.p95:>9.2f}{s.p99:>9.2f}")
        lines.append(f"{self.frames} frames, {self.fps:.1f} FPS")
        return "\n".join(lines)


class StageClock:
    """Collects the times of an avatar's frames."""

    def __init__(self) -> None:
        self._times = np.zeros((_KEPT, len(STAGES)))
        self._frames = 0

    def record(self, start: float, audio: float, motion: float, draw: float, end: float) -> None:
        """One frame: when it started, and when each stage and the whole was done (seconds, perf_counter)."""
        row = self._times[self._frames % _KEPT]
        row[0], row[1], row[2], row[3] = audio - start, motion - audio, draw - motion, end - start
        self._frames += 1

    def clear(self) -> None:
        self._frames = 0

    def stats(self) -> Stats:
        """Percentiles of what is kept."""
        times = self._times[: min(self._frames, _KEPT)] * 1000
        stages = {}
        for name, column in zip(STAGES, times.T if len(times) else (), strict=False):
            p50, p95, p99 = np.percentile(column, (50, 95, 99))
            stages[name] = StageStats(float(column.mean()), float(p50), float(p95), float(p99))
        return Stats(self._frames, stages)
