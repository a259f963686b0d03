"""One frame: a step beside an idle and a busy neighbour, each stage, and what a step costs outside them.

Steps are elapsed time; stages are processor time of one thread, which a busy machine changes less.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from emotag.runtime import Avatar, Model
from emotag.runtime.bench.fresh import measure_fresh
from emotag.runtime.bench.overhead import StepOverhead
from emotag.runtime.bench.probe import Probe, babble
from emotag.runtime.bench.profile import AVATARS, SIZES, together

ROUNDS, WARM_UP = 150, 20
PEAK_MB = {"demo": 150, "base": 700}
FURTHER_MB = 25


@pytest.mark.benchmark(group="step, elapsed time")
@pytest.mark.parametrize("pipelined", [False, True], ids=["step", "pipelined"])
def test_step(benchmark: Any, model: Model, neighbour: str, pipelined: bool) -> None:
    avatar = Avatar(model, pipelined=pipelined)
    blocks = itertools.cycle(babble(8).reshape(-1, 640))
    benchmark.pedantic(lambda: avatar.step(next(blocks)), rounds=ROUNDS, warmup_rounds=WARM_UP)
    benchmark.extra_info.update(bundle=model.manifest.name, neighbour=neighbour)


@pytest.mark.benchmark(group="stages, processor time of one thread", timer=time.thread_time)
@pytest.mark.parametrize("stage", ["audio", "motion", "draw"])
def test_stage(benchmark: Any, alone: Model, stage: str) -> None:
    probe = Probe(alone)
    calls = {"audio": probe.encode, "motion": probe.move, "draw": probe.draw}
    before = {"audio": lambda: None, "motion": probe.encode, "draw": lambda: None}
    benchmark.pedantic(calls[stage], setup=before[stage], rounds=ROUNDS, warmup_rounds=WARM_UP)


@pytest.mark.benchmark(group="a step outside its stages, processor time", timer=time.thread_time)
def test_overhead(benchmark: Any, alone: Model) -> None:
    step = StepOverhead(Avatar(alone))
    outside: list[float] = []
    benchmark.pedantic(lambda: outside.append(step.step()[0]), rounds=ROUNDS, warmup_rounds=WARM_UP)
    benchmark.extra_info["outside_ms"] = sorted(outside)[len(outside) // 2]


@pytest.mark.benchmark(group="drawing by size, processor time of one thread", timer=time.thread_time)
@pytest.mark.parametrize("side", SIZES)
def test_size(benchmark: Any, alone: Model, side: int) -> None:
    benchmark.pedantic(Probe(alone, (side, side)).draw, rounds=ROUNDS // 3, warmup_rounds=3)


@pytest.mark.benchmark(group="several avatars on one model, elapsed time of 12 frames each")
@pytest.mark.parametrize("count", AVATARS)
def test_avatars(benchmark: Any, alone: Model, count: int) -> None:
    rates: list[float] = []
    benchmark.pedantic(lambda: rates.append(together(alone, count, 12)), rounds=3, warmup_rounds=1)
    benchmark.extra_info["frames_per_second"] = max(rates)


@pytest.mark.benchmark(group="start-up to the first frame, and memory")
def test_fresh_process(benchmark: Any, bundle: Path) -> None:
    found: list[dict[str, float]] = []
    benchmark.pedantic(lambda: found.append(measure_fresh(bundle, 0)), rounds=3)
    best = {name: min(run[name] for run in found) for name in found[0]}
    benchmark.extra_info.update(best)
    assert best["peak_mb"] <= PEAK_MB[bundle.stem]
    assert best["mb_each_further_avatar"] <= FURTHER_MB
