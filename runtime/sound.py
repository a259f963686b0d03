"""A whole piece of sound to render, from a file or an array, with how long it will take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from .audio import AudioQueue, Samples, check_rate, check_samples
from .frame import Frame
from .manifest import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Sound:
    """Blocks of mono samples at `rate`, and how many frames they make (None if a file does not say)."""

    blocks: Iterator[Samples]
    rate: int
    frames: int | None

    @classmethod
    def open(cls, source: str | Path | Samples, sample_rate: int, downmix: bool) -> Sound:
        """A sound file, or an array at `sample_rate`. Raises AudioError."""
        if isinstance(source, str | Path):
            from .audio_file import AudioFile  # loads FFmpeg, which a live avatar never needs

            file = AudioFile(source, downmix)
            return cls(file.blocks(), file.rate, _frames(file.seconds))
        samples, rate = check_samples(source), check_rate(sample_rate)
        return cls(iter(_seconds_of(samples, rate)), rate, _frames(len(samples) / rate))


def _seconds_of(samples: Samples, rate: int) -> Iterator[Samples]:
    """Views of one second each, so that a long array is not held twice."""
    for start in range(0, len(samples), rate):
        yield samples[start : start + rate]


def _frames(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(round(seconds * FRAME_RATE, 6))


def with_sound(frames: Iterator[Frame], source: str | Path, downmix: bool) -> Iterator[Frame]:
    """Frames with the sound of a file instead of their own; the shorter of the two is filled with silence or cut."""
    sound, queue = Sound.open(source, SAMPLE_RATE, downmix), AudioQueue()
    ended = False
    for frame in frames:
        audio = np.zeros(FRAME_SAMPLES, np.float32)
        while not queue.take(audio) and not ended:
            block = next(sound.blocks, None)
            ended = block is None
            queue.finish() if block is None else queue.put(block, sound.rate)
        yield replace(frame, audio=audio)


def with_progress(items: Iterator[_Item], total: int | None, show: bool) -> Iterator[_Item]:
    """The items, with a bar on stderr if it is a terminal."""
    if not show:
        return items
    from tqdm import tqdm  # as slow to load as a session, and never needed live

    return iter(tqdm(items, total=total, unit="frame", disable=None, dynamic_ncols=True))
