"""The gate's statistic on invented weather, the probe against the avatar, and emotag-bench as a customer runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_bundle import Shape, write_bundle
from test_commands_runtime import fails

from emotag.runtime import Avatar, Model
from emotag.runtime.bench import gate
from emotag.runtime.bench.calibration import Calibration
from emotag.runtime.bench.fresh import measure_fresh
from emotag.runtime.bench.gate import (
    LEAST_LOADS,
    MOST_LOADS,
    Baseline,
    StageBaseline,
    check,
    read_baseline,
    write_baseline,
)
from emotag.runtime.bench.measure import GATED, ROUNDS, Costs, Rounds, Seen
from emotag.runtime.bench.probe import KERNELS, Probe, babble
from emotag.runtime.commands import bench
from emotag.runtime.errors import ControlError, OutputError

MS = {"audio": 1.3, "motion": 0.6, "draw": 9.0, "overhead": 0.25} | dict(
    zip(KERNELS, (0.2, 0.0, 1, 2, 5.8), strict=True)
)


FOLLOWS = {"audio": 0.6, "motion": 0.1, "draw": 0.1, "overhead": 0.3} | dict.fromkeys(KERNELS, 0.1)


class Weather:
    """Stands in for `Costs`: known costs on a machine whose neighbours come and go, one load luckier than the next.

    pressure: share by which reads of the shared cache take longer.
    """

    names = GATED
    pressure = 0.0

    def __init__(self, rng: np.random.Generator, slower: dict[str, float] | None = None, speed: float = 1.0) -> None:
        self._rng = rng
        luck = {name: speed * (1 + 0.03 * rng.random()) for name in MS}
        pressed = {name: 1 + share * self.pressure for name, share in FOLLOWS.items()}
        self._ms = {name: ms * luck[name] * pressed[name] * (slower or {}).get(name, 1) for name, ms in MS.items()}
        self._arithmetic, self._memory = 0.5 * speed, 0.9 * speed * (1 + self.pressure)

    def measure(self, names: tuple[str, ...] | None = None) -> Rounds:
        wanted = [*(names or GATED), *(KERNELS if names is None or "draw" in names else ())]
        return {name: [self._round(name) for _ in range(ROUNDS)] for name in wanted}

    def _round(self, name: str) -> Seen:
        pressed = abs(self._rng.normal(0, 0.2)) if self._rng.random() < 0.8 else 0.0

        def weather() -> float:
            hit = self._rng.uniform(0.2, 3) if self._rng.random() < 0.15 else 0.0
            return float(1 + pressed + hit + abs(self._rng.normal(0, 0.005)))

        ms, arithmetic, memory = (min(weather() for _ in range(calls)) for calls in (3, 4, 2))
        return Seen(self._ms[name] * ms, self._arithmetic * arithmetic, self._memory * memory)


@contextmanager
def pressing(pressure: float = 0.8) -> Iterator[None]:
    """Stands in for the neighbour that a baseline is measured beside, and for one that somebody else runs."""
    Weather.pressure, before = pressure, Weather.pressure
    try:
        yield
    finally:
        Weather.pressure = before


def loads(seed: int, slower: dict[str, float] | None = None, speed: float = 1.0) -> Any:
    rng = np.random.default_rng(seed)
    return lambda: Weather(rng, slower, speed)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "pressing_neighbour", pressing)
        return Baseline.measured(loads(1000), "tiny")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bench") / "tiny.emotag", Shape(size=32))


@pytest.mark.parametrize("seed", range(20))
def test_unchanged_costs_pass_at_any_speed_of_the_machine(baseline: Baseline, seed: int) -> None:
    verdicts = check(loads(seed, speed=(0.5, 1.0, 1.7)[seed % 3]), baseline)
    assert all(verdict.passed for verdict in verdicts), [verdict.line() for verdict in verdicts]


@pytest.mark.parametrize("pressure", [0.3, 1.0])
def test_unchanged_costs_pass_whatever_neighbours_leave_of_the_cache(baseline: Baseline, pressure: float) -> None:
    with pressing(pressure):
        verdicts = check(loads(3), baseline)
    assert all(verdict.passed for verdict in verdicts), [verdict.line() for verdict in verdicts]
    assert all(abs(verdict.change) < 0.06 for verdict in verdicts)


def test_a_baseline_knows_what_each_weather_costs(baseline: Baseline) -> None:
    for name, share in FOLLOWS.items():
        stage = baseline.stages[name]
        assert list(stage.memory) == sorted(set(stage.memory))
        if MS[name] > 0:  # pressure was 0 for half of the loads, 0.8 for the others
            assert stage.ms[-1] / stage.ms[0] == pytest.approx(1 + 0.8 * share, rel=0.04), name
            assert stage.memory[-1] / stage.memory[0] == pytest.approx(1.8, rel=0.1), name


@pytest.mark.parametrize("stage", GATED)
@pytest.mark.parametrize(("seed", "pressure"), [(0, 0.0), (1, 0.0), (2, 0.6)])
def test_a_tenth_more_fails_and_names_the_stage(baseline: Baseline, stage: str, seed: int, pressure: float) -> None:
    share = 1.1 if stage != "overhead" else 1.5  # its tolerance is five times that of the stages
    slower = {stage: share} | ({"blend": 1.16} if stage == "draw" else {})
    with pressing(pressure):
        verdicts = check(loads(seed, slower), baseline)
    assert [verdict.stage for verdict in verdicts if not verdict.passed] == [stage]
    failed = next(verdict for verdict in verdicts if verdict.stage == stage)
    assert "FAIL" in failed.line() and stage in failed.line()
    assert [name.split()[0] for name in failed.grown] == (["blend"] if stage == "draw" else [])


def test_a_round_is_the_lowest_of_its_calls_beside_the_lowest_of_its_calibrations(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = Costs(Model.load(bundle, threads=1))
    calls, passes = iter([4.0, 3.0, 5.0, 3.5, 9.0, 7.0]), iter([[2.0, 3.0], [1.0, 5.0]])
    runs = iter([[1.0, 9.0], [2.0, 8.0], [3.0, 7.0], [4.0, 9.0]])
    monkeypatch.setitem(costs._stages, "motion", lambda: next(calls))
    monkeypatch.setattr(costs._calibration, "run", lambda: next(runs))
    monkeypatch.setattr(costs._calibration, "memory", lambda: next(passes))
    assert costs._round("motion") == {"motion": Seen(3.0, 1.0 + 7.0, 5.0)}
    assert all(next(each, None) is None for each in (calls, runs, passes))


def test_a_change_is_the_lower_quartile_of_loads_and_of_their_rounds_each_in_its_weather() -> None:
    stage = StageBaseline(arithmetic=1.0, memory=(2.0, 4.0), ms=(2.0, 3.0))

    def load(times: float) -> dict[str, list[Seen]]:
        slow = Seen(2.5 * times * 1.2, arithmetic=1.2, memory=3.6)  # the processor by a fifth, memory between the knots
        beyond = [Seen(2.0 * times * 0.9, 1.0, 1.0), Seen(4.0 * times * 1.1, 1.0, 6.0), Seen(90.0, 1.0, 2.0)]
        return {"motion": [*beyond, slow, slow]}

    seen = [*map(load, (7, 4, 5, 6, 8)), {"draw": [Seen(1.0, 1.0, 1.0)]}]
    assert stage.change(seen, "motion") == pytest.approx(4.0)
    assert stage.typical == 2.5
    assert stage.knows([{"motion": [Seen(1.0, 1.0, memory) for memory in (1.0, 3.0, 9.0)]}], "motion")
    for memory in (1.9, 4.1):  # quieter than ever, or worse
        assert not stage.knows([{"motion": [Seen(1.0, 1.0, memory)] * 2}], "motion")


def test_behind_its_end_a_curve_grows_no_faster_than_the_yardstick() -> None:
    """Where a neighbour hardly moved the yardstick the ends of a curve are noise, and so is what goes on from them."""
    noise = StageBaseline(arithmetic=1.0, memory=(2.0, 2.02), ms=(2.0, 2.2))
    assert noise.change([{"draw": [Seen(4.4, 1.0, 4.04)]}], "draw") == pytest.approx(0.0)
    falling = StageBaseline(arithmetic=1.0, memory=(2.0, 4.0), ms=(2.2, 2.0))
    assert falling.change([{"draw": [Seen(3.0, 1.0, 8.0)]}], "draw") == pytest.approx(0.5)


def test_weather_that_the_baseline_does_not_know_is_said(baseline: Baseline) -> None:
    known = check(loads(0), baseline)
    assert all(verdict.known_weather and "weather" not in verdict.line() for verdict in known)
    with pressing(4.0):
        unknown = check(loads(0), baseline)
    assert all(not verdict.known_weather and "no such weather" in verdict.line() for verdict in unknown)


def test_the_yardstick_of_memory_is_taken_in_pieces() -> None:
    pieces = Calibration().memory()
    assert len(pieces) == 16 and all(ms > 0 for ms in pieces)


def test_a_load_whose_calibration_alone_was_disturbed_hides_nothing(baseline: Baseline) -> None:
    for disturbed in range(LEAST_LOADS):
        loaded = 0

        def load(disturbed: int = disturbed) -> Any:
            nonlocal loaded
            weather = Weather(np.random.default_rng(loaded), {"motion": 1.15})
            if loaded == disturbed:
                weather._arithmetic *= 1.5  # of all its rounds
            loaded += 1
            return weather

        verdicts = check(load, baseline)
        assert [verdict.stage for verdict in verdicts if not verdict.passed] == ["motion"]


def test_a_baseline_that_lacks_a_stage_is_refused(baseline: Baseline) -> None:
    without = {name: stage for name, stage in baseline.stages.items() if name != "audio"}
    with pytest.raises(ControlError, match="no audio: .*--write-baseline"):
        check(loads(0), replace(baseline, stages=without))


def test_only_what_failed_is_measured_again(baseline: Baseline) -> None:
    asked: list[object] = []

    class Counting(Weather):
        def measure(self, names: tuple[str, ...] | None = None) -> Rounds:
            asked.append(names)
            return super().measure(names)

    rng = np.random.default_rng(5)
    check(lambda: Counting(rng, {"motion": 2.0}), baseline)  # type: ignore[arg-type, return-value]
    assert asked[:LEAST_LOADS] == [None] * LEAST_LOADS and set(asked[LEAST_LOADS:]) == {("motion",)}
    assert len(asked) == MOST_LOADS


def test_baselines_are_kept_by_bundle_and_machine(tmp_path: Path, baseline: Baseline) -> None:
    path = tmp_path / "baseline.json"
    other = replace(baseline, machine="another machine")
    for entry in (other, replace(other, bundle="anna"), other):
        write_baseline(path, entry)
    assert len(json.loads(path.read_text())["entries"]) == 2
    assert read_baseline(path, "tiny") == (other, False)
    write_baseline(path, baseline)
    assert read_baseline(path, "tiny") == (baseline, True)
    with pytest.raises(ControlError, match="'bob'.*--write-baseline"):
        read_baseline(path, "bob")
    entry = {"machine": "m", "bundle": "tiny"}
    curve = {"arithmetic": 1.0, "memory": [1.0, 2.0], "ms": [1.0, 2.0]}
    wrong = [
        {"memory": [2.0, 1.0]},
        {"ms": [1.0]},
        {"memory": [], "ms": []},
        {"arithmetic": 0.0},
        {"ms": [1.0, float("nan")]},
    ]
    bad = [json.dumps({"schema": 4, "entries": [{**entry, "stages": {"draw": {**curve, **w}}}]}) for w in wrong]
    for content in ("", "[]", '{"entries": [{}]}', '{"entries": 3}', *bad):
        path.write_text(content)
        with pytest.raises(ControlError, match="not a baseline"):
            read_baseline(path, "tiny")
    path.write_text(json.dumps({"schema": 3, "entries": []}))
    with pytest.raises(ControlError, match="baseline of format 3, this emotag reads 4: write one with .*--write-basel"):
        read_baseline(path, "tiny")
    path.write_text('{"entries": 3}')
    with pytest.raises(OutputError, match="not a baseline"):
        write_baseline(path, baseline)
    with pytest.raises(ControlError, match="cannot be read"):
        read_baseline(tmp_path / "none.json", "tiny")


def test_the_probe_makes_the_pictures_of_the_avatar(bundle: Path) -> None:
    model = Model.load(bundle, threads=1)
    probe, avatar = Probe(model), Avatar(model)
    avatar.idle = None  # the probe has the stages alone
    delay = model.manifest.lookahead_frames
    sound = babble(8).reshape(-1, 640)
    for number in range(delay + 12):
        cost = probe.frame()
        # The avatar counts its cues from the first frame with sound, the probe from the first call.
        avatar._index = number
        assert np.array_equal(avatar.step(sound[number]).rgb, probe.picture)
        assert cost.audio > 0 and cost.motion > 0 and cost.draw >= 0.9 * sum(cost.kernels) > 0


def test_extra_work_counts_as_the_stages(bundle: Path) -> None:
    calls: list[str] = []
    costs = Costs(Model.load(bundle, threads=1), calls.append)
    calls.clear()
    found = costs.measure(rounds=2)
    assert [name for at, name in enumerate(calls) if name not in calls[:at]] == ["audio", "motion", "draw", "overhead"]
    assert set(found) == {*GATED, *KERNELS} and all(len(rounds) == 2 for rounds in found.values())
    assert all(seen.ms > 0 and seen.arithmetic > 0 and seen.memory > 0 for name in GATED for seen in found[name])
    calls.clear()
    assert set(costs.measure(("motion",), rounds=1)) == {"motion"} and set(calls) == {"audio", "motion"}


def test_bench_prints_and_writes_the_profile(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.json"
    assert bench.main([str(bundle), "--seconds", "1", "--threads", "1", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    for words in ("tiny (synthetic", "start-up", "memory", "blend", "overhead", "512²", "p99", "pipelined", "8: "):
        assert words in text, text
    found: dict[str, Any] = json.loads(path.read_text())
    assert found["threads"] == 1 and found["bundle"]["latency_ms"] == 80 and found["machine"]["cores"] >= 1
    assert set(found["sizes"]) == {"256", "512", "1024"} and set(found["avatars_fps"]) == {"1", "2", "4", "8"}
    assert found["fresh"]["startup_cpu_s"] > 0 and found["fresh"]["peak_mb"] > 10
    assert all(value > 0 for value in found["stages"].values()) and found["render_fps"] > 0
    assert 0 < found["overhead"]["p50"] and found["step"]["p50"] <= found["step"]["p99"]


def test_gate_passes_fails_by_name_and_says_when_the_machine_is_another(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "baseline.json", tmp_path / "out.json"
    assert bench.main([str(bundle), "--write-baseline", str(path)]) == 0
    assert "pressure on the cache" in capsys.readouterr().out
    # Wide, because stages of a few microseconds are not what the gate is for.
    command = [str(bundle), "--gate", str(path), "--tolerance", "5", "--json", str(out)]
    assert bench.main(command) == 0
    assert "note" not in capsys.readouterr().out and all(v["passed"] for v in json.loads(out.read_text())["verdicts"])
    content = json.loads(path.read_text())
    motion = content["entries"][0]["stages"]["motion"]
    motion["ms"] = [ms / 100 for ms in motion["ms"]]
    path.write_text(json.dumps(content))
    assert bench.main(command) == bench.REGRESSION == 3
    captured = capsys.readouterr()
    assert captured.err.startswith("error: slower") and captured.err.rstrip().endswith("baseline.json: motion")
    content["entries"][0]["machine"] = "another machine"
    path.write_text(json.dumps(content))
    assert bench.main(command) == 3 and "only of another machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["b.emotag", "-o", "c.emotag"],
        ["b.emotag", "--synthetic", "base", "-o", "c.emotag"],
        ["--synthetic", "base"],
        ["b.emotag", "--gate", "a.json", "--write-baseline", "a.json"],
        ["b.emotag", "--tolerance", "0.1"],
        ["b.emotag", "--gate", "a.json", "--tolerance", "-1"],
        ["b.emotag", "--seconds", "0"],
        ["b.emotag", "--seconds", "nan"],
        ["b.emotag", "--gate", "a.json", "--threads", "2"],
        ["b.emotag", "--gate", "a.json", "--seconds", "2"],
        ["b.emotag", "--write-baseline", "a.json", "--threads", "1"],
        ["--synthetic", "base", "-o", "c.emotag", "--json", "a.json"],
    ],
)
def test_wrong_usage_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(arguments)
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err


def test_errors_are_one_line(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, bench.main([str(tmp_path / "none")]), "not a bundle")
    fails(capsys, bench.main([str(bundle), "--threads", "9999"]), "threads=9999")
    fails(capsys, bench.main([str(bundle), "--json", "/proc/a.json"]), "/proc")
    fails(capsys, bench.main([str(bundle), "--gate", str(tmp_path / "none.json")]), "none.json", "--write-baseline")
    fails(capsys, bench.main([str(bundle), "--write-baseline", str(tmp_path / "a.txt")]), ".json")
    fails(capsys, bench.main(["--synthetic", "huge", "-o", str(tmp_path / "b.emotag")]), "'huge'", "base")


def test_synthetic_without_the_export_side_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "emotag.export.synthetic", None)
    fails(
        capsys, bench.main(["--synthetic", "base", "-o", str(tmp_path / "b.emotag")]), "pip install", "emotag[export]"
    )


def test_a_synthetic_bundle_is_written_marked_and_speaks(tmp_path: Path) -> None:
    path = tmp_path / "b.emotag"
    assert bench.main(["--synthetic", "tiny", "-o", str(path)]) == 0
    model = Model.load(path, "cpu", threads=1)
    assert model.manifest.checkpoint["kind"] == "synthetic" and len(model.scene.gaussians) == 2000
    assert model.manifest.precision == {"audio": "int8", "motion": "int8"}
    assert any("Random weights" in note for note in json.loads((path / "manifest.json").read_text())["notes"])
    report = json.loads((path / "report.json").read_text())
    assert any(check["name"].startswith("int8 against fp32") for check in report["checks"])
    frames = [Avatar(model).step(block) for block in babble(0.2).reshape(-1, 640)]
    assert all(frame.rgb.shape == (128, 128, 3) for frame in frames)


def test_a_customers_bench_never_loads_torch(bundle: Path) -> None:
    code = (
        "import sys; from emotag.runtime.commands import bench; from emotag.runtime import bench as library;"
        f"assert bench.main([{str(bundle)!r}, '--seconds', '1']) == 0; assert 'torch' not in sys.modules"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_eight_avatars_of_sixty_thousand_gaussians_add_little_memory(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "large.emotag", Shape(size=512, gaussians=60_000))
    assert measure_fresh(path, 1)["mb_each_further_avatar"] <= 25
