"""How wide the inputs of an encoder's products are on speech: what decides in how many levels they are rounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..training.wav2vec2 import SAMPLE_RATE, STRIDES, StreamingWav2Vec2

Float = NDArray[np.float32]

_MOST_SECONDS = 4


@dataclass(frozen=True)
class InputRange:
    """Of a product's rows, means over speech: the square of the span from least to most, and the sum of squares."""

    span: float
    power: float

    @staticmethod
    def of(rows: Tensor) -> InputRange:
        """rows: [count, inputs]."""
        span = rows.amax(1).clamp(min=0) - rows.amin(1).clamp(max=0)
        return InputRange(float(span.square().mean()), float(torch.einsum("rk,rk->r", rows, rows).mean()))


def input_ranges(encoder: StreamingWav2Vec2, speech: Float) -> dict[str, InputRange]:
    """By the name of a product in `audio.safetensors`. speech: 16 kHz, a few seconds of it are heard."""
    heard: dict[str, InputRange] = {}
    with _watching(encoder, heard):
        encoder.extract(speech[: _MOST_SECONDS * SAMPLE_RATE])
    return heard


@contextmanager
def _watching(encoder: StreamingWav2Vec2, heard: dict[str, InputRange]) -> Iterator[None]:
    model: Any = encoder.model
    hooks = []

    def watch(module: Any, *names: str, stride: int = 0) -> None:
        def note(_: Any, given: tuple[Tensor, ...]) -> None:
            rows = given[0] if not stride else _windows(given[0], int(module.kernel_size[0]), stride)
            heard.update(dict.fromkeys(names, InputRange.of(rows.reshape(-1, rows.shape[-1]))))

        hooks.append(module.register_forward_pre_hook(note))

    for i, layer in enumerate(model.feature_extractor.conv_layers[1:], 1):
        watch(layer.conv, f"convolutions.{i}", stride=STRIDES[i])
    watch(model.feature_projection.projection, "projection")
    for i, layer in enumerate(model.encoder.layers):
        # The chunk's tokens are projected first, then the look-ahead's, whose ranges stay: they are alike.
        watch(layer.attention.q_proj, *(f"layers.{i}.{part}" for part in ("query", "key", "value")))
        watch(layer.attention.out_proj, f"layers.{i}.out")
        watch(layer.feed_forward.intermediate_dense, f"layers.{i}.up")
        watch(layer.feed_forward.output_dense, f"layers.{i}.down")
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """[1, channels, time] to what a convolution sees, [places, channels · kernel]."""
    seen = x[0].unfold(1, kernel, stride)  # [channels, places, kernel]
    return seen.transpose(0, 1).reshape(seen.shape[1], -1)
