"""Sync-C and Sync-E by SyncNet (Chung and Zisserman 2016), with the weights `syncnet_v2.model` that the user brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor, nn

from ...runtime.manifest import FRAME_SAMPLES, SAMPLE_RATE
from .errors import MetricError
from .weights import fill, read_weights

__all__ = ["SyncNet", "load_syncnet", "mfcc", "sync_scores"]

Doubles = NDArray[np.float64]

SIZE = 224
"""Pixels a side of a face that SyncNet sees."""
_FRAMES, _CEPSTRA = 5, 20  # pictures and MFCC rows of one window: 0.2 s
_SHIFT = 15  # frames to both sides that the best offset is searched in, as the published evaluation
_BATCH = 16


class SyncNet(nn.Module):
    """Both towers, with the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = _audio_tower()
        self.netcnnlip = _lip_tower()
        self.netfcaud, self.netfclip = _projection(), _projection()

    def hear(self, cepstra: Tensor) -> Tensor:
        """MFCC windows [B, 1, 13, 20] to embeddings [B, 1024]."""
        out: Tensor = self.netfcaud(self.netcnnaud(cepstra).flatten(1))
        return out

    def see(self, faces: Tensor) -> Tensor:
        """Faces [B, 3, 5, 224, 224], BGR 0…255, to embeddings [B, 1024]."""
        out: Tensor = self.netfclip(self.netcnnlip(faces).flatten(1))
        return out


def _audio_tower() -> nn.Sequential:
    def step(inputs: int, outputs: int, kernel: int | tuple[int, int], padding: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *step(1, 64, 3, 1), nn.MaxPool2d(1, 1),
        *step(64, 192, 3, 1), nn.MaxPool2d(3, (1, 2)),
        *step(192, 384, 3, 1), *step(384, 256, 3, 1), *step(256, 256, 3, 1), nn.MaxPool2d(3, 2),
        *step(256, 512, (5, 4), 0),
    )  # fmt: skip


def _lip_tower() -> nn.Sequential:
    def step(inputs: int, outputs: int, size: int, padding: int, stride: int = 1, frames: int = 1) -> list[nn.Module]:
        kernel, strides, pads = (frames, size, size), (1, stride, stride), (0, padding, padding)
        return [nn.Conv3d(inputs, outputs, kernel, strides, pads), nn.BatchNorm3d(outputs), nn.ReLU()]

    def pool(padding: int = 0) -> nn.Module:
        return nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, padding, padding))

    return nn.Sequential(
        *step(3, 96, 7, 0, stride=2, frames=_FRAMES), pool(),
        *step(96, 256, 5, 1, stride=2), pool(padding=1),
        *step(256, 256, 3, 1), *step(256, 256, 3, 1), *step(256, 256, 3, 1), pool(),
        *step(256, 512, 6, 0),
    )  # fmt: skip


def _projection() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


def load_syncnet(path: Path | None) -> SyncNet:
    """SyncNet with the user's weights. Raises MetricError if they are missing or of another network."""
    module = SyncNet()
    fill(module, read_weights([] if path is None else [path], "SyncNet"), "SyncNet")
    return module


@torch.inference_mode()
def sync_scores(
    network: SyncNet, face: Callable[[int], NDArray[np.uint8]], frames: int, samples: NDArray[Any]
) -> dict[str, float]:
    """Sync-C (confidence), Sync-E (the least mean distance) and the offset.

    Args:
        network: with published weights.
        face: gives picture i of the face, RGB [H, W, 3]; it is scaled to 224×224.
        frames: how many there are, at 25 a second.
        samples: [N] speech, 16 kHz, in -1…1, that starts with the first picture.

    Returns:
        confidence: median minus least of the mean distances over the shifts; distance: the least; offset_frames: the
        shift at which it is least, positive where the picture is late.

    Raises:
        MetricError: pictures or sound are shorter than six frames.
    """
    usable = min(frames, len(samples) // FRAME_SAMPLES) - _FRAMES
    if usable < 1:
        raise MetricError("SyncNet needs six frames of pictures and sound or more: give a longer clip")
    cepstra = torch.from_numpy(mfcc(samples).T.astype(np.float32))
    seen, heard = [], []
    for first in range(0, usable, _BATCH):
        count = min(_BATCH, usable - first)
        faces = torch.stack([_face(face(index)) for index in range(first, first + count + _FRAMES - 1)], 1)
        seen.append(network.see(torch.stack([faces[:, i : i + _FRAMES] for i in range(count)])))
        windows = [cepstra[:, 4 * (first + i) : 4 * (first + i) + _CEPSTRA] for i in range(count)]
        heard.append(network.hear(torch.stack(windows)[:, None]))
    mean = _mean_distances(torch.cat(seen), torch.cat(heard))
    least, where = mean.min(0)
    return {
        "confidence": float(mean.median() - least),
        "distance": float(least),
        "offset_frames": float(_SHIFT - where),
    }


def _mean_distances(seen: Tensor, heard: Tensor) -> Tensor:
    """Mean distance [31] of pictures to the sound 15 frames earlier … 15 frames later; zeros beyond its ends."""
    padded = F.pad(heard, (0, 0, _SHIFT, _SHIFT))
    shifts = [F.pairwise_distance(seen, padded[shift : shift + len(seen)]) for shift in range(2 * _SHIFT + 1)]
    return torch.stack([shift.mean() for shift in shifts])


def _face(picture: NDArray[np.uint8]) -> Tensor:
    """RGB [H, W, 3] to BGR [3, 224, 224], 0…255."""
    bgr = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).permute(2, 0, 1)[None].float()
    if bgr.shape[-2:] != (SIZE, SIZE):
        bgr = F.interpolate(bgr, (SIZE, SIZE), mode="bilinear", antialias=True)
    return bgr[0]


def mfcc(samples: NDArray[Any]) -> Doubles:
    """Cepstra [1 + ⌈(N - 400)/160⌉, 13] of speech [N] at 16 kHz in -1…1, as SyncNet was trained with.

    Pre-emphasis 0.97 of the 16-bit signal, frames of 25 ms every 10 ms without a window, 512-point power spectrum, 26
    mel filters to 8 kHz, orthonormal DCT, lifter 22, the first coefficient replaced by the log energy.
    """
    signal = np.asarray(samples, dtype=np.float64) * 32768
    signal = np.append(signal[:1], signal[1:] - 0.97 * signal[:-1])
    length, step, points = SAMPLE_RATE // 40, SAMPLE_RATE // 100, 512
    count = 1 + max(0, -(-(len(signal) - length) // step))
    padded = np.pad(signal, (0, max(0, (count - 1) * step + length - len(signal))))
    frames = padded[step * np.arange(count)[:, None] + np.arange(length)]
    power = np.abs(np.fft.rfft(frames, points)) ** 2 / points
    tiny = np.finfo(np.float64).eps
    bands = np.maximum(power @ _mel_filters(26, points).T, tiny)
    cepstra: Doubles = np.asarray(dct(np.log(bands), type=2, axis=1, norm="ortho"))[:, :13]
    cepstra = cepstra * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
    cepstra[:, 0] = np.log(np.maximum(power.sum(axis=1), tiny))
    return cepstra


def _mel_filters(count: int, points: int) -> Doubles:
    """Triangles [count, points/2 + 1] whose corners are evenly spaced in mel from 0 to 8 kHz."""
    mels = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), count + 2)
    corners = np.floor((points + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE)
    bins = np.arange(points // 2 + 1)[None]
    low, middle, high = (corners[first : first + count, None] for first in range(3))
    rising, falling = (bins - low) / np.maximum(middle - low, 1), (high - bins) / np.maximum(high - middle, 1)
    inside = np.where(bins < middle, np.where(bins >= low, rising, 0), np.where(bins < high, falling, 0))
    filters: Doubles = inside.clip(0)
    return filters
