"""The gate: a stage that costs more than it did, in the weather of the baseline, fails.

Every round of measure.py is judged by its own weather, and a load of the bundle costs the lower quartile of its rounds.
The bundle is loaded several times, because where arrays happen to lie in memory changes what a stage costs by a few
per cent, and stays what it is until they are made again; a stage costs the lower quartile of the loads. Most of what
disturbs makes a stage dearer, but the lowest of all would be cheaper the more loads there are. A stage above its limit
after `LEAST_LOADS` is measured again, up to `MOST_LOADS`, because a regression is there every time and a disturbance
is not.

The weather of a round is what its calibration cost: arithmetic, which goes with the clock of the processor, and the
yardstick of memory, which goes with what neighbours leave of the shared cache. What a stage costs in each weather is
measured with the baseline, half of whose loads are taken beside a process that presses on that cache. It is neither
the same for all stages nor a straight line: nothing is lost until weights no longer fit. So a baseline has a curve for
every stage, over the yardstick in units of the arithmetic, and a round costs so many times what the curve says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ControlError, OutputError
from ..output import check_output, partial_name
from .machine import Machine
from .measure import DRAW, OVERHEAD, Costs, Rounds, Seen
from .neighbour import pressing_neighbour
from .probe import KERNELS

LEAST_LOADS, MOST_LOADS = 5, 15
_QUARTILE = 25
_BASELINE_LOADS = 10  # alone, and as many beside a neighbour
TOLERANCE = 0.06
FOREIGN_TOLERANCE = 0.6  # against the baseline of another kind of machine: only gross losses can be told
_OVERHEAD_SHARE = 5  # times the tolerance: a quarter of a millisecond of Python varies more than the stages do
_SCHEMA = 4
_KNOTS = 6  # of a curve: 80 rounds each
_TINY = 1e-9
_LEAST_KERNEL = 0.01  # ms: of less, the clock says nothing

Load = Callable[[], Costs]
"""Loads the bundle and makes its stages ready."""


@dataclass(frozen=True)
class StageBaseline:
    """What a stage or kernel cost in each weather.

    arithmetic: processor milliseconds of the calibration. memory: the yardstick in units of that, ascending. ms: what
    the stage cost there, in processor milliseconds where arithmetic cost `arithmetic`. Before the curve it costs what
    it does at its beginning; behind its end it goes on as from the one to the other, but not faster than the yardstick.
    """

    arithmetic: float
    memory: tuple[float, ...]
    ms: tuple[float, ...]

    @staticmethod
    def measured(name: str, alone: Sequence[Rounds], pressed: Sequence[Rounds]) -> StageBaseline:
        """That of loads alone and beside a neighbour: the lower quartile of rounds in like weather."""
        loads = [*alone, *pressed]
        ms, arithmetic, memory = np.array([astuple(seen) for load in loads for seen in load[name]]).T
        usual = float(np.median(arithmetic))
        bins = np.array_split(np.argsort(memory / arithmetic), _KNOTS)
        knots = [float(np.median((memory / arithmetic)[rounds])) for rounds in bins]
        costs = [float(np.percentile((ms / arithmetic * usual)[rounds], _QUARTILE)) for rounds in bins]
        draft = StageBaseline(usual, tuple(knots), tuple(costs))
        scale = draft.change(alone, name) + 1  # so that these are no change: a stage is mostly judged alone
        return replace(draft, ms=tuple(cost * scale for cost in draft.ms))

    @property
    def typical(self) -> float:
        """Milliseconds in the middle of the curve."""
        return float(np.median(self.ms))

    def change(self, loads: Sequence[Rounds], name: str) -> float:
        """Share by which it costs more than it did: the lower quartile of the loads, of each that of its rounds."""
        of_loads = [
            np.percentile([self._times(seen) for seen in load[name]], _QUARTILE) for load in loads if name in load
        ]
        return float(np.percentile(of_loads, _QUARTILE)) - 1

    def knows(self, loads: Sequence[Rounds], name: str) -> bool:
        """Whether most rounds were in weather that the curve is about."""
        ratios = [seen.memory / seen.arithmetic for load in loads if name in load for seen in load[name]]
        return self.memory[0] <= float(np.median(ratios)) <= self.memory[-1]

    def _times(self, seen: Seen) -> float:
        memory = seen.memory / seen.arithmetic
        then = float(np.interp(memory, self.memory, self.ms))
        if memory > self.memory[-1]:
            slope = (self.ms[-1] - self.ms[0]) / max(self.memory[-1] - self.memory[0], _TINY)
            beyond = self.ms[-1] + max(slope, 0.0) * (memory - self.memory[-1])
            then = min(beyond, self.ms[-1] * memory / self.memory[-1])
        return seen.ms / seen.arithmetic * self.arithmetic / max(then, _TINY)


@dataclass(frozen=True)
class Baseline:
    """What the stages and kernels of a bundle cost on one kind of machine."""

    machine: str
    bundle: str
    stages: Mapping[str, StageBaseline]

    @staticmethod
    def measured(load: Load, bundle: str) -> Baseline:
        """That of this machine, now."""
        alone, pressed = [], []
        for _ in range(_BASELINE_LOADS):  # in turn: other neighbours come and go
            alone.append(load().measure())
            with pressing_neighbour():
                pressed.append(load().measure())
        stages = {name: StageBaseline.measured(name, alone, pressed) for name in alone[0]}
        return Baseline(Machine.here().key, bundle, stages)


@dataclass(frozen=True)
class Verdict:
    """One stage: the share by which it costs more than in the baseline and may at most, in the same weather; processor
    milliseconds that were measured, and typical ones of the baseline; whether the baseline knows such weather; and the
    kernels that grew with it."""

    stage: str
    change: float
    limit: float
    ms: float
    baseline: float
    known_weather: bool = True
    grown: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.change <= self.limit

    def line(self) -> str:
        """For people: `draw      +11.2%  FAIL …`."""
        where = f" (kernels: {', '.join(self.grown)})" if self.grown else ""
        bound = f"limit {self.limit:+.1%}, {self.ms:.2f} ms, {self.baseline:.2f} in the baseline"
        weather = "" if self.known_weather else "; the baseline knows no such weather: write it anew"
        return f"{self.stage:<10}{self.change:>+8.1%}  {'ok' if self.passed else 'FAIL'}  {bound}{where}{weather}"


def check(load: Load, baseline: Baseline, tolerance: float = TOLERANCE) -> list[Verdict]:
    """A verdict for every stage. tolerance: share by which a stage may cost more.

    Raises ControlError if the baseline lacks a stage, as that of a bundle of the same name that was made otherwise.
    """
    costs = load()
    names = costs.names
    if missing := [name for name in names if name not in baseline.stages]:
        raise ControlError(
            f"the baseline of {baseline.bundle!r} has no {', '.join(missing)}: it is of another bundle of that name; "
            "write it anew with emotag-bench BUNDLE --write-baseline"
        )
    loads = [costs.measure()]
    while len(loads) < LEAST_LOADS:
        loads.append(load().measure())
    while True:
        verdicts = [_verdict(loads, name, baseline, tolerance) for name in names]
        failed = tuple(verdict.stage for verdict in verdicts if not verdict.passed)
        if not failed or len(loads) == MOST_LOADS:
            return verdicts
        loads.append(load().measure(failed))


def _verdict(loads: Sequence[Rounds], name: str, baseline: Baseline, tolerance: float) -> Verdict:
    stage = baseline.stages[name]
    change, limit = stage.change(loads, name), tolerance * (_OVERHEAD_SHARE if name == OVERHEAD else 1)
    grown = () if name != DRAW or change <= limit else _grown(loads, baseline, tolerance)
    ms = float(np.percentile([seen.ms for load in loads if name in load for seen in load[name]], _QUARTILE))
    return Verdict(name, change, limit, ms, stage.typical, stage.knows(loads, name), grown)


def _grown(loads: Sequence[Rounds], baseline: Baseline, tolerance: float) -> tuple[str, ...]:
    known = [name for name in KERNELS if name in baseline.stages and baseline.stages[name].typical > _LEAST_KERNEL]
    changes = {name: baseline.stages[name].change(loads, name) for name in known}
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
        name: StageBaseline(float(s["arithmetic"]), tuple(map(float, s["memory"])), tuple(map(float, s["ms"])))
        for name, s in entry["stages"].items()
    }
    for stage in stages.values():
        values = np.array([*stage.memory, *stage.ms, stage.arithmetic])
        curve = len(stage.memory) == len(stage.ms) > 1 and (np.diff(stage.memory) > 0).all()
        usable = np.isfinite(values).all() and (values >= 0).all() and stage.arithmetic > 0
        if not (curve and usable and stage.memory[0] > 0):
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
