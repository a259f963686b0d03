"""The sound of a scene: which file it is, what its header says, and its samples at 16 kHz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from ...runtime.audio_file import AudioFile
from ...runtime.manifest import SAMPLE_RATE

__all__ = ["SOUND_NAMES", "Sound", "find_sound", "measure", "read_speech"]

SOUND_NAMES = ("aud.wav", "audio.wav")
"""Names looked for, in this order; then any single `.wav` of the folder."""


@dataclass(frozen=True)
class Sound:
    """A sound file as it lies there."""

    path: Path
    rate: int  # Hz, by its header
    channels: int
    samples: int  # a channel, counted by decoding: a header may lie

    @property
    def seconds(self) -> float:
        """Its length, by decoding."""
        return self.samples / self.rate


def find_sound(folder: Path) -> Path | None:
    """The scene's sound file, if it has one."""
    for name in SOUND_NAMES:
        if (folder / name).is_file():
            return folder / name
    others = sorted(folder.glob("*.wav"))
    return others[0] if len(others) == 1 else None


def measure(path: Path) -> Sound:
    """Rate, channels and length. Raises AudioError if it is no sound."""
    file = AudioFile(path, downmix=True)
    with av.open(str(path)) as container:
        channels = int(container.streams.audio[0].channels)
    return Sound(path, file.rate, channels, sum(len(block) for block in file.blocks()))


def read_speech(path: Path) -> NDArray[np.float32]:
    """A sound file [N], mono (channels averaged) at 16 kHz, in -1…1. Raises AudioError."""
    file = AudioFile(path, downmix=True)
    samples = np.concatenate(list(file.blocks()))
    if file.rate == SAMPLE_RATE:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, file.rate, SAMPLE_RATE).astype(np.float32)
    return resampled
