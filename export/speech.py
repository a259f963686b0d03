"""The speech that calibrates an encoder and that parity is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from ..runtime.audio_file import AudioFile
from ..runtime.errors import AudioError
from ..runtime.manifest import SAMPLE_RATE

SAMPLE = Path(__file__).parent.parent / "training" / "assets" / "sample.wav"
LIMIT = 60  # seconds of a file that are used


def load_speech(paths: list[Path]) -> tuple[NDArray[np.float32], str]:
    """Speech at 16 kHz [N] from the user's files, else from the shipped sample, and what to call it.

    Raises:
        AudioError: a file cannot be read, or all together are shorter than two seconds.
    """
    files = paths or [SAMPLE]
    speech = np.concatenate([read_speech(path) for path in files])
    if len(speech) < 2 * SAMPLE_RATE:
        raise AudioError(f"{', '.join(map(str, files))}: {len(speech) / SAMPLE_RATE:.1f} s of speech, give 2 s or more")
    return speech, ", ".join(path.name for path in files)


def load_calibration(paths: list[Path]) -> tuple[NDArray[np.float32], str]:
    """A minute of speech at 16 kHz [N] that sets the scales of int8, and what to call it.

    paths: sound files, and folders whose sound files are all meant; of each an equal share is heard, of very many an
    even choice. None are the shipped sample.

    Raises:
        AudioError: a folder has no sound file, a file cannot be read, or all are shorter than two seconds.
    """
    files = [file for path in paths for file in _sound_files(path)] or [SAMPLE]
    chosen = files[:: -(-len(files) // LIMIT)]
    speech = np.concatenate([read_speech(path, max(1, LIMIT // len(chosen))) for path in chosen])
    seconds = len(speech) / SAMPLE_RATE
    if seconds < 2:
        raise AudioError(f"{', '.join(map(str, paths))}: {seconds:.1f} s of speech to calibrate on, give 2 s or more")
    what = "the shipped sample" if not paths else files[0].name if len(files) == 1 else f"{len(files)} files"
    return speech, f"{what}, {seconds:.1f} s"


def _sound_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not found:
        raise AudioError(f"{path} has no sound file ({', '.join(_SUFFIXES)}): give a folder with speech")
    return found


_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


def read_speech(path: Path, seconds: int = LIMIT) -> NDArray[np.float32]:
    """The first seconds of a sound file, mono (channels averaged) at 16 kHz."""
    file = AudioFile(path, downmix=True)
    blocks: list[NDArray[np.float32]] = []
    for block in file.blocks():
        blocks.append(block)
        if sum(map(len, blocks)) >= seconds * file.rate:
            break
    samples = np.concatenate(blocks)[: seconds * file.rate]
    resampled: NDArray[np.float32] = soxr.resample(samples, file.rate, SAMPLE_RATE).astype(np.float32)
    return resampled
