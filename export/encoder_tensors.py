"""The int8 encoder of a bundle: `audio.safetensors` from a streaming Wav2Vec2 (docs/bundle.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from ..plugins.encoder import LANES, EncoderSizes
from ..runtime.manifest import EncoderSpec
from ..training.checkpoint import Arrays
from ..training.wav2vec2 import KERNELS, StreamingWav2Vec2
from .audio_graph import AudioStep
from .encoder_ranges import InputRange, input_ranges

Float = NDArray[np.float32]
Ranges = Mapping[str, InputRange]

LEVELS = tuple(range(127, 256, 16))  # that rows may be rounded in
_MOST_SUM = 32767
_COARSER = 1.005  # by which a column's scale grows until its sums fit


def encoder_spec(encoder: StreamingWav2Vec2) -> EncoderSpec:
    """What the manifest says of the encoder beside the tensors."""
    config: Any = encoder.model.config
    return EncoderSpec(config.num_hidden_layers, config.num_attention_heads, bool(config.do_stable_layer_norm))


def write_encoder(encoder: StreamingWav2Vec2, speech: Float, path: Path) -> None:
    """Writes audio.safetensors. speech: see `encoder_tensors`."""
    save_file(encoder_tensors(encoder, speech), path)


def encoder_tensors(encoder: StreamingWav2Vec2, speech: Float) -> Arrays:
    """Content of audio.safetensors. speech: 16 kHz; how wide the inputs of a product are on it decides its levels."""
    model: Any = encoder.model
    ranges = input_ranges(encoder, speech)
    tensors = _convolutions(encoder, ranges) | _norm("features", model.feature_projection.layer_norm)
    tensors |= _product("projection", model.feature_projection.projection, ranges)
    tensors |= _position(model.encoder.pos_conv_embed.conv, encoder) | _norm("encoder", model.encoder.layer_norm)
    for i, layer in enumerate(model.encoder.layers):
        tensors |= _layer(f"layers.{i}", layer, ranges)
    if encoder.rotary is not None:
        tensors["rotary.speeds"] = _floats(encoder.rotary.angles(torch.ones(1))[0].float())
    return tensors


def _convolutions(encoder: StreamingWav2Vec2, ranges: Ranges) -> Arrays:
    model: Any = encoder.model
    step = AudioStep(encoder)
    layers = model.feature_extractor.conv_layers
    tensors: Arrays = {
        "convolutions.0.weight": _floats(step.first.weight.T),
        "convolutions.0.bias": _floats(step.first.bias),
    }
    for i, layer in enumerate(layers[1:], 1):
        weight = layer.conv.weight.detach().permute(0, 2, 1)  # [out, tap, in]
        name = f"convolutions.{i}"
        tensors |= _matrix(name, weight, layer.conv.bias, _levels(weight, ranges[name]))
    if model.config.feat_extract_norm == "layer":
        for i, layer in enumerate(layers):
            tensors |= _norm(f"convolutions.{i}", layer.layer_norm)
    silence = [row for name, row in step.initial_state().items() if name.startswith("conv_")]
    for i, row in enumerate(silence, 1):
        assert KERNELS[i] == 3
        tensors[f"convolutions.{i}.silence"] = _floats(row[0])
    return tensors


def _position(convolution: Any, encoder: StreamingWav2Vec2) -> Arrays:
    """The taps that a step's tokens can meet, [group, output, tap · input]."""
    groups = int(convolution.groups)
    weight = convolution.weight.detach()[..., : EncoderSizes.taps_of(encoder.streaming.step_tokens)]
    rows = weight.reshape(groups, -1, *weight.shape[1:]).permute(0, 1, 3, 2)  # [group, out, tap, in]
    stacked = [_matrix("", part.reshape(len(part), 1, -1), None, LEVELS[0]) for part in rows]
    return {
        "position.weight": np.stack([part[".weight"] for part in stacked]),
        "position.scale": np.stack([part[".scale"] for part in stacked]),
        "position.bias": _floats(convolution.bias),
        "position.levels": stacked[0][".levels"],
    }


def _layer(name: str, layer: Any, ranges: Ranges) -> Arrays:
    attention, fed = layer.attention, layer.feed_forward
    scale = float(attention.head_dim) ** -0.5
    asked = (attention.q_proj, attention.k_proj, attention.v_proj)  # they share their rows, and so the levels
    levels = _levels(torch.cat([linear.weight.detach() for linear in asked])[:, None], ranges[f"{name}.query"])
    tensors: Arrays = {}
    for part, linear, factor in zip(("query", "key", "value"), asked, (scale, 1.0, 1.0), strict=True):
        weight, bias = linear.weight.detach()[:, None] * factor, linear.bias.detach() * factor
        tensors |= _matrix(f"{name}.{part}", weight, bias, levels)
    for part, linear in (
        ("out", attention.out_proj),
        ("up", fed.intermediate_dense),
        ("down", fed.output_dense),
    ):
        tensors |= _product(f"{name}.{part}", linear, ranges)
    return tensors | _norm(name, layer.layer_norm) | _norm(f"{name}.final", layer.final_layer_norm)


def _product(name: str, linear: Any, ranges: Ranges) -> Arrays:
    weight = linear.weight.detach()[:, None]
    return _matrix(name, weight, linear.bias, _levels(weight, ranges[name]))


def _norm(name: str, norm: Any) -> Arrays:
    return {
        f"{name}.norm.weight": _floats(norm.weight),
        f"{name}.norm.bias": _floats(norm.bias),
        f"{name}.norm.epsilon": np.array([norm.eps], np.float32),
    }


def _levels(weight: Tensor, seen: InputRange) -> int:
    """In how many levels to round the rows of a product with `weight` [outputs, taps, inputs].

    Finer rows leave less room for weights, because what is added up in 16 bits is their product. With rounding errors
    uniform and independent, an output's are (span/levels)²/12 · |weights|² + scale²/12 · |row|²: the least is taken.
    """
    array = _floats(weight)
    norms, most, sums = (array**2).sum((1, 2)), np.abs(array).max((1, 2)), _sums(array).max(1)
    errors = []
    for levels in LEVELS:
        scale = np.maximum(most / 127, sums * levels / _MOST_SUM)
        errors.append(float((seen.span / levels**2 * norms + seen.power * scale**2).sum()))
    return LEVELS[int(np.argmin(errors))]


def _matrix(name: str, weight: Tensor, bias: Tensor | None, levels: int) -> Arrays:
    """[outputs, taps, inputs] in 8 bits."""
    outputs = len(weight)
    quantised, scale = quantise_matrix(_floats(weight), levels)
    return {
        f"{name}.weight": quantised.reshape(outputs, -1),
        f"{name}.scale": scale,
        f"{name}.bias": np.zeros(outputs, np.float32) if bias is None else _floats(bias),
        f"{name}.levels": np.array([levels], np.int32),
    }


def quantise_matrix(weight: Float, levels: int) -> tuple[NDArray[np.int8], Float]:
    """Bytes and one scale for each output of a matrix [outputs, taps, inputs].

    The kernels add up eight products in 16 bits: inputs 0, 1, 4, 5, 8, 9, 12, 13 of sixteen, and the others. So the
    sums of positive and of negative bytes among those eight may be 32767 / levels at most, whatever row they meet. An
    output's scale is the finest that keeps its bytes and these sums in range.
    """
    limit = _MOST_SUM // levels
    most = np.abs(weight).max((1, 2))
    sums = _sums(weight).max(1)
    scale = np.maximum(np.maximum(most / 127, sums / limit), np.float32(1e-30))
    quantised = np.rint(weight / scale[:, None, None])
    over = np.flatnonzero(_sums(quantised).max(1) > limit)
    while len(over):
        scale[over] *= np.float32(_COARSER)
        quantised[over] = np.rint(weight[over] / scale[over, None, None])
        over = over[_sums(quantised[over]).max(1) > limit]
    return quantised.astype(np.int8), scale.astype(np.float32)


def _sums(weight: Float) -> Float:
    """What bounds a sum of eight products, [outputs, sums]: of the positive weights, and of the negative ones."""
    outputs, taps, inputs = weight.shape
    whole = np.pad(weight, ((0, 0), (0, 0), (0, -inputs % LANES))).reshape(outputs, -1, 4, 2, 2)
    high, low = np.maximum(whole, 0).sum((2, 4)), np.maximum(-whole, 0).sum((2, 4))
    return np.concatenate([high.reshape(outputs, -1), low.reshape(outputs, -1)], 1)


def _floats(tensor: Tensor) -> Float:
    array: Float = tensor.detach().to(torch.float32).numpy()
    return np.ascontiguousarray(array)
