"""Every target for the time and the memory of a frame, measured and set beside its bound.

    python -m benchmarks.report [-o benchmarks/results/targets.json] [--quick] [--fp32]

Takes about five minutes on two quiet cores (--fp32 adds a minute for the float encoder, and the first run some minutes
to write the base-size bundles below build/bench). Elapsed times mean something on a quiet machine only; the load is in
the first line and in the JSON. The exit code is 0 whatever the numbers are: this is a report, the gate is
`emotag-bench --gate`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.bundles import demo, demo_int8, median_of, synthetic
from benchmarks.demonstrate_gate import busy_neighbour
from emotag.runtime import Avatar, Model
from emotag.runtime.bench.fresh import measure_fresh
from emotag.runtime.bench.machine import Machine
from emotag.runtime.bench.overhead import StepOverhead
from emotag.runtime.bench.probe import KERNELS, Probe, babble

_WARM_UP = 20
_SOUND = babble(20).reshape(-1, 640)


@dataclass(frozen=True)
class Row:
    """One target. `at_least` turns the bound round."""

    name: str
    measured: float
    bound: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def line(self) -> str:
        sign = "≥" if self.at_least else "≤"
        bound = f"{sign} {self.bound:g}"
        return f"{self.name:<58}{self.measured:>9.3g} {self.unit:<4}{bound:>9}  {'met' if self.met else 'MISSED'}"


def steps(model: Model, frames: int, pipelined: bool = False) -> tuple[float, float]:
    """p50 and p99 of the elapsed milliseconds of a step."""
    avatar, times = Avatar(model, pipelined=pipelined), []
    for number in range(frames + _WARM_UP):
        start = time.perf_counter()
        avatar.step(_SOUND[number % len(_SOUND)])
        times.append(1e3 * (time.perf_counter() - start))
    p50, p99 = np.percentile(times[_WARM_UP:], (50, 99))
    return float(p50), float(p99)


def rendering(model: Model, frames: int) -> float:
    """Frames a second of a whole sound, video encoding apart."""
    avatar = Avatar(model)
    start = time.perf_counter()
    count = sum(1 for _ in avatar.render(np.resize(_SOUND, (frames, 640)).reshape(-1), progress=False))
    return count / (time.perf_counter() - start)


def step_rows(base: Model, frames: int) -> Iterator[Row]:
    """Elapsed times."""
    runs = sorted(steps(base, frames) for _ in range(5))
    yield Row("step, p50 of the quietest of five runs", runs[0][0], 16, "ms")
    yield Row("step, p99 of that run", runs[0][1], 28, "ms")
    with busy_neighbour():
        yield Row("step beside a busy core, p50", steps(base, frames)[0], 24, "ms")
    yield Row("render of a sound", max(rendering(base, frames) for _ in range(3)), 76.4, "FPS", at_least=True)
    yield Row("step pipelined, p50 (one frame more latency)", steps(base, frames, True)[0], 16, "ms")


def stage_rows(path: Path, frames: int) -> Iterator[Row]:
    """Processor time of one thread, medians."""
    model = Model.load(path, "cpu", threads=1)
    probe = Probe(model)
    costs = [probe.frame() for _ in range(frames + _WARM_UP)][_WARM_UP:]
    audio, motion, draw = (median_of([getattr(c, name) for c in costs]) for name in ("audio", "motion", "draw"))
    mouth = median_of([c.kernels[KERNELS.index("mouth")] for c in costs])
    yield Row("audio encoder, int8", audio, 12.5, "ms")
    yield Row("GRMN with the mouth head and grid", motion + mouth, 2.2, "ms")
    yield Row("drawing at 512², the mouth apart", draw - mouth, 6.0, "ms")
    for side, bound in ((256, 3.5), (1024, 14.0)):
        sized = Probe(model, (side, side))
        cells = [sized.frame() for _ in range(max(12, frames // 6))][3:]
        yield Row(
            f"drawing at {side}², the mouth apart", median_of([c.draw - c.kernels[1] for c in cells]), bound, "ms"
        )
    step = StepOverhead(Avatar(model))
    outside = [step.step()[0] for _ in range(frames + _WARM_UP)][_WARM_UP:]
    yield Row("a step outside its stages", median_of(outside), 0.3, "ms")


def fp32_rows(frames: int) -> Iterator[Row]:
    """The float encoder, by processor time of one thread."""
    probe = Probe(Model.load(synthetic("base-fp32"), "cpu", threads=1))
    costs = [probe.frame().audio for _ in range(frames // 3 + _WARM_UP)][_WARM_UP:]
    yield Row("audio encoder, fp32", median_of(costs), 32, "ms")


def fresh_rows(path: Path, name: str, seconds: float, peak: float) -> Iterator[Row]:
    """Start-up and memory in processes of their own, the best of three."""
    runs = [measure_fresh(path, 0) for _ in range(3)]
    best = {key: min(run[key] for run in runs) for key in runs[0]}
    yield Row(f"start-up of {name} to the first frame", best["startup_s"], seconds, "s")
    yield Row(f"peak memory of {name}, one avatar", best["peak_mb"], peak, "MB")
    yield Row(f"memory of each further avatar, {name}", best["mb_each_further_avatar"], 25, "MB")


def quality_rows(path: Path) -> Iterator[Row]:
    """What an int8 encoder does to the demo's trained motion, from the report of such an export."""
    found = json.loads((path / "report.json").read_text())["end_to_end"]
    yield Row("jaw correlation, int8 encoder against fp32 (demo)", found["jaw_correlation"], 0.995, "", at_least=True)
    for name in ("expression", "jaw"):
        yield Row(f"{name}, relative RMS of int8 against fp32 (demo)", found[name]["relative_rms"], 0.10, "")


@contextmanager
def progress(name: str) -> Iterator[None]:
    """Says what is measured, and for how long it was."""
    start = time.perf_counter()
    yield
    print(f"# {name}: {time.perf_counter() - start:.0f} s", flush=True)


def collect(frames: int, fp32: bool) -> list[Row]:
    """All rows, in the order of the table."""
    base = synthetic("base")
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "steps and render": lambda: step_rows(Model.load(base, "cpu"), frames),
        "stages": lambda: stage_rows(base, frames),
        "demo's start-up and memory": lambda: fresh_rows(demo(), "the demo", 1.0, 150),
        "base size's start-up and memory": lambda: fresh_rows(base, "the base size", 3.0, 700),
        "int8": lambda: quality_rows(demo_int8()),
    }
    if fp32:
        parts["fp32 encoder"] = lambda: fp32_rows(frames)
    rows: list[Row] = []
    for name, part in parts.items():
        with progress(name):
            rows += part()
    return rows


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/targets.json"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the frames, to try it out")
    parser.add_argument("--fp32", action="store_true", help="the float encoder too")
    options = parser.parse_args()
    before = Machine.here()
    rows = collect(30 if options.quick else 300, options.fp32)
    after = Machine.here()
    print(f"{before.line()}; {after.load:g} afterwards")
    print("\n".join(row.line() for row in rows))
    content = {
        "machine": asdict(before),
        "load_afterwards": after.load,
        "rows": [{**asdict(row), "met": row.met} for row in rows],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
