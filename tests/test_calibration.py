"""The speech that calibrates int8: sound files and folders of them."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from emotag.export.command import _parser, engine_options
from emotag.export.speech import LIMIT, load_calibration
from emotag.runtime import AudioError, ExportError


def write(path: Path, seconds: float, level: int) -> Path:
    """A 16 kHz WAV whose samples are all `level`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.full(int(16000 * seconds), level, np.int16).tobytes())
    return path


def test_the_shipped_sample_is_the_default() -> None:
    speech, name = load_calibration([])
    assert name == f"the shipped sample, {len(speech) / 16000:.1f} s" and len(speech) > 10 * 16000


def test_every_file_of_a_folder_has_an_equal_share(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "in" / f"{number}" / "voice.wav", 40, 1000 * (number + 1))
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    speech, name = load_calibration([tmp_path / "in"])
    assert name == "4 files, 60.0 s" and len(speech) == LIMIT * 16000
    shares = np.rint(speech.reshape(4, -1).mean(axis=1) * 32768)
    assert shares.tolist() == [1000, 2000, 3000, 4000]


def test_of_very_many_files_an_even_choice_is_heard(tmp_path: Path) -> None:
    for number in range(130):
        write(tmp_path / f"{number:03}.wav", 1.5, 100)
    speech, name = load_calibration([tmp_path])
    assert len(speech) == 44 * 16000 and name == "130 files, 44.0 s"


def test_speech_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="has no sound file .*give a folder with speech"):
        load_calibration([tmp_path])
    with pytest.raises(AudioError, match="1.0 s of speech to calibrate on, give 2 s or more"):
        load_calibration([write(tmp_path / "a.wav", 1, 5)])
    with pytest.raises(AudioError):
        load_calibration([tmp_path / "missing.wav"])


def test_the_command_takes_it(tmp_path: Path) -> None:
    voice = str(write(tmp_path / "a.wav", 3, 5))
    given = ["a.pt", "-o", "a.emotag", "--calibration", voice]
    with pytest.raises(ExportError, match="--calibration is for engines: give --engine"):
        engine_options(_parser().parse_args(given))
    options = engine_options(_parser().parse_args([*given, "--engine", "tensorrt-rtx", "--engine-precision", "int8"]))
    assert options.calibration_name == "a.wav, 3.0 s" and options.calibration is not None
    assert len(options.calibration) == 3 * 16000 and options.precision == "int8"
