"""One step of the streaming audio encoder, D(c, r, L), with explicit state; what `audio.onnx` computes.

Written for export: no batch axis, channels last, every convolution a matrix product (which also quantises).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..training.wav2vec2 import StreamingWav2Vec2
from .step import StepModule

EMPTY_SLOT = -1e4  # added to the attention scores of ring slots that hold nothing yet


class ConvolutionStep(nn.Module):
    """Kernel 3 (one cached row) or kernel 2, stride 2, as one matrix product; norm and GELU behind it."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        weight = layer.conv.weight.detach()  # [out, in, k]
        self.kernel = int(weight.shape[2])
        self.weight = nn.Parameter(weight.permute(2, 1, 0).reshape(-1, weight.shape[0]).contiguous())
        self.bias = None if layer.conv.bias is None else nn.Parameter(layer.conv.bias.detach().clone())
        self.norm = layer.layer_norm if hasattr(layer, "layer_norm") else nn.Identity()

    def forward(self, x: Tensor, cached: Tensor | None) -> Tensor:
        """[n, C] (and the cached row [1, C] before it) to [n/2, C']."""
        half, channels = x.shape[0] // 2, x.shape[1]
        if cached is None:
            columns = x.reshape(half, 2 * channels)
        else:
            x = torch.cat([cached, x])
            columns = torch.cat([x[:-1].reshape(half, 2 * channels), x[2::2]], 1)
        y = columns @ self.weight
        y = y if self.bias is None else y + self.bias
        return F.gelu(self.norm(y))


class FirstConvolutionStep(nn.Module):
    """Kernel 10, stride 5, on samples; a frozen GroupNorm is folded into its weights."""

    def __init__(self, encoder: StreamingWav2Vec2) -> None:
        super().__init__()
        layer: Any = encoder.model.feature_extractor.conv_layers[0]
        weight = layer.conv.weight.detach()[:, 0]
        bias = torch.zeros(len(weight)) if layer.conv.bias is None else layer.conv.bias.detach()
        self.norm: nn.Module = nn.Identity()
        if encoder.frozen_norm:
            gain = layer.layer_norm.weight.detach() / torch.sqrt(encoder.norm_var + layer.layer_norm.eps)
            weight = weight * gain[:, None]
            bias = (bias - encoder.norm_mean) * gain + layer.layer_norm.bias.detach()
        elif hasattr(layer, "layer_norm"):
            self.norm = layer.layer_norm
        self.weight = nn.Parameter(weight.T.contiguous())
        self.bias = nn.Parameter(bias.clone())

    def forward(self, samples: Tensor) -> Tensor:
        """[5 + 5n] samples to [n, C]."""
        x = samples.reshape(-1, 5)
        x = torch.cat([x[:-1], x[1:]], 1)
        return F.gelu(self.norm(x @ self.weight + self.bias))


class PositionStep(nn.Module):
    """The grouped positional convolution at the last n positions of a window of 64 + n, one product a group."""

    def __init__(self, convolution: Any, step_tokens: int) -> None:
        super().__init__()
        self.groups = int(convolution.groups)
        self.tokens = step_tokens
        self.reach = int(convolution.kernel_size[0]) // 2
        weight = convolution.weight.detach()[..., : self.reach + step_tokens]  # [H, H/groups, taps]
        hidden, width, taps = weight.shape
        grouped = weight.reshape(self.groups, hidden // self.groups, width, taps).permute(0, 3, 2, 1)
        self.weights = nn.ParameterList(w.reshape(taps * width, -1).contiguous() for w in grouped)
        self.bias = nn.Parameter(convolution.bias.detach().clone())

    def forward(self, window: Tensor) -> Tensor:
        """[64 + n, H] to [n, H]."""
        n, hidden = self.tokens, window.shape[1]
        taps = self.reach + n
        padded = F.pad(window, (0, 0, 0, n - 1))
        columns = torch.stack([padded[i : i + taps] for i in range(n)])
        columns = columns.reshape(n, taps, self.groups, hidden // self.groups).permute(2, 0, 1, 3)
        columns = columns.reshape(self.groups, n, -1)
        y = torch.cat([columns[g] @ weight for g, weight in enumerate(self.weights)], 1)
        return F.gelu(y + self.bias)


class LayerStep(nn.Module):
    """One Transformer layer for the n tokens of a step, with key and value rings of L tokens."""

    def __init__(self, layer: Any, pre_norm: bool) -> None:
        super().__init__()
        attention = layer.attention
        self.heads = int(attention.num_heads)
        self.width = int(attention.head_dim)
        self.pre_norm = pre_norm
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        scale = [self.width**-0.5, 1.0, 1.0]
        weight = torch.cat([p.weight.detach().T * s for p, s in zip(parts, scale, strict=True)], 1)
        bias = torch.cat([p.bias.detach() * s for p, s in zip(parts, scale, strict=True)])
        self.qkv_weight, self.qkv_bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias)
        self.out, self.norm = attention.out_proj, layer.layer_norm
        self.up, self.down = layer.feed_forward.intermediate_dense, layer.feed_forward.output_dense
        self.final_norm = layer.final_layer_norm

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[n, H], rings [heads, L, H/heads], mask [L] to [n, H] and the new keys and values [heads, n, H/heads]."""
        mixed, k, v = self._attend(self.norm(x) if self.pre_norm else x, keys, values, mask)
        x = x + mixed
        if self.pre_norm:
            return x + self._feed_forward(self.final_norm(x)), k, v
        x = self.norm(x)
        return self.final_norm(x + self._feed_forward(x)), k, v

    def _attend(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, length = x.shape[0], keys.shape[1]
        qkv = (x @ self.qkv_weight + self.qkv_bias).reshape(n, 3 * self.heads, self.width).transpose(0, 1)
        q, k, v = torch.split(qkv, self.heads)
        past = torch.matmul(q, keys.transpose(1, 2)) + mask
        weights = torch.softmax(torch.cat([past, torch.matmul(q, k.transpose(1, 2))], -1), -1)
        mixed = torch.matmul(weights[..., :length], values) + torch.matmul(weights[..., length:], v)
        out: Tensor = self.out(mixed.permute(1, 0, 2).reshape(n, self.heads * self.width))
        return out, k, v

    def _feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(x)))
        return out


class AudioStep(StepModule):
    """Samples of one chunk and state to c tokens and the next state (docs/bundle.md, audio.onnx)."""

    def __init__(self, encoder: StreamingWav2Vec2) -> None:
        super().__init__()
        self.streaming = encoder.streaming
        self.hidden = encoder.hidden
        model: Any = encoder.model
        self.pre_norm = bool(model.config.do_stable_layer_norm)
        self.first = FirstConvolutionStep(encoder)
        self.convolutions = nn.ModuleList(ConvolutionStep(c) for c in model.feature_extractor.conv_layers[1:])
        self.feature_norm = model.feature_projection.layer_norm
        self.projection = model.feature_projection.projection
        self.position = PositionStep(model.encoder.pos_conv_embed.conv, self.streaming.step_tokens)
        self.norm = model.encoder.layer_norm
        self.layers = nn.ModuleList(LayerStep(layer, self.pre_norm) for layer in model.encoder.layers)

    def state_names(self) -> list[str]:
        """States that are fed back, in the order of `forward`."""
        return ["tail", *[f"conv_{i + 1}" for i in range(self._cached())], "features"]

    def input_names(self) -> list[str]:
        """Inputs, in the order of `forward`."""
        return ["samples", *self.state_names(), "mask", *self._rings("")]

    def output_names(self) -> list[str]:
        """Outputs, in the order of `forward`."""
        return ["tokens", *[f"{name}_next" for name in self.state_names()], *self._rings("_new")]

    def _rings(self, suffix: str) -> list[str]:
        return [f"{kind}_{i}{suffix}" for i in range(len(self.layers)) for kind in ("key", "value")]

    def _cached(self) -> int:
        return sum(1 for c in self.convolutions if isinstance(c, ConvolutionStep) and c.kernel == 3)

    def forward(self, samples: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `input_names` to tensors in the order of `output_names`."""
        cached = self._cached()
        tail, caches, features, mask = state[0], state[1 : 1 + cached], state[1 + cached], state[2 + cached]
        rings = state[3 + cached :]
        joined = torch.cat([tail, samples])
        new, next_caches = self._features(joined, caches)
        window = torch.cat([features, new])  # 64 + r tokens before, then c new ones
        x = window[self.position.reach :] + self.position(window)
        x = x if self.pre_norm else self.norm(x)
        new_rings: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, rings[2 * i], rings[2 * i + 1], mask)
            new_rings += [k, v]
        x = self.norm(x) if self.pre_norm else x
        c = self.streaming.chunk
        return (x[:c], joined[-5:], *next_caches, window[c:], *new_rings)

    def _features(self, joined: Tensor, caches: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        x = self.first(joined)
        following: list[Tensor] = []
        for i, convolution in enumerate(self.convolutions):
            cache = caches[i] if i < len(caches) else None
            if cache is not None:
                following.append(x[-1:])
            x = convolution(x, cache)
        projected: Tensor = self.projection(self.feature_norm(x))
        return projected, following

    @torch.no_grad()
    def initial_state(self) -> dict[str, Tensor]:
        """State after the 80 prepended zeros: each cached row is its layer's response to silence."""
        x = self.first(torch.zeros(10))[:1]
        caches = {}
        for i, convolution in enumerate(self.convolutions):
            if i < self._cached():
                caches[f"conv_{i + 1}"] = x
                x = convolution(torch.cat([x, x]), x)
        features = torch.zeros(self.position.reach + self.streaming.lookahead, self.hidden)
        return {"tail": torch.zeros(5), **caches, "features": features}

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of a first step, in the order of `input_names`."""
        layer = self.layers[0]
        assert isinstance(layer, LayerStep)
        ring = torch.zeros(layer.heads, self.streaming.context, layer.width)
        mask = torch.full((self.streaming.context,), EMPTY_SLOT)
        rings = [ring.clone() for _ in range(2 * len(self.layers))]
        return (torch.zeros(320 * self.streaming.chunk), *self.initial_state().values(), mask, *rings)
