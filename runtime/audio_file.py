"""Reads sound files of any format that FFmpeg knows, a block at a time: an hour needs no more memory than a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from .audio import check_rate, check_samples
from .errors import AudioError
from .graphs import Float


class AudioFile:
    """A sound file opened for reading. Raises AudioError if it is missing, is no sound, or is not mono."""

    def __init__(self, path: str | Path, downmix: bool = False) -> None:
        self.path = Path(path)
        self._container = _open(self.path)
        try:
            if not self._container.streams.audio:
                raise AudioError(f"{self.path} has no sound: pass a file with an audio track")
            self._stream: Any = self._container.streams.audio[0]
            self.rate = check_rate(self._stream.rate)
            channels = self._stream.channels
            if channels != 1 and not downmix:
                raise AudioError(
                    f"{self.path} has {channels} channels, not one: pass downmix=True (--downmix) to average them"
                )
        except BaseException:
            self._container.close()
            raise

    @property
    def seconds(self) -> float | None:
        """Length as the file's header states it, if it does."""
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        return None if self._container.duration is None else self._container.duration / av.time_base

    def blocks(self) -> Iterator[Float]:
        """The sound as float32 blocks in −1…1 at `rate`. Raises AudioError where it cannot be decoded."""
        empty = True
        try:
            convert = av.AudioResampler(format="fltp", layout=self._stream.layout, rate=self.rate)
            for frame in self._container.decode(self._stream):
                for part in convert.resample(frame):
                    block = part.to_ndarray()
                    empty = False
                    mono = block[0] if len(block) == 1 else block.mean(axis=0, dtype=np.float32)
                    yield self._checked(mono)
        except (av.FFmpegError, ValueError) as error:  # ValueError: the format changes in the middle
            reason = getattr(error, "strerror", None) or error
            raise AudioError(f"{self.path} cannot be decoded ({reason}): convert it to wav first") from None
        finally:
            self._container.close()
        if empty:
            raise AudioError(f"{self.path} holds no samples: pass a file with sound in it")

    def _checked(self, block: Float) -> Float:
        try:
            check_samples(block)
        except AudioError as error:
            raise AudioError(f"{self.path}: {error}") from None
        return block


def _open(path: Path) -> Any:
    if not path.is_file():
        raise AudioError(f"{path} is not a file: pass a sound file such as speech.wav")
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"{path} is not a sound file ({error.strerror}): pass wav, flac, mp3, …") from None
