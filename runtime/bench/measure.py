"""Stages and calibration in turn, in processor time: what the gate compares.

Processor time on a shared machine has a floor, reached when no neighbour presses on the shared caches, and a tail of
any length above it; and neighbours change within seconds. So a round is short: a stage is called a few times in a row,
which puts its weights into the caches whatever ran before, between runs of the calibration, and the lowest of each
counts. What a stage cost beside its calibration is known for every round by itself. The picture is the same in every
call.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..avatar import Avatar
from ..model import Model
from .calibration import Calibration
from .overhead import StepOverhead
from .probe import KERNELS, Probe

AUDIO, MOTION, DRAW, OVERHEAD = "audio", "motion", "draw", "overhead"
GATED = (AUDIO, MOTION, DRAW, OVERHEAD)
ROUNDS = 25
_WARM_UP = 12  # frames, the last of which is drawn again and again
_CALLS = {AUDIO: 6, MOTION: 6, DRAW: 3, OVERHEAD: 4}  # motion takes what audio has encoded: no more than that
_PASSES = 2  # of the yardstick of memory, behind a stage's calls
_CALIBRATIONS = 2  # before a stage's calls and after them; between them they would drive its weights out of the caches

Extra = Callable[[str], None]
"""Called with a stage's name inside the time that is taken for it: how a demonstration adds work to a stage."""


@dataclass(frozen=True)
class Seen:
    """A stage or kernel in one round: processor milliseconds of its lowest call, of the arithmetic of the calibration
    around it and of its yardstick of memory."""

    ms: float
    arithmetic: float
    memory: float


Rounds = Mapping[str, Sequence[Seen]]
"""What one load of the bundle cost: stages and kernels by name."""


class Costs:
    """The stages of one bundle, ready to be measured."""

    def __init__(self, model: Model, extra: Extra | None = None) -> None:
        self._probe = Probe(model, extra=extra)
        self._calibration = Calibration()
        stages: dict[str, Callable[[], float]] = {
            AUDIO: lambda: _timed(self._probe.encode),
            MOTION: lambda: _timed(self._probe.move),
            DRAW: lambda: _timed(self._probe.redraw),
        }
        if model.manifest.audio is None:
            del stages[AUDIO]
        else:
            step = StepOverhead(Avatar(model, width=64, height=64))
            stages[OVERHEAD] = lambda: step.outside(extra)
        self._stages: Mapping[str, Callable[[], float]] = stages
        for _ in range(_WARM_UP):
            self._probe.frame()
        self.measure(rounds=2)

    @property
    def names(self) -> tuple[str, ...]:
        """Stages that a bundle has: one without encoder has neither audio nor steps."""
        return tuple(self._stages)

    def measure(self, names: Collection[str] | None = None, rounds: int = ROUNDS) -> Rounds:
        """What these stages cost (all by default), and with draw its kernels."""
        wanted = self.names if names is None else names
        needed = {*wanted, AUDIO} if MOTION in wanted else wanted  # motion takes what audio has encoded
        found: dict[str, list[Seen]] = defaultdict(list)
        for _ in range(rounds):
            for name in self._stages:
                if name not in needed:
                    continue
                for part, seen in self._round(name).items():
                    if name in wanted:
                        found[part].append(seen)
        return dict(found)

    def _round(self, name: str) -> Mapping[str, Seen]:
        """One stage, and with draw its kernels."""
        arithmetic = [self._calibration.run() for _ in range(_CALIBRATIONS)]
        calls: dict[str, list[float]] = defaultdict(list)
        for _ in range(_CALLS[name]):
            calls[name].append(self._stages[name]())
            if name == DRAW:
                for kernel, ms in zip(KERNELS, self._probe.kernels, strict=True):
                    calls[kernel].append(ms)
        memory = min(sum(self._calibration.memory()) for _ in range(_PASSES))
        arithmetic += [self._calibration.run() for _ in range(_CALIBRATIONS)]
        least = float(np.min(arithmetic, axis=0).sum())  # of each kind
        return {part: Seen(min(times), least, memory) for part, times in calls.items()}


def _timed(call: Callable[[], None]) -> float:
    start = time.thread_time_ns()
    call()
    return 1e-6 * (time.thread_time_ns() - start)
