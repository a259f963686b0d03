"""emotag-render and emotag-inspect as a customer runs them: what they write, what they say, how they fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from synthetic_bundle import EXPRESSIONS, Shape, edit_manifest, write_bundle
from test_runtime_files import speechlike, write_wav

from emotag.runtime import Avatar
from emotag.runtime.commands import inspect, render

REPORT = {"checks": [{"name": "audio", "value": 1e-6, "bound": 1e-4, "at_least": False, "passed": True}]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_bundle(tmp_path_factory.mktemp("commands") / "tiny.emotag", Shape(windows=True))
    (path / "report.json").write_text(json.dumps(REPORT))
    edit_manifest(path)
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("speech") / "speech.wav", speechlike(16000))


def fails(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> None:
    """The command printed one line that names these words, and no traceback."""
    error = capsys.readouterr().err
    assert code == 1 and error.startswith("error: ") and error.count("\n") == 1, error
    assert all(word in error for word in words), error


def test_render_writes_the_video_and_prints_the_times(
    bundle: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, stats = tmp_path / "out.mp4", tmp_path / "stats.json"
    arguments = [str(bundle), str(speech), "-o", str(output), "--size", "96x64", "--background", "#00ff00"]
    assert render.main([*arguments, "--threads", "1", "--stats", str(stats)]) == 0
    printed = capsys.readouterr().out
    assert "25 frames" in printed and "p99" in printed and "FPS" in printed
    with av.open(str(output)) as file:
        pictures = [picture.to_ndarray(format="rgb24") for picture in file.decode(video=0)]
    assert len(pictures) == 25 and pictures[0].shape == (64, 96, 3)
    assert np.abs(pictures[0][2, 2].astype(int) - [0, 255, 0]).max() < 12
    content = json.loads(stats.read_text())
    assert (
        content["frames"] == 25
        and content["kernels"]["blend"]["p50"] > 0
        and content["stages"]["step"]["p50"] > 0
        and content["size"] == [96, 64]
    )


def test_background_may_be_a_picture(bundle: Path, speech: Path, tmp_path: Path) -> None:
    picture, output = tmp_path / "wall.png", tmp_path / "out.mp4"
    with av.open(str(picture), "w", format="image2") as file:
        stream = file.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 20, 10, "rgb24"
        frame = av.VideoFrame.from_ndarray(np.full((10, 20, 3), (200, 30, 60), np.uint8), format="rgb24")
        file.mux([*stream.encode(frame), *stream.encode()])
    assert render.main([str(bundle), str(speech), "-o", str(output), "--background", str(picture)]) == 0
    with av.open(str(output)) as file:
        first = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(first[1, 1].astype(int) - [200, 30, 60]).max() < 12


def test_cued_dump_holds_the_arrays_of_the_recorded_clip(bundle: Path, tmp_path: Path) -> None:
    dump, video = tmp_path / "f.npz", tmp_path / "f.mp4"
    assert render.main([str(bundle), "--cued", "--dump", str(dump), "-o", str(video)]) == 0
    avatar = Avatar(bundle)
    frames = list(avatar.cued(progress=False))
    with np.load(dump) as found:
        assert found["render_frames"].tolist() == [0, 3, 6] and found["expression"].shape == (7, EXPRESSIONS)
        assert found["gate"].shape == (7, 1) and found["emotion_logits"].shape == (7, 7)
        assert found["vertices"].shape == (3, 36, 3) and found["position"].shape == (3, 200, 3)
        assert found["rotation"].shape == (3, 200, 4) and found["scale"].shape == (3, 200, 3)
        count = len(found["mouth_point_indices"])
        assert found["d_mu"].shape == found["d_scale"].shape == (3, count, 3) and found["d_rot"].shape[2] == 4
        assert np.array_equal(found["jaw"], np.stack([frame.jaw for frame in frames]))
        for row, index in enumerate(found["render_frames"]):
            drawn = np.floor(np.clip(found["render_rgb"][row], 0, 1) * 255)
            assert np.abs(drawn - frames[index].rgb).max() <= 2
            assert found["render_alpha"][row].max() > 0.5
    assert sorted(os.listdir(tmp_path)) == ["f.mp4", "f.npz"]
    assert render.main([str(bundle), "--cued", "--dump", str(dump), "--dump-frames", "5,1"]) == 0
    with np.load(dump) as found:
        assert found["render_frames"].tolist() == [1, 5]


def test_recorded_clip_with_its_sound(bundle: Path, speech: Path, tmp_path: Path) -> None:
    assert render.main([str(bundle), str(speech), "--cued", "-o", str(tmp_path / "a.mp4")]) == 0
    with av.open(str(tmp_path / "a.mp4")) as file:
        heard = np.concatenate([part.to_ndarray()[0] for part in file.decode(audio=0)])
    assert np.abs(heard).max() > 0.05


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["b.emotag"],
        ["b.emotag", "a.wav"],
        ["b.emotag", "a.wav", "--dump", "f.npz"],
        ["b.emotag", "--cued", "-o", "a.mp4", "--dump-frames", "1"],
        ["b.emotag", "a.wav", "-o", "a.mp4", "--size", "big"],
        ["b.emotag", "--cued", "--dump", "f.npz", "--dump-frames", "one"],
        ["b.emotag", "a.wav", "-o", "a.mp4", "--threads", "many"],
    ],
)
def test_wrong_usage_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        render.main(arguments)
    assert caught.value.code == 2 and "usage:" in capsys.readouterr().err


def test_render_errors_are_one_line_and_nothing_is_written(
    bundle: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.mp4")
    stereo = write_wav(tmp_path / "stereo.wav", np.zeros((3200, 2), np.float32), channels=2)
    plain = write_bundle(tmp_path / "plain.emotag")
    before = sorted(os.listdir(tmp_path))
    cases: list[tuple[list[object], list[str]]] = [
        (["none.emotag", speech, "-o", out], ["none.emotag", "emotag-export"]),
        ([bundle, "none.wav", "-o", out], ["none.wav", "not a file"]),
        ([bundle, stereo, "-o", out], ["2 channels", "--downmix"]),
        ([bundle, speech, "-o", tmp_path / "no" / "out.mp4"], ["does not exist"]),
        ([bundle, speech, "-o", "/proc/out.mp4"], ["/proc"]),
        ([bundle, speech, "-o", tmp_path / "out.txt"], [".mp4"]),
        ([bundle, speech, "-o", out, "--size", "0x64"], ["width 0"]),
        ([bundle, speech, "-o", out, "--size", "65x64"], ["65x64", "even"]),
        ([bundle, speech, "-o", out, "--threads", "-1"], ["threads=-1"]),
        ([bundle, speech, "-o", out, "--background", "red"], ["'red'", "#ffffff"]),
        ([bundle, speech, "-o", out, "--background", speech], ["not a picture"]),
        ([plain, "--cued", "-o", out], ["no recorded windows"]),
        ([bundle, "--cued", "--dump", tmp_path / "f.npz", "--dump-frames", "7"], ["frame 7", "0 to 6"]),
        ([bundle, "--cued", "--dump", tmp_path / "f.txt"], [".npz"]),
    ]
    for arguments, words in cases:
        fails(capsys, render.main([str(argument) for argument in arguments]), *words)
    assert sorted(os.listdir(tmp_path)) == before


def test_inspect_shows_what_is_in_a_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect.main([str(bundle)]) == 0
    text = capsys.readouterr().out
    for words in ("tiny", "synthetic", "look-ahead  80 ms (2 frames)", "D(c=2, r=2, L=8)", "36 vertices", "CC0"):
        assert words in text, text
    assert "1 of 1 bounds kept" in text and text.count("  ok  ") == 6
    assert inspect.main([str(bundle), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["latency_ms"] == 80 and content["sizes"]["recorded_windows"] == 7
    assert content["files"]["audio.onnx"]["problem"] is None and content["parity"][0]["passed"]


def test_inspect_names_every_damaged_file_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_bundle(tmp_path / "tiny.emotag")
    with (path / "motion.onnx").open("r+b") as file:
        file.write(b"x")
    (path / "cues.safetensors").unlink()
    assert inspect.main([str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("  BAD ") == 2 and captured.out.count("  ok  ") == 3
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    for wrong in (tmp_path, tmp_path / "none"):
        fails(capsys, inspect.main([str(wrong)]), "emotag-export")


def heed_control_c() -> None:
    """A shell's background job ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_control_c_leaves_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    speech = write_wav(tmp_path / "long.wav", np.tile(speechlike(16000), 600))
    command = [sys.executable, "-m", "emotag.runtime.commands.render", str(bundle), str(speech), "-o", "out.mp4"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heed_control_c
    )
    for _ in range(600):  # until the first frame is being written
        if any("partial" in name for name in os.listdir(tmp_path)):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130 and "interrupted" in error and "Traceback" not in error
    assert os.listdir(tmp_path) == ["long.wav"]
