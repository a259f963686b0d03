"""Stages and calibration in turn, frame by frame, in processor time; medians within a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..avatar import Avatar
from ..model import Model
from .calibration import Calibration
from .overhead import StepOverhead
from .probe import KERNELS, STAGES, Probe

OVERHEAD = "overhead"
GATED = (*STAGES, OVERHEAD)
_WARM_UP = 12

Extra = Callable[[str], None]
"""Called with a stage's name inside the time that is taken for it: how a demonstration adds work to a stage."""


@dataclass(frozen=True)
class Round:
    """Medians over the frames of one round: processor milliseconds of each stage and kernel, and of the calibration."""

    stages: Mapping[str, float]
    calibration: float

    def ratio(self, name: str) -> float:
        """What a stage costs in units of the calibration."""
        return self.stages[name] / self.calibration


class Costs:
    """The stages of one bundle, ready to be measured round by round."""

    def __init__(self, model: Model, extra: Extra | None = None) -> None:
        self._probe = Probe(model, extra=extra)
        self._calibration = Calibration()
        self._step = None if model.manifest.audio is None else StepOverhead(Avatar(model, width=64, height=64))
        self._extra = extra
        measure_round(self, _WARM_UP)

    @property
    def names(self) -> tuple[str, ...]:
        """Stages that a bundle has: one without encoder has neither audio nor steps."""
        return GATED if self._step is not None else ("motion", "draw")

    def frame(self) -> tuple[dict[str, float], float]:
        """One frame and one calibration after it: milliseconds of the stages and kernels, and of the calibration."""
        cost = self._probe.frame()
        calibration = sum(self._calibration.run())
        times = {"audio": cost.audio, "motion": cost.motion, "draw": cost.draw}
        times |= dict(zip(KERNELS, cost.kernels, strict=True))
        if self._step is not None:
            times[OVERHEAD] = self._step.step(self._extra)[0]
        return times, calibration


def measure_round(costs: Costs, frames: int) -> Round:
    """Medians over `frames` frames, each followed by a calibration, so that both see the same weather."""
    rows = [costs.frame() for _ in range(frames)]
    stages = {name: float(np.median([times[name] for times, _ in rows])) for name in rows[0][0]}
    return Round(stages, float(np.median([calibration for _, calibration in rows])))
