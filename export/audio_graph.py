"""One step of the streaming audio encoder, D(c, r, L), with explicit state; what `audio.onnx` computes.

Written for export: no batch axis, channels last, every convolution a matrix product (which also quantises).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..training.wav2vec2 import Rotary, StreamingConfig, StreamingWav2Vec2
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
        columns = x.reshape(half, 2 * channels)
        if cached is not None:  # the row before each pair: the cached one, then every second
            before = torch.cat([cached, columns[:-1, channels:]]) if half > 1 else cached
            columns = torch.cat([before, columns], 1)
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
    """The grouped positional convolution of the r + c tokens of a step, each sum continued from the step before.

    A token's sum grows with every step that brings tokens within its reach. Of the r look-ahead tokens that the step
    before has seen, only the products with the c new tokens are missing; the c new tokens are summed from their whole
    past. That is a fifth of the products, and the same matrix product for every group, without columns.
    """

    def __init__(self, convolution: Any, streaming: StreamingConfig) -> None:
        super().__init__()
        self.groups = int(convolution.groups)
        self.chunk, self.lookahead = streaming.chunk, streaming.lookahead
        self.reach = int(convolution.kernel_size[0]) // 2
        weight = convolution.weight.detach()  # [H, H/groups, taps]
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:]).permute(0, 3, 2, 1)  # [group, tap, in, out]
        c, r = self.chunk, self.lookahead
        # Token q meets position p at the tap q - p + reach.
        seen = [[r + j - i + self.reach for i in range(r)] for j in range(c)]
        self.continued = nn.Parameter(self._matrix(grouped, seen)) if r else None
        past = [[m - i for i in range(c)] for m in range(self.reach + c)]
        self.begun = nn.ParameterList(w.contiguous() for w in self._matrix(grouped, past))
        self.bias = nn.Parameter(convolution.bias.detach().clone())

    @staticmethod
    def _matrix(grouped: Tensor, taps: list[list[int]]) -> Tensor:
        """Weights [groups, tokens·in, positions·out] of the taps [tokens][positions]; those out of reach are 0."""
        groups, count, width, out = grouped.shape
        index = torch.tensor(taps)
        within = (index >= 0) & (index < count)
        chosen = grouped[:, index.clamp(0, count - 1)] * within[None, :, :, None, None]
        tokens, positions = index.shape
        return chosen.permute(0, 1, 3, 2, 4).reshape(groups, tokens * width, positions * out).contiguous()

    def forward(self, window: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Features [reach + r + c, H] and sums [r, H] of the step before to the result and the sums, [r + c, H]."""
        new = self._columns(window[self.lookahead :])  # [groups, 1, (reach + c)·H/groups]
        begun = torch.cat([new[g] @ weight for g, weight in enumerate(self.begun)])  # [groups, c·H/groups]
        sums_next = self._rows(begun, self.chunk)
        if self.continued is not None:
            added = torch.matmul(self._columns(window[-self.chunk :]), self.continued)
            sums_next = torch.cat([sums + self._rows(added, self.lookahead), sums_next])
        return F.gelu(sums_next + self.bias), sums_next

    def _columns(self, x: Tensor) -> Tensor:
        """[tokens, H] to [groups, 1, tokens·H/groups]."""
        return x.reshape(len(x), self.groups, -1).transpose(0, 1).reshape(self.groups, 1, -1)

    def _rows(self, x: Tensor, positions: int) -> Tensor:
        """[groups, (1,) positions·H/groups] to [positions, H]."""
        return x.reshape(self.groups, positions, -1).transpose(0, 1).reshape(positions, -1)


class RotaryStep(nn.Module):
    """Turns the queries and keys of a step's tokens; keys go into the rings turned.

    The state is the turn of the chunk's first token. It goes on by c tokens at every step and never grows, however long
    an avatar lives: scores depend on differences of turns alone.
    """

    def __init__(self, rotary: Rotary, streaming: StreamingConfig) -> None:
        super().__init__()
        self.rotary = rotary
        angles = rotary.angles(torch.arange(streaming.step_tokens))
        self.cosine, self.sine = nn.Parameter(angles.cos().float()), nn.Parameter(angles.sin().float())
        after = rotary.angles(torch.tensor([streaming.chunk]))[0]
        self.next_cosine, self.next_sine = nn.Parameter(after.cos().float()), nn.Parameter(after.sin().float())

    def start(self) -> Tensor:
        """State [2, size/2] of the first step."""
        return torch.stack([torch.ones_like(self.next_cosine), torch.zeros_like(self.next_sine)])

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """State [2, size/2] (cosine and sine) to those of the step's tokens [n, size/2] and the next state."""
        cosine, sine = state[0], state[1]
        here = cosine * self.cosine - sine * self.sine, sine * self.cosine + cosine * self.sine
        following = torch.stack(
            [cosine * self.next_cosine - sine * self.next_sine, sine * self.next_cosine + cosine * self.next_sine]
        )
        # Rounding must not make it longer or shorter over hours.
        return *here, following / torch.sqrt((following**2).sum(0, keepdim=True))


class LayerStep(nn.Module):
    """One Transformer layer for the n tokens of a step, with key and value rings of L tokens.

    The last layer answers for the chunk's tokens alone (`answers` < n): of the look-ahead only keys and values matter.
    """

    def __init__(self, layer: Any, pre_norm: bool, answers: int | None = None, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.rotary = rotary
        attention = layer.attention
        self.heads = int(attention.num_heads)
        self.width = int(attention.head_dim)
        self.pre_norm = pre_norm
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        scale = [self.width**-0.5, 1.0, 1.0]
        weight = torch.cat([p.weight.detach().T * s for p, s in zip(parts, scale, strict=True)], 1)
        bias = torch.cat([p.bias.detach() * s for p, s in zip(parts, scale, strict=True)])
        self.answers = answers
        if answers is None:
            self.qkv_weight, self.qkv_bias = nn.Parameter(weight.contiguous()), nn.Parameter(bias)
        else:
            hidden = self.heads * self.width
            self.q_weight, self.q_bias = nn.Parameter(weight[:, :hidden].contiguous()), nn.Parameter(bias[:hidden])
            self.kv_weight, self.kv_bias = nn.Parameter(weight[:, hidden:].contiguous()), nn.Parameter(bias[hidden:])
        self.out, self.norm = attention.out_proj, layer.layer_norm
        self.up, self.down = layer.feed_forward.intermediate_dense, layer.feed_forward.output_dense
        self.final_norm = layer.final_layer_norm

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *turns: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[n, H], rings [heads, L, H/heads], mask [L] to [n or answers, H], new keys and values [heads, n, H/heads].

        turns: cosine and sine [n, size/2] of a rotary position embedding, if there is one.
        """
        mixed, k, v = self._attend(self.norm(x) if self.pre_norm else x, keys, values, mask, *turns)
        x = (x if self.answers is None else x[: self.answers]) + mixed
        if self.pre_norm:
            return x + self._feed_forward(self.final_norm(x)), k, v
        x = self.norm(x)
        return self.final_norm(x + self._feed_forward(x)), k, v

    def _attend(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *turns: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        length = keys.shape[1]
        q, k, v = self._project(x)
        if self.rotary is not None:
            q = self.rotary.turn(q, *(turn[: q.shape[1]] for turn in turns))
            k = self.rotary.turn(k, *turns)
        past = torch.matmul(q, keys.transpose(1, 2)) + mask
        weights = torch.softmax(torch.cat([past, torch.matmul(q, k.transpose(1, 2))], -1), -1)
        mixed = torch.matmul(weights[..., :length], values) + torch.matmul(weights[..., length:], v)
        out: Tensor = self.out(mixed.permute(1, 0, 2).reshape(q.shape[1], self.heads * self.width))
        return out, k, v

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[n, H] to queries [heads, n or answers, H/heads], keys and values [heads, n, H/heads]."""
        if self.answers is None:
            qkv = (x @ self.qkv_weight + self.qkv_bias).reshape(len(x), 3 * self.heads, self.width).transpose(0, 1)
            q, k, v = torch.split(qkv, self.heads)
            return q, k, v
        q = (x[: self.answers] @ self.q_weight + self.q_bias).reshape(self.answers, self.heads, self.width)
        kv = (x @ self.kv_weight + self.kv_bias).reshape(len(x), 2 * self.heads, self.width).transpose(0, 1)
        k, v = torch.split(kv, self.heads)
        return q.transpose(0, 1), k, v

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
        self.position = PositionStep(model.encoder.pos_conv_embed.conv, self.streaming)
        self.norm = model.encoder.layer_norm
        answers = [None] * (len(model.encoder.layers) - 1) + [self.streaming.chunk]
        self.layers = nn.ModuleList(
            LayerStep(layer, self.pre_norm, count, encoder.rotary)
            for layer, count in zip(model.encoder.layers, answers, strict=True)
        )
        self.rotary = None if encoder.rotary is None else RotaryStep(encoder.rotary, self.streaming)

    def state_names(self) -> list[str]:
        """States that are fed back, in the order of `forward`."""
        return ["tail", *[f"conv_{i + 1}" for i in range(self._cached())], "features", *self._sums(), *self._turns()]

    def _sums(self) -> list[str]:
        return ["positions"] if self.streaming.lookahead else []

    def _turns(self) -> list[str]:
        return [] if self.rotary is None else ["rotary"]

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
        tail, caches, features = state[0], state[1 : 1 + cached], state[1 + cached]
        rest = list(state[2 + cached :])
        sums = rest.pop(0) if self._sums() else features[:0]
        turns, kept_turn = self._turn(rest)
        mask, *rings = rest
        joined = torch.cat([tail, samples])
        new, next_caches = self._features(joined, caches)
        window = torch.cat([features, new])  # 64 + r tokens before, then c new ones
        position, sums_next = self.position(window, sums)
        x = window[self.position.reach :] + position
        x = x if self.pre_norm else self.norm(x)
        new_rings: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, rings[2 * i], rings[2 * i + 1], mask, *turns)
            new_rings += [k, v]
        x = self.norm(x) if self.pre_norm else x
        c = self.streaming.chunk
        kept = [sums_next[c:]] if self._sums() else []
        return (x, joined[-5:], *next_caches, window[c:], *kept, *kept_turn, *new_rings)

    def _turn(self, rest: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Takes the rotary state off `rest`: cosine and sine of this step's tokens, and the next state; or nothing."""
        if self.rotary is None:
            return [], []
        cosine, sine, following = self.rotary(rest.pop(0))
        return [cosine, sine], [following]

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
        sums = {name: torch.zeros(self.streaming.lookahead, self.hidden) for name in self._sums()}
        turns = {} if self.rotary is None else {"rotary": self.rotary.start()}
        return {"tail": torch.zeros(5), **caches, "features": features, **sums, **turns}

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Inputs of a first step, in the order of `input_names`."""
        layer = self.layers[0]
        assert isinstance(layer, LayerStep)
        ring = torch.zeros(layer.heads, self.streaming.context, layer.width)
        mask = torch.full((self.streaming.context,), EMPTY_SLOT)
        rings = [ring.clone() for _ in range(2 * len(self.layers))]
        return (torch.zeros(320 * self.streaming.chunk), *self.initial_state().values(), mask, *rings)
