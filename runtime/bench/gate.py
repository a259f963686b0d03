"""The gate: a stage that costs more than it did, in the weather of the baseline, fails.

What is compared are the floors of measure.py, the lowest of several loads of the bundle: where arrays happen to lie in
memory changes what a stage costs by a few per cent, and stays what it is until they are made again. A stage above its
limit after three loads is measured again, up to `ATTEMPTS` times in all, because a regression is there every time and a
disturbance is not. The lowest of the stage, of the calibration and of its yardstick of memory are compared, from
whichever attempt each comes: in one and the same, an attempt whose calibration alone was disturbed would make a stage
look cheap.

A stage is partly arithmetic, which costs what the processor's clock says, and partly waits for a cache that neighbours
share. How much of it follows the yardstick of memory is measured with the baseline, which is taken alone and beside a
process that presses on the cache: `follows`. Its weather is what the same code would cost now, as a share of what it
cost then: (1 - follows) · arithmetic + follows · memory, each in units of the baseline's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from ..errors import ControlError, OutputError
from ..output import check_output, partial_name
from .machine import Machine
from .measure import AUDIO, DRAW, MOTION, OVERHEAD, Costs, Floors
from .neighbour import pressing_neighbour
from .probe import KERNELS

ATTEMPTS = 20
_BASELINE_LOADS = 3  # alone, and as many beside a neighbour
_LEAST_LOADS = 3  # a single one whose calibration was disturbed would let a regression pass
TOLERANCE = 0.06
FOREIGN_TOLERANCE = 0.6  # against the baseline of another kind of machine: only gross losses can be told
_OVERHEAD_SHARE = 5  # times the tolerance: a quarter of a millisecond of Python varies more than the stages do
_SCHEMA = 3
# What `follows` is taken for where the neighbour hardly moves the yardstick; elsewhere it weighs as much as a change of
# _STILL would.
_USUAL = {AUDIO: 0.5, MOTION: 0.05, DRAW: 0.08, OVERHEAD: 0.3}
_STILL = 0.1

Load = Callable[[], Costs]
"""Loads the bundle and makes its stages ready."""


@dataclass(frozen=True)
class StageBaseline:
    """ms: processor milliseconds there and then. follows: share of it that goes with the yardstick of memory, 0…1."""

    ms: float
    follows: float


@dataclass(frozen=True)
class Baseline:
    """What the stages and kernels of a bundle cost on one kind of machine, beside arithmetic and a yardstick of memory
    of so many processor milliseconds."""

    machine: str
    bundle: str
    arithmetic: float
    memory: float
    stages: Mapping[str, StageBaseline]

    @staticmethod
    def measured(load: Load, bundle: str) -> Baseline:
        """That of this machine, now: the lowest of several loads alone and several beside a neighbour."""
        alone, pressed = [], []
        for _ in range(_BASELINE_LOADS):  # in turn: other neighbours come and go
            alone.append(load().measure())
            with pressing_neighbour():
                pressed.append(load().measure())
        quiet, busy = reduce(Floors.lower, alone), reduce(Floors.lower, pressed)
        base = quiet.lower(busy)
        stages = {name: StageBaseline(ms, _follows(name, base, quiet, busy)) for name, ms in base.ms.items()}
        return Baseline(Machine.here().key, bundle, base.arithmetic, base.memory, stages)

    def cost(self, found: Floors, name: str) -> float:
        """Milliseconds that a stage or kernel would have cost in the weather of the baseline."""
        follows = self.stages[name].follows
        arithmetic, memory = found.arithmetic / self.arithmetic, found.memory / self.memory
        return found.ms[name] / ((1 - follows) * arithmetic + follows * memory)


def _follows(name: str, base: Floors, *seen: Floors) -> float:
    """Slope of a stage or kernel over the yardstick, both beyond the arithmetic, by least squares."""
    usual = _USUAL[name if name in _USUAL else DRAW]
    if base.ms[name] == 0:
        return usual
    above, below = usual * _STILL**2, _STILL**2
    for floors in seen:
        arithmetic = floors.arithmetic / base.arithmetic
        memory = floors.memory / base.memory - arithmetic
        above += memory * (floors.ms[name] / base.ms[name] - arithmetic)
        below += memory**2
    return min(max(above / below, 0.0), 1.0)


@dataclass(frozen=True)
class Verdict:
    """One stage: milliseconds in the weather of the baseline, in the baseline and at most; those that were measured,
    and the kernels that grew with it."""

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
    names, found = costs.names, costs.measure()
    for _ in range(_LEAST_LOADS - 1):
        found = found.lower(load().measure())
    for attempt in range(_LEAST_LOADS, ATTEMPTS + 1):
        verdicts = [_verdict(found, name, baseline, tolerance) for name in names]
        failed = tuple(verdict.stage for verdict in verdicts if not verdict.passed)
        if not failed or attempt == ATTEMPTS:
            break
        found = found.lower(load().measure(failed))
    return verdicts


def _verdict(found: Floors, name: str, baseline: Baseline, tolerance: float) -> Verdict:
    before, cost = baseline.stages[name].ms, baseline.cost(found, name)
    limit = before * (1 + tolerance * (_OVERHEAD_SHARE if name == OVERHEAD else 1))
    grown = () if name != DRAW or cost <= limit else _grown(found, baseline, tolerance)
    return Verdict(name, cost, before, limit, found.ms[name], grown)


def _grown(found: Floors, baseline: Baseline, tolerance: float) -> tuple[str, ...]:
    known = [name for name in KERNELS if name in baseline.stages and baseline.stages[name].ms > 0]
    changes = {name: baseline.cost(found, name) / baseline.stages[name].ms - 1 for name in known}
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
    stages = {name: StageBaseline(float(s["ms"]), float(s["follows"])) for name, s in entry["stages"].items()}
    arithmetic, memory = float(entry["arithmetic"]), float(entry["memory"])
    usable = all(0 <= stage.ms < math.inf and 0 <= stage.follows <= 1 for stage in stages.values())
    if not (usable and 0 < arithmetic < math.inf and 0 < memory < math.inf):  # NaN is none of these
        raise ValueError
    return Baseline(str(entry["machine"]), str(entry["bundle"]), arithmetic, memory, stages)


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
