"""The benchmark scripts, on a bundle small enough to run them whole: what they measure is there and adds up."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from synthetic_bundle import Shape, write_bundle

from benchmarks import bench_training, controls, long_run, report, scaling
from emotag.runtime import Avatar, Model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("benchmarks") / "tiny.emotag", Shape(size=32))


def test_rows_say_whether_their_bound_is_met() -> None:
    low, high = report.Row("a", 15.0, 16, "ms"), report.Row("b", 70.0, 76.4, "FPS", at_least=True)
    assert low.met and "met" in low.line() and "≤ 16" in low.line()
    assert not high.met and "MISSED" in high.line() and "≥ 76.4" in high.line()
    assert report.Row("c", float("nan"), 1, "").met is False


def test_stages_of_a_frame_are_reported(bundle: Path) -> None:
    rows = list(report.stage_rows(bundle, 4))
    assert len(rows) == 6 and all(row.measured > 0 and row.unit == "ms" for row in rows)


def test_steps_and_renders_are_timed(bundle: Path) -> None:
    model = Model.load(bundle, "cpu")
    p50, p99 = report.steps(model, 5)
    assert 0 < p50 <= p99 and report.rendering(model, 12) > 0


def test_controls_are_compared_with_none(bundle: Path) -> None:
    found = controls.measure(Model.load(bundle, "cpu"), 8)
    assert found["with"] > found["setting"] > 0 and found["without"] > 0
    assert found["controls"] == pytest.approx(found["with"] - found["without"])


def test_a_fresh_process_is_measured(bundle: Path) -> None:
    rows = {row.name: row for row in report.fresh_rows(bundle, "tiny", 60, 1000)}
    assert len(rows) == 3 and all(row.met for row in rows.values())


def test_a_long_run_samples_memory(bundle: Path) -> None:
    found = long_run.run(Avatar(bundle), 100)
    assert len(found) == long_run.SAMPLES and min(found) > 10


def test_growth_beyond_linear_is_noticed_and_plotted(tmp_path: Path) -> None:
    assert scaling.worst_growth({10: 2.0, 20: 3.0, 40: 5.0}) < 1
    assert scaling.worst_growth({10: 1.0, 20: 3.0}) == pytest.approx(1.5)
    scaling.plot({20_000: 3.0, 60_000: 6.0, 120_000: 9.5}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (640, 400)


def test_kernels_of_training_are_timed(bundle: Path) -> None:
    subjects = bench_training.subjects_of(bundle)
    assert [subject.features is not None for subject in subjects] == [False, True, False, True, False]
    whole, box = subjects[0].camera, subjects[2].camera
    assert max(whole.width, whole.height) == 512 and box.width <= whole.width and box.width % 16 == 0
    found = bench_training.measure(subjects[2:4], 2, "auto")
    for samples in found.values():
        assert all(len(values) == 2 and min(values) > 0 for values in samples.values())
        assert "blend + backward" in bench_training.quartiles(samples)
