"""The gate: a stage that costs more than it did, in the weather of the baseline, fails.

Every round of measure.py is judged by its own weather, and a load of the bundle costs the lower quartile of its rounds.
The bundle is loaded several times, because where arrays happen to lie in memory changes what a stage costs by a few
per cent, and stays what it is until they are made again; a stage costs the lower quartile of the loads. Most of what
disturbs makes a stage dearer, but the lowest of all would be cheaper the more loads there are. A stage above its limit
after `LEAST_LOADS` is measured again, up to `MOST_LOADS`, because a regression is there every time and a disturbance
is not.

A stage is partly arithmetic, which costs what the processor's clock says, and partly waits for a cache that neighbours
share. How much of it follows the yardstick of memory is measured with the baseline, half of whose loads are taken
beside a process that presses on the cache: `follows`. The weather of a round is what the same code would cost in it, as
a share of what it cost then: (1 - follows) · arithmetic + follows · memory, each in units of the baseline's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ControlError, OutputError
from ..output import check_output, partial_name
from .machine import Machine
from .measure import AUDIO, DRAW, MOTION, OVERHEAD, Costs, Rounds, Seen
from .neighbour import pressing_neighbour
from .probe import KERNELS

LEAST_LOADS, MOST_LOADS = 5, 15
_QUARTILE = 25
_BASELINE_LOADS = 10  # alone, and as many beside a neighbour
TOLERANCE = 0.06
FOREIGN_TOLERANCE = 0.6  # against the baseline of another kind of machine: only gross losses can be told
_OVERHEAD_SHARE = 5  # times the tolerance: a quarter of a millisecond of Python varies more than the stages do
_SCHEMA = 4
# What `follows` is taken for where the neighbour hardly moves the yardstick; elsewhere it weighs as much as a change of
# _STILL would.
_USUAL = {AUDIO: 0.5, MOTION: 0.05, DRAW: 0.08, OVERHEAD: 0.3}
_STILL = 0.02

Load = Callable[[], Costs]
"""Loads the bundle and makes its stages ready."""


@dataclass(frozen=True)
class StageBaseline:
    """What a stage or kernel cost there and then, `ms`, beside arithmetic and a yardstick of memory of so much, all in
    processor milliseconds. follows: share of it that goes with the yardstick, 0…1."""

    ms: float
    arithmetic: float
    memory: float
    follows: float

    @staticmethod
    def measured(name: str, loads: Sequence[Rounds]) -> StageBaseline:
        """That of some loads."""
        quartiles = [np.percentile([astuple(seen) for seen in load[name]], _QUARTILE, axis=0) for load in loads]
        # Between the loads alone and those beside the neighbour; a median would be at the edge of either.
        middle = Seen(*np.percentile(quartiles, (25, 75), axis=0).mean(axis=0).tolist())
        follows = _follows(name, [Seen(*quartile.tolist()) for quartile in quartiles], middle)
        draft = StageBaseline(middle.ms, middle.arithmetic, middle.memory, follows)
        return replace(draft, ms=draft.cost(loads, name))

    def cost(self, loads: Sequence[Rounds], name: str) -> float:
        """Milliseconds that it would have cost in the weather of the baseline."""
        return _of_loads([seen.ms / self._weather(seen) for seen in load[name]] for load in loads if name in load)

    def _weather(self, seen: Seen) -> float:
        return (1 - self.follows) * seen.arithmetic / self.arithmetic + self.follows * seen.memory / self.memory


def _of_loads(loads: Iterable[Sequence[float]]) -> float:
    """The lower quartile of the loads, each being the lower quartile of its rounds."""
    return float(np.percentile([np.percentile(rounds, _QUARTILE) for rounds in loads], _QUARTILE))


def _follows(name: str, loads: Sequence[Seen], middle: Seen) -> float:
    """Slope of a stage or kernel over the yardstick, both beyond the arithmetic, by least squares."""
    usual = _USUAL[name if name in _USUAL else DRAW]
    if middle.ms == 0:
        return usual
    ms, arithmetic, memory = (np.array([astuple(load) for load in loads]) / astuple(middle)).T
    memory, ms = memory - arithmetic, ms - arithmetic
    slope = (usual * _STILL**2 + np.mean(memory * ms)) / (_STILL**2 + np.mean(memory * memory))
    return float(np.clip(slope, 0, 1))


@dataclass(frozen=True)
class Baseline:
    """What the stages and kernels of a bundle cost on one kind of machine."""

    machine: str
    bundle: str
    stages: Mapping[str, StageBaseline]

    @staticmethod
    def measured(load: Load, bundle: str) -> Baseline:
        """That of this machine, now."""
        loads = []
        for _ in range(_BASELINE_LOADS):  # in turn: other neighbours come and go
            loads.append(load().measure())
            with pressing_neighbour():
                loads.append(load().measure())
        stages = {name: StageBaseline.measured(name, loads) for name in loads[0]}
        return Baseline(Machine.here().key, bundle, stages)


@dataclass(frozen=True)
class Verdict:
    """One stage: milliseconds in the weather of the baseline, in the baseline and at most; those that were measured
    (the same statistic), and the kernels that grew with it."""

    stage: str
    cost: float
    baseline: float
    limit: float
    ms: float
    grown: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.cost <= self.limit

    @property
    def change(self) -> float:
        """Share by which it costs more than the baseline."""
        return self.cost / self.baseline - 1

    def line(self) -> str:
        """For people: `draw      +11.2%  FAIL …`."""
        where = f" (kernels: {', '.join(self.grown)})" if self.grown else ""
        bound = f"limit {self.limit / self.baseline - 1:+.1%}"
        return (
            f"{self.stage:<10}{self.change:>+8.1%}  {'ok' if self.passed else 'FAIL'}  {bound}, {self.ms:.2f} ms{where}"
        )


def check(load: Load, baseline: Baseline, tolerance: float = TOLERANCE) -> list[Verdict]:
    """A verdict for every stage. tolerance: share by which a stage may cost more."""
    costs = load()
    names, loads = costs.names, [costs.measure()]
    while len(loads) < LEAST_LOADS:
        loads.append(load().measure())
    while True:
        verdicts = [_verdict(loads, name, baseline, tolerance) for name in names]
        failed = tuple(verdict.stage for verdict in verdicts if not verdict.passed)
        if not failed or len(loads) == MOST_LOADS:
            return verdicts
        loads.append(load().measure(failed))


def _verdict(loads: Sequence[Rounds], name: str, baseline: Baseline, tolerance: float) -> Verdict:
    before = baseline.stages[name].ms
    cost = baseline.stages[name].cost(loads, name)
    limit = before * (1 + tolerance * (_OVERHEAD_SHARE if name == OVERHEAD else 1))
    grown = () if name != DRAW or cost <= limit else _grown(loads, baseline, tolerance)
    measured = _of_loads([seen.ms for seen in rounds[name]] for rounds in loads if name in rounds)
    return Verdict(name, cost, before, limit, measured, grown)


def _grown(loads: Sequence[Rounds], baseline: Baseline, tolerance: float) -> tuple[str, ...]:
    known = [name for name in KERNELS if name in baseline.stages and baseline.stages[name].ms > 0]
    changes = {name: baseline.stages[name].cost(loads, name) / baseline.stages[name].ms - 1 for name in known}
    return tuple(f"{name} {change:+.0%}" for name, change in changes.items() if change > tolerance)


def read_baseline(path: Path, bundle: str) -> tuple[Baseline, bool]:
    """The baseline of this bundle for this kind of machine, True; else that of another kind of machine, False.

    Raises ControlError if the file cannot be used or knows nothing of the bundle.
    """
    cure = f"write one with emotag-bench BUNDLE --write-baseline {path}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = int(content["schema"])
        if schema != _SCHEMA:
            raise ControlError(f"{path} is a baseline of format {schema}, this emotag reads {_SCHEMA}: {cure}")
        entries = [_baseline(entry) for entry in content["entries"]]
    except OSError as error:
        raise ControlError(f"{path} cannot be read ({error.strerror}): {cure}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ControlError(f"{path} is not a baseline of this version: {cure}") from None
    known = [entry for entry in entries if entry.bundle == bundle]
    if not known:
        raise ControlError(f"{path} has no baseline for the bundle {bundle!r}: {cure}")
    key = Machine.here().key
    ours = [entry for entry in known if entry.machine == key]
    return (ours[0], True) if ours else (known[0], False)


def _baseline(entry: Any) -> Baseline:
    stages = {
        name: StageBaseline(**{key: float(value) for key, value in s.items()}) for name, s in entry["stages"].items()
    }
    for stage in stages.values():
        calibrated = 0 < stage.arithmetic < math.inf and 0 < stage.memory < math.inf  # NaN is neither
        if not (calibrated and 0 <= stage.ms < math.inf and 0 <= stage.follows <= 1):
            raise ValueError
    return Baseline(str(entry["machine"]), str(entry["bundle"]), stages)


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Puts `baseline` into the file, in the place of that of the same bundle and machine. Raises OutputError."""
    check_output(path, ".json")
    entries: list[Any] = []
    if path.exists():
        try:
            former = json.loads(path.read_text(encoding="utf-8"))
            entries = former["entries"] if former["schema"] == _SCHEMA else []  # other units: of no use any more
            entries = [e for e in entries if (e["machine"], e["bundle"]) != (baseline.machine, baseline.bundle)]
        except (ValueError, KeyError, TypeError):
            raise OutputError(f"{path} exists and is not a baseline: name another file") from None
    content = {"schema": _SCHEMA, "entries": [*entries, asdict(baseline)]}
    partial = partial_name(path)
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)
