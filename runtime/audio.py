"""Audio at the border: checked once, resampled if need be, cut into frames of 640 samples."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from .errors import AudioError
from .graphs import Float
from .manifest import FRAME_SAMPLES, SAMPLE_RATE

Samples = NDArray[np.float32] | NDArray[np.int16]

_FLOAT = np.dtype(np.float32)
_LOUDEST = 4.0  # a float that large is not −1…1 with some overshoot: it is int16 scale in a float array
_RATES = (1000, 768000)


def check_samples(samples: Any, count: int | None = None) -> Samples:
    """`samples` if it is mono audio: a 1-D array, int16, or float32 in −1…1, finite, of `count` samples if given.

    Raises AudioError, saying what is wrong and how to convert.
    """
    if type(samples) is np.ndarray and samples.dtype is _FLOAT and samples.shape == (count,):
        # What nearly every frame is. If the squares add up to so little, no sample is too large, and none is NaN.
        if float(samples.dot(samples)) < 0.99 * _LOUDEST**2:
            return samples
    if not isinstance(samples, np.ndarray):
        raise AudioError(
            f"samples are {type(samples).__name__}, not a numpy array: "
            "use numpy.frombuffer(data, numpy.int16) or numpy.asarray(data, numpy.float32)"
        )
    if samples.dtype not in (np.float32, np.int16):
        raise AudioError(
            f"samples have type {samples.dtype}, not float32 or int16: use samples.astype(numpy.float32), "
            "scaled to -1…1"
        )
    if samples.ndim != 1:
        raise AudioError(
            f"samples have shape {samples.shape}, not one dimension: audio must be mono; "
            "mix channels down with samples.mean(axis=channel_axis, dtype=numpy.float32), int16 divided by 32768"
        )
    if count is not None and len(samples) != count:
        raise AudioError(
            f"step takes exactly {count} samples (40 ms at 16 kHz mono), not {len(samples)}: "
            "use push for audio of any length"
        )
    if not len(samples):
        raise AudioError("samples are empty: pass at least one sample")
    if samples.dtype == np.float32:
        _check_level(samples)
    return samples


def _check_level(samples: NDArray[Any]) -> None:
    loudest = np.abs(samples).max()  # NaN and infinity survive abs and max
    if not np.isfinite(loudest):
        raise AudioError("samples hold NaN or infinity: use numpy.nan_to_num(samples) or find where they come from")
    if loudest > _LOUDEST:
        raise AudioError(f"float samples reach {loudest:.0f}, not -1…1: divide int16 values by 32768")


def check_rate(rate: Any) -> int:
    """`rate` if it is a sample rate in Hz. Raises AudioError."""
    low, high = _RATES
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not low <= rate <= high:
        raise AudioError(f"sample rate {rate!r} is not a whole number from {low} to {high} Hz: pass that of the audio")
    return int(rate)


def to_float(samples: Samples, out: Float) -> None:
    """Samples as float32 in −1…1, written to `out` of the same length."""
    if samples.dtype == np.int16:
        np.multiply(samples, np.float32(1 / 32768), out=out)
    else:
        out[:] = samples


class AudioQueue:
    """Audio of any length and rate in, frames of 640 samples at 16 kHz out, in the order it came."""

    def __init__(self) -> None:
        self._pieces: deque[Samples] = deque()
        self._count = 0
        self._resampler: soxr.ResampleStream | None = None
        self._rate = SAMPLE_RATE

    @property
    def idle(self) -> bool:
        """Nothing waits here, neither samples nor the tail of a resampler."""
        return not self._count and self._resampler is None

    @property
    def frames(self) -> int:
        """Whole frames that wait."""
        return self._count // FRAME_SAMPLES

    def put(self, samples: Samples, rate: int = SAMPLE_RATE) -> None:
        """Appends checked samples; they are copied. A change of rate first ends the audio at the old rate."""
        if rate != self._rate:
            self._end_resampler()
            self._rate = rate
        if rate == SAMPLE_RATE:
            self._append(samples.copy())
            return
        if self._resampler is None:
            self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        piece = np.empty(len(samples), np.float32)
        to_float(samples, piece)
        self._append(self._resampler.resample_chunk(piece))

    def take(self, out: Float) -> bool:
        """Writes the next 640 samples to `out`; False, and nothing taken, if fewer are there."""
        if self._count < len(out):
            return False
        filled = 0
        while filled < len(out):
            piece = self._pieces[0]
            part = piece[: len(out) - filled]
            to_float(part, out[filled : filled + len(part)])
            filled += len(part)
            if len(part) == len(piece):
                self._pieces.popleft()
            else:
                self._pieces[0] = piece[len(part) :]
        self._count -= filled
        return True

    def finish(self) -> None:
        """Ends the audio: the resampler's tail comes out, and silence fills up the last frame."""
        self._end_resampler()
        missing = -self._count % FRAME_SAMPLES
        if missing:
            self._append(np.zeros(missing, np.float32))

    def clear(self) -> None:
        """Drops everything that waits."""
        self._pieces.clear()
        self._count = 0
        self._resampler = None

    def _append(self, piece: Samples) -> None:
        if len(piece):
            self._pieces.append(piece)
            self._count += len(piece)

    def _end_resampler(self) -> None:
        if self._resampler is not None:
            self._append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
            self._resampler = None
