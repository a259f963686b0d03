"""Silence, measured through the network's own output and the whole runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_bundle import Shape, write_bundle

from emotag.training.command import main
from emotag.training.metrics import idle
from emotag.training.metrics.idle import Bar, measure_idle
from emotag.training.metrics.motion import pose_motion, pose_velocity

DEMO = Path(__file__).parents[1] / "demo.emotag"


def test_bars_have_two_sides_and_nan_keeps_none() -> None:
    assert Bar(1, "mm", 1, 1).kept and Bar(5, "mm").kept
    assert not Bar(0.9, "mm", 1).kept and not Bar(1.1, "mm", None, 1).kept and not Bar(float("nan"), "mm", None, 1).kept


def test_seconds_that_repeat_are_found() -> None:
    pose = np.random.default_rng(0).standard_normal((100, 6))
    assert idle._apart(pose) > 1
    pose[75:] = pose[25:50] + 0.001
    assert idle._apart(pose) == pytest.approx(0.001)


def test_velocity_is_what_the_published_means_are_of() -> None:
    rotation, translation = np.zeros((4, 3)), np.zeros((4, 3))
    rotation[:, 1] = (0, 0.01, 0.02, 0.02)
    translation[:, 0] = (0, 0, 0, 0.024)
    steps = pose_velocity(rotation, translation, 0.24)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), [0.01, 0.01, 0.1])
    assert pose_motion(rotation, translation, 0.24)["velocity_mean"] == pytest.approx(0.04)


def test_a_bar_that_is_broken_is_said_so(tmp_path: Path) -> None:
    """A head without a blink of its own, whose lips nobody knows."""
    bundle = write_bundle(tmp_path / "a.emotag", Shape(size=16, gaussians=20))
    found = measure_idle(bundle, 6)
    assert found.broken == ["blinks"] and "lips, widest apart" in found.why
    found.save(tmp_path / "idle.json")
    content = json.loads((tmp_path / "idle.json").read_text())
    assert content["bars"]["blinks"]["kept"] is False and content["seconds"] == 6
    assert "BROKEN" in found.table() and "not Anny's" in found.table()


@pytest.mark.skipif(not (DEMO / "manifest.json").is_file(), reason="needs the demo bundle: make demo")
def test_the_demo_keeps_every_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Less than the minute that the command listens to; `test_runtime_idle` has the whole minute without a network."""
    monkeypatch.setattr(idle.measure_idle, "__defaults__", (20, idle.HEAD_HEIGHT))
    assert main(["eval", "--idle", str(DEMO), "-o", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "idle.json").read_text())
    assert content["seconds"] == 20 and set(content["why"]) <= {"velocity at the loop's seam"}
    assert {name for name, bar in content["bars"].items() if not bar["kept"]} == set()
    assert "lips, widest apart" in capsys.readouterr().out
