"""Stages and calibration in turn, in processor time, and the statistic that the gate compares.

Processor time on a shared machine has a floor, reached when no neighbour presses on the shared caches, and a tail of
any length above it. So the statistic is a low percentile of the single calls over many short rounds, of the stages and
of the calibration alike: a neighbour that leaves quiet moments does not show, and one that never does slows both.
Each stage runs a few times in a row, so that its weights are in the caches whatever ran before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..avatar import Avatar
from ..model import Model
from .calibration import Calibration
from .overhead import StepOverhead
from .probe import KERNELS, Probe

AUDIO, MOTION, DRAW, OVERHEAD = "audio", "motion", "draw", "overhead"
GATED = (AUDIO, MOTION, DRAW, OVERHEAD)
ROUNDS = 40
FLOOR = 3  # percentile
_CALLS = {AUDIO: 6, MOTION: 6, DRAW: 3, OVERHEAD: 3}

Extra = Callable[[str], None]
"""Called with a stage's name inside the time that is taken for it: how a demonstration adds work to a stage."""


@dataclass(frozen=True)
class Cost:
    """Of one stage or kernel: the floor of its processor milliseconds, and that in units of the calibration's floor."""

    ms: float
    ratio: float


@dataclass
class Samples:
    """Processor milliseconds of single calls, by stage or kernel, and of single calibrations."""

    calls: dict[str, list[float]] = field(default_factory=dict)
    calibrations: list[float] = field(default_factory=list)

    def add(self, name: str, ms: float) -> None:
        self.calls.setdefault(name, []).append(ms)

    def costs(self) -> dict[str, Cost]:
        """The statistic."""
        unit = _floor(self.calibrations)
        floors = {name: _floor(times) for name, times in self.calls.items()}
        return {name: Cost(ms, ms / unit) for name, ms in floors.items()}


class Costs:
    """The stages of one bundle, ready to be measured."""

    def __init__(self, model: Model, extra: Extra | None = None) -> None:
        self._probe = Probe(model, extra=extra)
        self._calibration = Calibration()
        stages: dict[str, Callable[[], float]] = {
            AUDIO: lambda: _timed(self._probe.encode),
            MOTION: lambda: _timed(self._probe.move),
            DRAW: lambda: _timed(self._probe.draw),
        }
        if model.manifest.audio is None:
            del stages[AUDIO]
        else:
            step = StepOverhead(Avatar(model, width=64, height=64))
            stages[OVERHEAD] = lambda: step.step(extra)[0]
        self._stages: Mapping[str, Callable[[], float]] = stages
        for _ in range(3):
            self._round(Samples(), self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Stages that a bundle has: one without encoder has neither audio nor steps."""
        return tuple(self._stages)

    def measure(self, names: Collection[str] | None = None, rounds: int = ROUNDS) -> dict[str, Cost]:
        """What these stages cost (all by default), and with draw its kernels."""
        samples = Samples()
        for _ in range(rounds):
            self._round(samples, self.names if names is None else names)
        return samples.costs()

    def _round(self, samples: Samples, names: Collection[str]) -> None:
        needed = {*names, AUDIO} if MOTION in names else names  # motion takes what audio has encoded
        for name, stage in self._stages.items():
            if name not in needed:
                continue
            samples.calibrations.append(self._calibration.run())
            for _ in range(_CALLS[name]):
                ms = stage()
                if name in names:
                    samples.add(name, ms)
                if name == DRAW:
                    for kernel, part in zip(KERNELS, self._probe.kernels, strict=True):
                        samples.add(kernel, part)
            samples.calibrations.append(self._calibration.run())


def _floor(times: list[float]) -> float:
    return float(np.percentile(times, FLOOR))


def _timed(call: Callable[[], None]) -> float:
    start = time.thread_time_ns()
    call()
    return 1e-6 * (time.thread_time_ns() - start)
