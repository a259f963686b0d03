"""Writes frames as mp4: H.264 and AAC, sound and picture exactly in step, whole or not at all."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .errors import OutputError
from .manifest import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE
from .output import check_output, partial_name

_BT709 = 1  # H.273: the matrix, primaries and transfer that players expect of H.264


class VideoWriter:
    """An mp4 file in the making. `close` puts it in its place, `abort` leaves nothing; as a context it does either."""

    def __init__(self, path: str | Path, width: int, height: int, sound: bool = True) -> None:
        """Raises OutputError if the place cannot be written to or the size is odd (H.264 halves the colours)."""
        self.path = check_output(path, ".mp4")
        if width % 2 or height % 2:
            raise OutputError(f"{width}x{height} is not a size that H.264 can store: use even numbers")
        self._partial = partial_name(self.path)
        self._frames = self._samples = 0
        try:
            self._container: Any = av.open(str(self._partial), "w", format="mp4", options={"movflags": "faststart"})
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from None
        try:
            self._video = self._video_stream(width, height)
            self._audio = self._audio_stream() if sound else None
        except BaseException:
            self.abort()
            raise

    def _video_stream(self, width: int, height: int) -> Any:
        stream = self._container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "18"}
        context = stream.codec_context
        context.time_base = Fraction(1, FRAME_RATE)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = av.video.reformatter.ColorRange.MPEG
        return stream

    def _audio_stream(self) -> Any:
        stream = self._container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = 96000
        return stream

    def write(self, rgb: NDArray[np.uint8], audio: NDArray[np.float32] | None = None) -> None:
        """Appends one picture [height, width, 3] and its 640 samples. Raises OutputError, e.g. on a full disk."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = self._frames, Fraction(1, FRAME_RATE)
        self._frames += 1
        try:
            self._container.mux(self._video.encode(picture))
            if self._audio is not None and audio is not None:
                self._write_audio(audio)
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from None

    def _write_audio(self, audio: NDArray[np.float32]) -> None:
        assert self._audio is not None
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None]), format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, self._samples, Fraction(1, SAMPLE_RATE)
        self._samples += FRAME_SAMPLES
        self._container.mux(self._audio.encode(sound))

    def close(self) -> None:
        """Finishes the file and puts it in its place, over an older one. Raises OutputError."""
        try:
            for stream in (self._video, self._audio):
                if stream is not None:
                    self._container.mux(stream.encode(None))
            self._container.close()
            os.replace(self._partial, self.path)
        except (av.FFmpegError, OSError) as error:
            self.abort()
            raise self._error(error) from None

    def abort(self) -> None:
        """Gives up: the half-written file is removed, an older file of that name stays."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            pass  # a file that is thrown away need not end well
        self._partial.unlink(missing_ok=True)

    def _error(self, error: Exception) -> OutputError:
        full = getattr(error, "errno", None) == errno.ENOSPC
        cure = "free some space" if full else "choose another place or check its permissions"
        return OutputError(f"{self.path} cannot be written ({getattr(error, 'strerror', None) or error}): {cure}")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
