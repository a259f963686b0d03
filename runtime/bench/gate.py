"""The gate: a stage that costs more than it did, in units of the calibration, fails.

What is compared are the floors of measure.py, the lowest of several loads of the bundle: where arrays happen to lie in
memory changes what a stage costs by a few per cent, and stays what it is until they are made again. A stage above its
limit after three loads is measured again, up to `ATTEMPTS` times in all, because a regression is there every time and a
disturbance is not. The lowest of the stage and the lowest of the calibration are compared, from whichever attempt each
comes: in one and the same, an attempt whose calibration alone was disturbed would make a stage look cheap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from ..errors import ControlError, OutputError
from ..output import check_output, partial_name
from .machine import Machine
from .measure import DRAW, OVERHEAD, Costs, Floors
from .probe import KERNELS

ATTEMPTS = 20
_BASELINE_LOADS = 6
_LEAST_LOADS = 3  # a single one whose calibration was disturbed would let a regression pass
TOLERANCE = 0.06
FOREIGN_TOLERANCE = 0.6  # against the baseline of another kind of machine: only gross losses can be told
_OVERHEAD_SHARE = 5  # times the tolerance: a quarter of a millisecond of Python varies more than the stages do
_SCHEMA = 2

Load = Callable[[], Costs]
"""Loads the bundle and makes its stages ready."""


@dataclass(frozen=True)
class StageBaseline:
    """ratio: in units of the calibration. ms: processor milliseconds there and then, for people."""

    ratio: float
    ms: float


@dataclass(frozen=True)
class Baseline:
    """What the stages and kernels of a bundle cost on one kind of machine."""

    machine: str
    bundle: str
    stages: Mapping[str, StageBaseline]

    @staticmethod
    def measured(load: Load, bundle: str) -> Baseline:
        """That of this machine, now: the lowest of several loads."""
        found = reduce(Floors.lower, (load().measure() for _ in range(_BASELINE_LOADS)))
        stages = {name: StageBaseline(found.ratio(name), ms) for name, ms in found.ms.items()}
        return Baseline(Machine.here().key, bundle, stages)


@dataclass(frozen=True)
class Verdict:
    """One stage: ratio and limit in units of the calibration, its milliseconds, and the kernels that grew with it."""

    stage: str
    ratio: float
    baseline: float
    limit: float
    ms: float
    grown: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.ratio <= self.limit

    @property
    def change(self) -> float:
        """Share by which it costs more than the baseline."""
        return self.ratio / self.baseline - 1

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
    before, ratio = baseline.stages[name], found.ratio(name)
    limit = before.ratio * (1 + tolerance * (_OVERHEAD_SHARE if name == OVERHEAD else 1))
    grown = () if name != DRAW or ratio <= limit else _grown(found, baseline, tolerance)
    return Verdict(name, ratio, before.ratio, limit, found.ms[name], grown)


def _grown(found: Floors, baseline: Baseline, tolerance: float) -> tuple[str, ...]:
    known = [name for name in KERNELS if name in baseline.stages and baseline.stages[name].ratio > 0]
    changes = {name: found.ratio(name) / baseline.stages[name].ratio - 1 for name in known}
    return tuple(f"{name} {change:+.0%}" for name, change in changes.items() if change > tolerance)


def read_baseline(path: Path, bundle: str) -> tuple[Baseline, bool]:
    """The baseline of this bundle for this kind of machine, True; else that of another kind of machine, False.

    Raises ControlError if the file cannot be used or knows nothing of the bundle.
    """
    cure = f"write one with emotag-bench BUNDLE --write-baseline {path}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != _SCHEMA:
            raise ValueError
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
    stages = {name: StageBaseline(float(s["ratio"]), float(s["ms"])) for name, s in entry["stages"].items()}
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
