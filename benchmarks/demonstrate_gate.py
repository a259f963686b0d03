"""Shows that the gate of `emotag-bench` can be believed: it fails where it should, and only there.

    python -m benchmarks.demonstrate_gate BUNDLE [--baseline benchmarks/baseline.json] [--runs 20] [--share 0.1]
        [--json benchmarks/results/gate.json]

1. Real work worth a share of a stage (10%) is added to each stage in turn: the gate must fail and name that stage only.
   The work is array arithmetic of a fixed amount, sized once beforehand; no number is multiplied. The overhead of a
   step, a quarter of a millisecond beside the stages, has five times the tolerance and gets five times the share.
2. Twenty unchanged runs while another process keeps a core busy: all must pass.

Takes some minutes and is not part of the continuous integration. The exit code is 1 if either part disappoints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from emotag.runtime import Model
from emotag.runtime.bench.gate import Baseline, Verdict, check, read_baseline
from emotag.runtime.bench.machine import Machine
from emotag.runtime.bench.measure import GATED, OVERHEAD, Costs, Extra

# Angles and sines at one distance in every process: where it is a multiple of 4 KiB, a sine costs half as much again.
_MEMORY = np.zeros(1056, np.float32)
_ANGLES, _SINES = _MEMORY[:512], _MEMORY[544:]
_ANGLES[:] = np.linspace(0, 1, 512)


def work(units: int) -> None:
    """A fixed amount of arithmetic: `units` times the sine of 512 numbers."""
    for _ in range(units):
        np.sin(_ANGLES, out=_SINES)


def load(bundle: Path, extra: Extra | None = None) -> Costs:
    """The bundle's stages, loaded anew."""
    return Costs(Model.load(bundle, threads=1), extra)


def unit_milliseconds() -> float:
    """Processor time of one unit now: the lower quartile of many, as the stages' is."""
    times = []
    for _ in range(500):
        start = time.thread_time_ns()
        work(20)
        times.append((time.thread_time_ns() - start) * 1e-6 / 20)
    return float(np.percentile(times, 25))


def adds(stage: str, units: int) -> Callable[[str], None]:
    """Work for one stage and none for the others."""
    return lambda name: work(units) if name == stage else None


@contextlib.contextmanager
def busy_neighbour() -> Iterator[None]:
    """A process that computes and walks through memory until the end of the block."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _spin() -> None:
    memory = np.zeros(32 << 20, np.uint8)
    matrix = np.random.default_rng(0).standard_normal((60, 60))
    while True:
        memory += 1
        for _ in range(2000):
            matrix @ matrix


def describe(verdicts: list[Verdict]) -> str:
    """All stages in a line."""
    return "  ".join(f"{v.stage} {v.change:+.1%}{'' if v.passed else ' FAIL'}" for v in verdicts)


def row(verdicts: list[Verdict]) -> dict[str, Any]:
    """For JSON: the share by which each stage cost more, and which failed."""
    changes = {verdict.stage: round(verdict.change, 4) for verdict in verdicts}
    return {"changes": changes, "failed": [verdict.stage for verdict in verdicts if not verdict.passed]}


def show_failures(bundle: Path, baseline: Baseline, share: float) -> list[dict[str, Any]]:
    """Part 1: a row for every stage that got work."""
    unit, rows, now = unit_milliseconds(), [], load(bundle).measure()
    for stage in GATED:
        cost = float(np.percentile([seen.ms for seen in now[stage]], 25))
        wanted = share * cost * (5 if stage == OVERHEAD else 1)
        extra = adds(stage, max(1, round(wanted / unit)))
        verdicts = check(lambda extra=extra: load(bundle, extra), baseline)
        rows.append({"stage": stage, "added_ms": wanted, "load": Machine.here().load, **row(verdicts)})
        print(f"{stage:<10}+{wanted:.3f} ms  {describe(verdicts)}", flush=True)
    return rows


def show_passes(bundle: Path, baseline: Baseline, runs: int) -> list[dict[str, Any]]:
    """Part 2: a row for every run."""
    rows = []
    with busy_neighbour():
        for run in range(runs):
            verdicts = check(lambda: load(bundle), baseline)
            rows.append({"load": Machine.here().load, **row(verdicts)})
            print(f"unchanged {run + 1:>2}  {describe(verdicts)}", flush=True)
    passed = sum(not found["failed"] for found in rows)
    print(f"{passed} of {runs} unchanged runs beside a busy neighbour passed")
    return rows


def _baseline(path: Path | None, bundle: Path) -> Baseline:
    """The given one of this bundle and machine, or one that is measured now."""
    name = Model.load(bundle).manifest.name
    if path is None:
        return Baseline.measured(lambda: load(bundle), name)
    baseline, of_this_machine = read_baseline(path, name)
    if not of_this_machine:
        raise SystemExit(f"{path} has no entry of this kind of machine: leave --baseline out, and one is measured")
    return baseline


def main() -> int:
    """Both parts, against the given baseline, or one that is measured first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--baseline", type=Path, help="judge by this one; it has an entry of this machine and bundle")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--json", type=Path, help="also write what was found")
    options = parser.parse_args()
    baseline = _baseline(options.baseline, options.bundle)
    found = {
        "machine": Machine.here().line(),
        "baseline": asdict(baseline),
        "share": options.share,
        "with_work": show_failures(options.bundle, baseline, options.share),
        "unchanged_beside_a_busy_neighbour": show_passes(options.bundle, baseline, options.runs),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    caught = all(one["failed"] == [one["stage"]] for one in found["with_work"])
    return 0 if caught and not any(one["failed"] for one in found["unchanged_beside_a_busy_neighbour"]) else 1


if __name__ == "__main__":
    sys.exit(main())
