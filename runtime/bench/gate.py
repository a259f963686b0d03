"""The gate: a stage that costs more than it did, in units of the calibration, fails.

A round is the median over some frames of each stage and of the calibration that runs between them; the statistic is the
median over rounds of their ratio. A stage above its limit is measured again, up to `ATTEMPTS` times in all, because a
regression is there every time and a disturbance is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ControlError, OutputError
from ..output import check_output, partial_name
from .machine import Machine
from .measure import OVERHEAD, Costs, Round, measure_round
from .probe import KERNELS

ROUNDS, FRAMES, ATTEMPTS = 9, 20, 3
TOLERANCE = 0.06
FOREIGN_TOLERANCE = 0.6  # against the baseline of another kind of machine: only gross losses can be told
_OVERHEAD_SLACK_MS = 0.02  # it is so short that the timer's own cost shows
_SCHEMA = 1


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
    def measured(costs: Costs, bundle: str) -> Baseline:
        """That of this machine, now; three times as long as an attempt of the gate."""
        rounds = [measure_round(costs, FRAMES) for _ in range(3 * ROUNDS)]
        names = (*costs.names, *KERNELS)
        stages = {name: StageBaseline(_ratio(rounds, name), _milliseconds(rounds, name)) for name in names}
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


def check(costs: Costs, baseline: Baseline, tolerance: float = TOLERANCE) -> list[Verdict]:
    """A verdict for every stage. tolerance: share by which a stage may cost more."""
    verdicts: dict[str, Verdict] = {}
    for _ in range(ATTEMPTS):
        rounds = [measure_round(costs, FRAMES) for _ in range(ROUNDS)]
        for name in costs.names:
            if name not in verdicts or not verdicts[name].passed:
                verdicts[name] = _verdict(rounds, name, baseline, tolerance)
        if all(verdict.passed for verdict in verdicts.values()):
            break
    return [verdicts[name] for name in costs.names]


def _verdict(rounds: list[Round], name: str, baseline: Baseline, tolerance: float) -> Verdict:
    before, ratio, ms = baseline.stages[name], _ratio(rounds, name), _milliseconds(rounds, name)
    limit = before.ratio * (1 + tolerance)
    if name == OVERHEAD:
        limit += _OVERHEAD_SLACK_MS / ms * ratio
    grown = () if name != "draw" or ratio <= limit else _grown(rounds, baseline, tolerance)
    return Verdict(name, ratio, before.ratio, limit, ms, grown)


def _grown(rounds: list[Round], baseline: Baseline, tolerance: float) -> tuple[str, ...]:
    changes = {
        name: _ratio(rounds, name) / baseline.stages[name].ratio - 1 for name in KERNELS if _known(baseline, name)
    }
    return tuple(f"{name} {change:+.0%}" for name, change in changes.items() if change > tolerance)


def _known(baseline: Baseline, name: str) -> bool:
    return name in baseline.stages and baseline.stages[name].ratio > 0


def _ratio(rounds: list[Round], name: str) -> float:
    return float(np.median([round_.ratio(name) for round_ in rounds]))


def _milliseconds(rounds: list[Round], name: str) -> float:
    return float(np.median([round_.stages[name] for round_ in rounds]))


def read_baseline(path: Path, bundle: str) -> tuple[Baseline, bool]:
    """The baseline of this bundle for this kind of machine, True; else that of another kind of machine, False.

    Raises ControlError if the file cannot be used or knows nothing of the bundle.
    """
    cure = f"write one with emotag-bench BUNDLE --write-baseline {path}"
    try:
        entries = [_baseline(entry) for entry in json.loads(path.read_text(encoding="utf-8"))["entries"]]
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
            entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
            entries = [e for e in entries if (e["machine"], e["bundle"]) != (baseline.machine, baseline.bundle)]
        except (ValueError, KeyError, TypeError):
            raise OutputError(f"{path} exists and is not a baseline: name another file") from None
    content = {"schema": _SCHEMA, "entries": [*entries, asdict(baseline)]}
    partial = partial_name(path)
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)
