"""LPIPS (Zhang et al. 2018) on AlexNet or VGG16, with weights that the user brings.

Taken are, in one file or several: the whole network as `lpips.LPIPS(net=…).state_dict()` saves it; or torchvision's
network (`features.N.…`) with the linear layers of the LPIPS repository (`linI.model.1.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import MetricError
from .weights import fill, read_weights

__all__ = ["NETWORKS", "Lpips", "load_lpips"]

NETWORKS = ("alex", "vgg")
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}  # the ReLUs whose output is compared
_VGG = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions and channels of every block
_SLICE = re.compile(r"^(?:net\.slice\d+|features)\.(\d+)\.(weight|bias)$")
_LINEAR = re.compile(r"^lin(\d)\.model\.1\.weight$")
_SMALLEST = 64  # pixels: below this the last layers have nothing to see


def _alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for block, (convolutions, width) in enumerate(_VGG):
        layers += [nn.MaxPool2d(2, 2)] if block else []
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


class Lpips(nn.Module):
    """The network and its five linear layers; distances are 0 for equal pictures."""

    def __init__(self, network: str) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise MetricError(f"LPIPS on {network!r}: choose from {', '.join(NETWORKS)}")
        self.features = nn.ModuleList(_alexnet() if network == "alex" else _vgg16())
        self.taps = _TAPS[network]
        widths = (64, 192, 384, 256, 256) if network == "alex" else (64, 128, 256, 512, 512)
        self.lin = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in widths)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances [B] of pictures [B, 3, H, W] in 0…1."""
        total = first.new_zeros(len(first))
        for a, b, linear in zip(self._layers(first), self._layers(second), self.lin, strict=True):
            total = total + linear((a - b) ** 2).mean(dim=(1, 2, 3))
        return total

    def _layers(self, pictures: Tensor) -> list[Tensor]:
        shift, scale = (pictures.new_tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))
        x = (2 * pictures - 1 - shift) / scale
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                taps.append(x / (x.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return taps

    @torch.inference_mode()
    def distance(self, predicted: NDArray[Any], truth: NDArray[Any]) -> float:
        """LPIPS of two pictures [H, W, 3], uint8 or floats 0…1. Raises MetricError if their sizes do not do."""
        if predicted.shape != truth.shape or predicted.ndim != 3 or min(predicted.shape[:2]) < _SMALLEST:
            raise MetricError(
                f"LPIPS of shapes {predicted.shape} and {truth.shape}: give two pictures of one size, {_SMALLEST} or "
                "more pixels a side"
            )
        first, second = (_tensor(picture) for picture in (predicted, truth))
        return float(self(first, second))


def load_lpips(network: str, paths: Sequence[Path]) -> Lpips:
    """The network with the user's weights. Raises MetricError if they are missing or of another network."""
    module = Lpips(network)
    state: dict[str, Tensor] = {}
    for name, value in read_weights(paths, f"LPIPS ({network})").items():
        if (part := _SLICE.match(name)) is not None:
            state[f"features.{part[1]}.{part[2]}"] = value
        elif (part := _LINEAR.match(name)) is not None:
            state[f"lin.{part[1]}.weight"] = value
    fill(module, state, f"LPIPS ({network})")
    return module


def _tensor(picture: NDArray[Any]) -> Tensor:
    scaled = picture.astype(np.float32) / (255 if picture.dtype == np.uint8 else 1)
    return torch.from_numpy(np.ascontiguousarray(scaled)).permute(2, 0, 1)[None]
