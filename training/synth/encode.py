"""Pictures as bytes: PNG without loss, JPEG at full chroma. The same array gives the same bytes."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import OutputError

__all__ = ["FORMATS", "encode_picture", "write_wav"]

FORMATS = ("jpg", "png")
_JPEG_QUALITY = 2
"""About 45 dB on these pictures."""


def encode_picture(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """(H,W,3) sRGB or (H,W) grey as a `png` or `jpg` file. Raises `OutputError` if FFmpeg cannot."""
    layout = "rgb24" if pixels.ndim == 3 else "gray"
    codec = av.CodecContext.create("png" if kind == "png" else "mjpeg", "w")
    if not isinstance(codec, av.VideoCodecContext):
        raise OutputError(f"this FFmpeg has no encoder for {kind}; install PyAV from its wheel")
    codec.height, codec.width = pixels.shape[:2]
    codec.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
    if kind == "png":
        codec.pix_fmt = layout
        codec.options = {"compression_level": "4", "pred": "up"}
    else:
        codec.pix_fmt = "yuvj444p"
        codec.qmin = codec.qmax = _JPEG_QUALITY
        frame = frame.reformat(format="yuvj444p", dst_colorspace="ITU601", dst_color_range="JPEG")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def write_wav(path: Path, samples: NDArray[np.float32], rate: int = 16000) -> None:
    """(N,) in -1…1 as 16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
