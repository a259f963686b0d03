"""Stages and calibration in turn, in processor time, and the statistic that the gate compares.

Processor time on a shared machine has a floor, reached when no neighbour presses on the shared caches, and a tail of
any length above it. The longer a call, the less often it finds a quiet moment from end to end. So what can be cut is
taken in pieces, the same ones in every call: the chunks of a picture (the same picture every time), the stretches of a
step between its stages, the kinds of calibration. The statistic of each piece is a low percentile over many short
rounds, and a stage costs the sum of its pieces': a neighbour that leaves quiet moments does not show, and one that
never does slows the calibration or its yardstick of memory too. Each stage runs a few times in a row, so that its
weights are in the caches whatever ran before, and so does the yardstick behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..avatar import Avatar
from ..model import Model
from .calibration import Calibration
from .overhead import StepOverhead
from .probe import KERNELS, Probe

AUDIO, MOTION, DRAW, OVERHEAD = "audio", "motion", "draw", "overhead"
GATED = (AUDIO, MOTION, DRAW, OVERHEAD)
ROUNDS = 25
FLOOR = 1  # percentile
_WARM_UP = 12  # frames, the last of which is drawn again and again
_CALLS = {AUDIO: 6, MOTION: 6, DRAW: 3, OVERHEAD: 4}
_PASSES = 2  # of the yardstick of memory, behind a stage's calls
_CALIBRATIONS = 2  # before a stage's calls and after them; between them they would drive its weights out of the caches

Extra = Callable[[str], None]
"""Called with a stage's name inside the time that is taken for it: how a demonstration adds work to a stage."""


@dataclass(frozen=True)
class Floors:
    """The least that stages and kernels (by name), the arithmetic of the calibration and its yardstick of memory cost,
    in processor milliseconds."""

    ms: Mapping[str, float]
    arithmetic: float
    memory: float


@dataclass
class Samples:
    """Processor milliseconds of single calls in pieces, by stage or kernel, and of single calibrations."""

    calls: dict[str, list[Sequence[float]]] = field(default_factory=dict)
    arithmetic: list[Sequence[float]] = field(default_factory=list)
    memory: list[Sequence[float]] = field(default_factory=list)

    def add(self, name: str, pieces: Sequence[float]) -> None:
        self.calls.setdefault(name, []).append(pieces)

    def floors(self) -> Floors:
        """The statistic."""
        ms = {name: _floor(times) for name, times in self.calls.items()}
        return Floors(ms, _floor(self.arithmetic), _floor(self.memory))


class Costs:
    """The stages of one bundle, ready to be measured."""

    def __init__(self, model: Model, extra: Extra | None = None) -> None:
        self._probe = Probe(model, extra=extra)
        self._calibration = Calibration()
        stages: dict[str, Callable[[], Sequence[float]]] = {
            AUDIO: lambda: _timed(self._probe.encode),
            MOTION: lambda: _timed(self._probe.move),
            DRAW: self._probe.redraw,
        }
        if model.manifest.audio is None:
            del stages[AUDIO]
        else:
            step = StepOverhead(Avatar(model, width=64, height=64))
            stages[OVERHEAD] = lambda: step.stretches(extra)
        self._stages: Mapping[str, Callable[[], Sequence[float]]] = stages
        for _ in range(_WARM_UP):
            self._probe.frame()
        for _ in range(2):
            self._round(Samples(), self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Stages that a bundle has: one without encoder has neither audio nor steps."""
        return tuple(self._stages)

    def measure(self, names: Collection[str] | None = None, rounds: int = ROUNDS) -> Floors:
        """What these stages cost (all by default), and with draw its kernels."""
        samples = Samples()
        for _ in range(rounds):
            self._round(samples, self.names if names is None else names)
        return samples.floors()

    def _round(self, samples: Samples, names: Collection[str]) -> None:
        needed = {*names, AUDIO} if MOTION in names else names  # motion takes what audio has encoded
        for name, stage in self._stages.items():
            if name not in needed:
                continue
            self._calibrate(samples)
            for _ in range(_CALLS[name]):
                pieces = stage()
                if name in names:
                    samples.add(name, pieces)
                if name == DRAW:
                    for kernel, part in zip(KERNELS, self._probe.kernels, strict=True):
                        samples.add(kernel, [part])
            samples.memory += [self._calibration.memory() for _ in range(_PASSES)]
            self._calibrate(samples)

    def _calibrate(self, samples: Samples) -> None:
        samples.arithmetic += [self._calibration.run() for _ in range(_CALIBRATIONS)]


def _floor(calls: Sequence[Sequence[float]]) -> float:
    """The floors of the pieces, added up."""
    return float(np.percentile(np.array(calls), FLOOR, axis=0).sum())


def _timed(call: Callable[[], None]) -> Sequence[float]:
    start = time.thread_time_ns()
    call()
    return (1e-6 * (time.thread_time_ns() - start),)
