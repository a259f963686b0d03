"""Where the time of a frame goes. Memory is bounded: the newest few thousand frames are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..plugins.renderer import STAGES as KERNELS

APPEARANCE = "appearance"
STAGES = ("audio", "motion", APPEARANCE, "draw", "step")
_KEPT, _WAITING = 4096, 64


@dataclass(frozen=True)
class StageStats:
    """Wall time of one stage in milliseconds."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Stats:
    """Times of the newest frames. Stages: audio, motion, appearance (the emotional residual of the Gaussians, where it
    is drawn), draw, and step, the whole frame.

    `frames` counts all frames ever made; the percentiles are those of the newest 4096. `kernels` are the parts of draw:
    skin, mouth, project, sort, blend. Where audio has a thread of its own (`render`, pipelined avatars), step is the
    time of the other thread, and audio is not part of it.
    """

    frames: int
    stages: Mapping[str, StageStats]
    kernels: Mapping[str, StageStats]

    @property
    def fps(self) -> float:
        """Frames a second that the mean step makes; 0 before the first frame."""
        step = self.stages.get("step")
        return 1000.0 / step.mean if step and step.mean > 0 else 0.0

    def table(self) -> str:
        """The times as lines of text, one a stage."""
        lines = [f"{'stage':<10}{'mean':>9}{'p50':>9}{'p95':>9}{'p99':>9}  ms"]
        inside = {f"  {name}": s for name, s in self.kernels.items()}
        parts = {name: s for name, s in self.stages.items() if name != "step"}
        for name, s in (parts | inside | {"step": self.stages["step"]} if self.stages else {}).items():
            lines.append(f"{name:<10}{s.mean:>9.2f}{s.p50:>9.2f}{s.p95:>9.2f}{s.p99:>9.2f}")
        lines.append(f"{self.frames} frames, {self.fps:.1f} FPS")
        return "\n".join(lines)


class StageClock:
    """Collects the times of an avatar's frames."""

    def __init__(self) -> None:
        self._times = np.zeros((_KEPT, len(STAGES) + len(KERNELS)))
        # How many rows were ever written there, and those that wait: numpy is slow for one row, and fast for many.
        self._state: tuple[int, list[tuple[float, ...]]] = (0, [])

    def record(
        self, audio: float, motion: float, appearance: float, draw: float, step: float, kernels: Sequence[float]
    ) -> None:
        """One frame: seconds of each stage and of the whole, milliseconds of the kernels in their order."""
        written, waiting = self._state
        waiting.append((audio, motion, appearance, draw, step, *kernels))
        if len(waiting) == _WAITING:
            _write(self._times, written, waiting)
            self._state = written + _WAITING, []

    def stats(self) -> Stats:
        """Percentiles of what is kept."""
        written, waiting = self._state  # another thread may record meanwhile
        waiting = waiting[:]
        frames, times = written + len(waiting), self._times.copy()
        if waiting:
            _write(times, written, waiting)
        times = times[: min(frames, _KEPT)]
        times[:, : len(STAGES)] *= 1000
        columns = dict(zip((*STAGES, *KERNELS), map(_percentiles, times.T), strict=True)) if len(times) else {}
        return Stats(
            frames,
            {name: columns[name] for name in STAGES if columns and (name != APPEARANCE or columns[name].mean > 0)},
            {name: columns[name] for name in KERNELS if columns},
        )


def _write(times: NDArray[np.float64], written: int, rows: Sequence[tuple[float, ...]]) -> None:
    """Rows in place of the oldest. written: how many were before; a multiple of `_WAITING`, so they never wrap."""
    place = written % _KEPT
    times[place : place + len(rows)] = rows


def _percentiles(times: NDArray[np.float64]) -> StageStats:
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    return StageStats(float(times.mean()), float(p50), float(p95), float(p99))
