"""`emotag-train check`: what is there, what is missing or wrong, and how to make it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from released_fixture import read_transforms, write_aus, write_transforms
from scene_fixture import write_released_scene, write_vhap_scene, write_wav
from transformers import Wav2Vec2Config, Wav2Vec2Model

from emotag.training.command import main
from emotag.training.scenes import Finding, check_scene, open_scene, read_speech
from emotag.training.scenes.tokens import encoder_digest, load_encoder
from emotag.training.trainer.hearing import tokens_of
from emotag.training.wav2vec2 import StreamingConfig


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_released_scene(tmp_path_factory.mktemp("released") / "anna")
    (folder / "phonemes.json").write_text('[["SIL", 0.0, 0.48]]')
    return folder


@pytest.fixture
def scene(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(original, tmp_path / "scene"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wav2Vec2 folder small enough for a test."""
    folder = tmp_path_factory.mktemp("encoder")
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(16,) * 7,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    return folder


def findings(folder: Path, item: str) -> list[Finding]:
    return [finding for finding in check_scene(folder).findings if finding.item == item]


def test_whole_scene_is_complete(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_scene(original)
    assert report.complete
    assert not [finding for finding in report.findings if finding.status in ("missing", "problem")]
    assert report.lengths == {name: 12 for name in report.lengths} and len(report.lengths) == 4
    assert report.sound is not None and (report.sound.rate, report.sound.samples) == (16000, 7680)
    assert [round(evidence.rate, 3) for evidence in report.frame_rates] == [25.0, 25.0]
    assert main(["check", str(original)]) == 0
    assert "complete: training can start; 0 optional missing" in capsys.readouterr().out


MISSING: dict[str, tuple[str, str, bool]] = {
    "au_features.csv": ("au_features.csv", "FeatureExtraction -f", True),
    "emotion_features.npy": ("emotion_features.npy", "DeepFace", True),
    "identity_feature.npy": ("identity_feature.npy", "AdaFace", False),
    "aud_w2v.npy": ("audio features", "--make-features --encoder", False),
    "flame_params.npz": ("tracking", "vhap/track.py", True),
    "model_center.npy": ("model_center.npy", "import_vhap_export.py", True),
    "aud.wav": ("sound", "ffmpeg -i clip.mp4 -vn -ac 1 -ar 16000", True),
    "gt_imgs/3.jpg": ("pictures", "gt_imgs/%d.jpg", True),
    "sapiens/depth": ("depth maps", "run_sapiens_priors.sh", False),
    "sapiens/normal": ("normal maps", "run_sapiens_priors.sh", False),
    "parsing": ("masks", "parsing/N.png", True),
    "parsing/5.png": ("masks", "parsing/N.png", True),
    "phonemes.json": ("phonemes.json", "Montreal Forced Aligner", False),
    "face_indices.npy": ("binding", "import_vhap_export.py", False),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_file_is_named_with_its_tool(scene: Path, name: str) -> None:
    item, tool, required = MISSING[name]
    path = scene / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = findings(scene, item)
    assert [finding.status for finding in found] == ["missing"]
    assert tool in found[0].cure and found[0].required == required
    assert check_scene(scene).complete != required


def _double_rate(folder: Path) -> None:
    write_wav(folder / "aud.wav", 12 / 25, rate=44100, channels=2)


def _short_sound(folder: Path) -> None:
    write_wav(folder / "aud.wav", 12 / 30)
    frames = read_transforms(folder)
    write_transforms(folder, frames | {"fps": 30})


def _lost_face(folder: Path) -> None:
    text = (folder / "au_features.csv").read_text().splitlines()
    text[4] = text[4].replace(" 0.98, 1,", " 0.10, 0,")
    (folder / "au_features.csv").write_text("\n".join(text) + "\n")


def _faster_csv(folder: Path) -> None:
    lines = (folder / "au_features.csv").read_text().splitlines()
    for row in range(1, len(lines)):
        cells = lines[row].split(", ")
        cells[2] = f"{(row - 1) / 30:.3f}"
        lines[row] = ", ".join(cells)
    (folder / "au_features.csv").write_text("\n".join(lines) + "\n")


def _nan_windows(folder: Path) -> None:
    windows = np.load(folder / "aud_w2v.npy")
    windows[9, 3, 1] = np.nan
    np.save(folder / "aud_w2v.npy", windows)


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "sample rate": (_double_rate, "sound", "44100 Hz, 2 channels; it should be 16000 Hz"),
    "frame rate of the list": (_short_sound, "frame rate", "30.000 frames a second by transforms.json"),
    "frame rate of OpenFace": (_faster_csv, "frame rate", "29.973 frames a second by au_features.csv"),
    "sound too long": (
        lambda folder: write_wav(folder / "aud.wav", 1.0), "frame rate", "12.000 frames a second by 12 frames"),
    "lost face": (_lost_face, "au_features.csv", "no face it is sure of in 1 frames (rows 3)"),
    "few emotions": (
        lambda folder: np.save(folder / "emotion_features.npy", np.full((8, 7), 1 / 7)), "lengths", "8 frames"),
    "few AUs": (lambda folder: write_aus(folder, np.ones((9, 6))), "lengths", "au_features.csv has 9 frames"),
    "negative emotions": (
        lambda folder: np.save(folder / "emotion_features.npy", -np.ones((12, 7))), "emotion_features.npy", "not prob"),
    "features not finite": (_nan_windows, "aud_w2v.npy", "not finite"),
    "broken picture": (lambda folder: (folder / "gt_imgs/6.jpg").write_bytes(b"?"), "pictures", "6.jpg: not a picture"),
    "broken sound": (lambda folder: (folder / "aud.wav").write_bytes(b"RIFF"), "sound", "not a sound file"),
    "broken tracking": (lambda folder: (folder / "flame_params.npz").write_bytes(b"PK"), "tracking", "not a readable"),
    "broken depth": (
        lambda folder: (folder / "sapiens/depth/sapiens_1b/0.npy").write_bytes(b"x"), "depth maps", "not a readable"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_found(scene: Path, name: str) -> None:
    damage, item, words = WRONG[name]
    damage(scene)
    found = [finding for finding in findings(scene, item) if finding.status == "problem"]
    assert any(words in finding.found for finding in found), findings(scene, item)
    assert not check_scene(scene).complete


def test_all_wrongs_are_shown_at_once(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _lost_face(scene)
    _nan_windows(scene)
    (scene / "identity_feature.npy").unlink()
    assert main(["check", str(scene), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [f["item"] for f in report["findings"] if f["status"] == "problem"] == ["au_features.csv", "aud_w2v.npy"]
    assert not report["complete"]


def test_no_scene_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 1
    assert main(["check", str(tmp_path / "nothing")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "no transforms.json" in lines[0] and "no such folder" in lines[1]


def test_features_are_made_and_used(tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_vhap_scene(tmp_path / "ben", frames=6)
    assert main(["check", str(folder)]) == 0
    assert "(optional): none yet: training makes them" in capsys.readouterr().out
    asked = ["check", str(folder), "--make-features", "--encoder", str(encoder), "--streaming", "2,4,20"]
    assert main(asked) == 0, capsys.readouterr().out
    scene = open_scene(folder)
    assert scene.tokens is not None and scene.tokens.streaming == StreamingConfig(2, 4, 20)
    assert isinstance(scene.tokens.values, np.memmap) and scene.tokens.values.shape == (12, 16)
    again = load_encoder(encoder, StreamingConfig(2, 4, 20)).extract(read_speech(folder / "aud.wav"))
    np.testing.assert_array_equal(scene.tokens.values, again)
    same, other = (load_encoder(encoder, StreamingConfig(2, 4, context)) for context in (20, 30))
    assert tokens_of(scene, same, encoder_digest(same)) is scene.tokens
    assert tokens_of(scene, other, encoder_digest(other), tmp_path / "cache").streaming.context == 30
    write_wav(folder / "aud.wav", 6.2 / 25)
    assert any("not made from this aud.wav" in finding.found for finding in findings(folder, "audio_tokens.npy"))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--make-features"], "needs --encoder"),
        (["--make-features", "--encoder", "nowhere/at-all"], "cannot load the audio encoder"),
        (["--make-features", "--encoder", "x", "--streaming", "2,8"], "three whole numbers"),
    ],
)
def test_features_that_cannot_be_made(scene: Path, extra: list[str], words: str, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["check", str(scene), *extra]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
