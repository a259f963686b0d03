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


def read_speech(path: Path) -> NDArray[np.float32]:
    """The first minute of a sound file, mono (channels averaged) at 16 kHz."""
    file = AudioFile(path, downmix=True)
    blocks: list[NDArray[np.float32]] = []
    for block in file.blocks():
        blocks.append(block)
        if sum(map(len, blocks)) >= LIMIT * file.rate:
            break
    samples = np.concatenate(blocks)[: LIMIT * file.rate]
    resampled: NDArray[np.float32] = soxr.resample(samples, file.rate, SAMPLE_RATE).astype(np.float32)
    return resampled
