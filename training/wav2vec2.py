"""Streaming Wav2Vec2: definition D(c, r, L), for training and offline extraction.

Tokens are 20 ms. 80 zeros are prepended, so token t covers samples [320t - 80, 320t + 320). A chunk is c tokens. The
c tokens of a chunk and the r look-ahead tokens behind it attend to the L tokens before the chunk, to the chunk and to
the look-ahead; look-ahead tokens are temporary copies, computed anew for every chunk. The positional convolution of a
token sees what exists at that time: 64 tokens back, and forward to the last look-ahead token. Statistics that an
offline model takes over the whole utterance (the waveform's mean and variance, and GroupNorm's in the first
convolution of the base models) are frozen from calibration speech.

`export.audio_graph` computes the same definition step by step; tests hold the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from ..runtime.errors import AudioError, CheckpointError

SAMPLE_RATE = 16000
TOKEN = 320  # samples
PREPENDED = 80  # zeros before the first sample
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)


@dataclass(frozen=True)
class StreamingConfig:
    """c, r and L of the definition, in tokens of 20 ms."""

    chunk: int = 2
    lookahead: int = 8
    context: int = 100

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.context < self.chunk or self.lookahead < 0:
            raise CheckpointError(
                f"{self} is not a streaming definition: need chunk ≥ 1, context ≥ chunk, lookahead ≥ 0"
            )
        if self.lookahead % self.chunk or self.context % self.chunk:
            raise CheckpointError(f"{self}: lookahead and context must be multiples of chunk")

    @property
    def step_tokens(self) -> int:
        """Tokens computed per step: the chunk and its look-ahead copies."""
        return self.chunk + self.lookahead

    @property
    def lag(self) -> int:
        """Steps before the first chunk has its look-ahead."""
        return self.lookahead // self.chunk


def check_geometry(config: Wav2Vec2Config) -> None:
    """Refuse what D(c, r, L) is not defined for.

    Raises:
        CheckpointError: names the field and what is supported.
    """
    wanted: list[tuple[str, object]] = [
        ("conv_kernel", KERNELS),
        ("conv_stride", STRIDES),
        ("add_adapter", False),
        ("adapter_attn_dim", None),
        ("feat_extract_activation", "gelu"),
        ("hidden_act", "gelu"),
        ("num_conv_pos_embeddings", 128),
    ]
    for name, value in wanted:
        found = getattr(config, name, value)
        found = tuple(found) if isinstance(found, list | tuple) else found
        if found != value:
            raise CheckpointError(
                f"the audio encoder has {name} = {found}, streaming is defined for {value}: use a Wav2Vec2 of the "
                "standard layout (20 ms tokens, no adapter)"
            )


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding of the attention (Su et al., RoFormer, 2021), in configurations that ask for it.

    The first `size` channels of every head's queries and keys are turned in pairs (2i, 2i + 1), by
    `pace · base^(-2i/size)` radians more at every token, so that scores know how far apart two tokens are.
    """

    size: int
    base: float = 10000.0
    pace: float = 1.0

    @staticmethod
    def of(config: Wav2Vec2Config) -> Rotary | None:
        """What `position_embeddings_type = "rotary"` says with `rotary_embedding_size`, `_base` and `_pace`; or None.

        Raises:
            CheckpointError: another type, or a size that a head does not have.
        """
        kind = getattr(config, "position_embeddings_type", None)
        if kind is None:
            return None
        if kind != "rotary":
            raise CheckpointError(f"the audio encoder has position_embeddings_type = {kind!r}: use 'rotary' or none")
        head = config.hidden_size // config.num_attention_heads
        size = getattr(config, "rotary_embedding_size", head)
        base, pace = getattr(config, "rotary_embedding_base", 10000), getattr(config, "rotary_embedding_pace", 1)
        if not isinstance(size, int) or size < 2 or size % 2 or size > head:
            raise CheckpointError(f"rotary_embedding_size is {size!r}: need an even number from 2 to {head}, a head's")
        for name, value in (("base", base), ("pace", pace)):
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise CheckpointError(f"rotary_embedding_{name} is {value!r}: need a number above 0")
        return Rotary(size, float(base), float(pace))

    def angles(self, positions: Tensor) -> Tensor:
        """Radians `[T, size/2]` at token positions `[T]`, in float64: an hour has 180,000 tokens."""
        pairs = torch.arange(0, self.size, 2, dtype=torch.float64, device=positions.device)
        return positions.double()[:, None] * (self.pace * self.base ** (-pairs / self.size))

    def turn(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Heads `[…, T, D]` turned by the angles of cosine and sine `[T, size/2]`."""
        even, odd = x[..., 0 : self.size : 2], x[..., 1 : self.size : 2]
        turned = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).flatten(-2)
        return torch.cat([turned, x[..., self.size :]], -1) if self.size < x.shape[-1] else turned


class StreamingWav2Vec2(nn.Module):
    """A Hugging Face Wav2Vec2 model computed by D(c, r, L)."""

    sample_mean: Tensor
    sample_scale: Tensor
    norm_mean: Tensor
    norm_var: Tensor

    def __init__(self, model: Wav2Vec2Model, streaming: StreamingConfig) -> None:
        super().__init__()
        check_geometry(model.config)
        self.rotary = Rotary.of(model.config)
        self.model = model
        self.streaming = streaming
        channels = int(model.config.conv_dim[0])
        self.register_buffer("sample_mean", torch.zeros(()))
        self.register_buffer("sample_scale", torch.ones(()))
        self.register_buffer("norm_mean", torch.zeros(channels))
        self.register_buffer("norm_var", torch.ones(channels))

    @staticmethod
    def from_config(config: dict[str, Any], streaming: StreamingConfig) -> StreamingWav2Vec2:
        """A model with fresh weights from a Hugging Face configuration's values.

        Raises:
            CheckpointError: they are not those of an encoder.
        """
        try:
            model = Wav2Vec2Model(Wav2Vec2Config(**config))
        except Exception as error:  # huggingface_hub's own, and whatever sizes that mean nothing bring about
            said = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(
                f"the audio encoder's configuration cannot be used ({said[:200]}): use a complete checkpoint"
            ) from error
        return StreamingWav2Vec2(model, streaming)

    @staticmethod
    def from_pretrained(name: str | Path, streaming: StreamingConfig) -> StreamingWav2Vec2:
        """A hub name such as `facebook/wav2vec2-base-960h`, or a folder. Calibrate it before use.

        Raises:
            CheckpointError: it cannot be loaded.
        """
        try:
            model = Wav2Vec2Model.from_pretrained(str(name), use_safetensors=None, weights_only=True)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise CheckpointError(
                f"cannot load the audio encoder {str(name)!r} ({first}): give a Hugging Face Wav2Vec2 name that this "
                "machine can download, or a folder with config.json and model.safetensors"
            ) from error
        return StreamingWav2Vec2(model, streaming).eval()

    @property
    def hidden(self) -> int:
        """Width H of a token."""
        return int(self.model.config.hidden_size)

    @property
    def frozen_norm(self) -> bool:
        """Whether the first convolution has a GroupNorm over time, frozen here."""
        return bool(self.model.config.feat_extract_norm == "group")

    @torch.no_grad()
    def calibrate(self, speech: Sequence[NDArray[np.float32]]) -> None:
        """Freeze the utterance statistics from calibration speech (16 kHz mono, float in [-1, 1])."""
        audio = torch.cat([torch.as_tensor(clip, dtype=torch.float32) for clip in speech])
        if audio.numel() < SAMPLE_RATE:
            raise AudioError("calibration needs at least one second of speech at 16 kHz")
        self.sample_mean.copy_(audio.mean())
        self.sample_scale.copy_(1 / torch.sqrt(audio.var(unbiased=False) + 1e-7))
        self.calibrate_norm(audio)

    @torch.no_grad()
    def calibrate_norm(self, audio: Tensor) -> None:
        """Freeze GroupNorm's statistics alone, from speech [N]; needed again when the first convolution has changed."""
        if not self.frozen_norm:
            return
        first: Any = self.model.feature_extractor.conv_layers[0].conv
        response = first(self.normalise(audio)[None, None])[0]
        self.norm_mean.copy_(response.mean(-1))
        self.norm_var.copy_(response.var(-1, unbiased=False))

    def normalise(self, samples: Tensor) -> Tensor:
        """Waveform to what the network sees."""
        return (samples - self.sample_mean) * self.sample_scale

    def features(self, samples: Tensor) -> Tensor:
        """Normalised samples [B, 320·T] to projected features [B, T, H] (before the positional convolution)."""
        layers = self.model.feature_extractor.conv_layers
        x = F.pad(samples, (PREPENDED, 0))[:, None]
        x = self._first_convolution(layers[0], x)
        for layer in layers[1:]:
            x = layer(x)
        projected: Tensor = self.model.feature_projection(x.transpose(1, 2))[0]
        return projected

    def _first_convolution(self, layer: Any, x: Tensor) -> Tensor:
        if not self.frozen_norm:
            out: Tensor = layer(x)
            return out
        norm = layer.layer_norm
        gain = norm.weight / torch.sqrt(self.norm_var + norm.eps)
        shift = norm.bias - self.norm_mean * gain
        out = layer.activation(layer.conv(x) * gain[:, None] + shift[:, None])
        return out

    def forward(self, samples: Tensor) -> Tensor:
        """Waveforms [B, N] in [-1, 1] to tokens [B, N/320, H]; silence is assumed after the end.

        Raises:
            AudioError: N is not a positive multiple of 320·c.
        """
        c = self.streaming.chunk
        if samples.shape[-1] == 0 or samples.shape[-1] % (TOKEN * c):
            raise AudioError(
                f"need a positive multiple of {TOKEN * c} samples, got {samples.shape[-1]}: pad with zeros"
            )
        main, copies = self.before_layers(samples)
        encoder = self.model.encoder
        if not self.model.config.do_stable_layer_norm:
            main, copies = encoder.layer_norm(main), encoder.layer_norm(copies)
        main, copies = encoder.dropout(main), encoder.dropout(copies)
        for layer in encoder.layers:
            main, copies = self._layer(layer, main, copies)
        out: Tensor = encoder.layer_norm(main) if self.model.config.do_stable_layer_norm else main
        return out

    def before_layers(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms [B, N] to what the Transformer is given: chunk tokens [B, T, H] and copies [B, K, r, H]."""
        padded = F.pad(samples, (0, self.streaming.lookahead * TOKEN))
        return self._positions(self.features(self.normalise(padded)))

    def _positions(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, T + r, H] to chunk tokens [B, T, H] and copies [B, K, r, H], positional convolution added."""
        c, n = self.streaming.chunk, self.streaming.step_tokens
        conv = self.model.encoder.pos_conv_embed.conv
        half = conv.kernel_size[0] // 2
        batch, _, hidden = features.shape
        windows = F.pad(features, (0, 0, half, 0)).unfold(1, half + n, c)  # [B, K, H, half + n]
        chunks = windows.shape[1]
        padded = F.pad(windows.reshape(batch * chunks, hidden, half + n), (0, n - 1))
        taps = conv.weight[..., : half + n]
        y = F.gelu(F.conv1d(padded, taps, conv.bias, groups=conv.groups)).transpose(1, 2)
        x = windows[..., half:].transpose(2, 3) + y.reshape(batch, chunks, n, hidden)
        return x[:, :, :c].reshape(batch, chunks * c, hidden), x[:, :, c:]

    def _layer(self, layer: Any, main: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
        """One Transformer layer over chunk tokens and copies."""
        if self.model.config.do_stable_layer_norm:  # pre-norm: the large models
            a, b = self._attention(layer.attention, layer.layer_norm(main), layer.layer_norm(copies))
            main, copies = main + layer.dropout(a), copies + layer.dropout(b)
            main = main + layer.feed_forward(layer.final_layer_norm(main))
            return main, copies + layer.feed_forward(layer.final_layer_norm(copies))
        a, b = self._attention(layer.attention, main, copies)
        main, copies = layer.layer_norm(main + layer.dropout(a)), layer.layer_norm(copies + layer.dropout(b))
        main = layer.final_layer_norm(main + layer.feed_forward(main))
        return main, layer.final_layer_norm(copies + layer.feed_forward(copies))

    def _attention(self, attention: Any, main: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
        """Every chunk's tokens and copies attend to L tokens before it, to the chunk and to the copies.

        Works on blocks of chunks, so that memory grows linearly with the length of the audio.
        """
        c, r = self.streaming.chunk, self.streaming.lookahead
        chunks = main.shape[1] // c
        flat = copies.reshape(copies.shape[0], chunks * r, copies.shape[-1])
        qkv_main = [proj(main) for proj in (attention.q_proj, attention.k_proj, attention.v_proj)]
        qkv_copy = [proj(flat) for proj in (attention.q_proj, attention.k_proj, attention.v_proj)]
        heads = int(attention.num_heads)
        blocks = []
        for first in range(0, chunks, 128):
            last = min(first + 128, chunks)
            blocks.append(self._attend_block(heads, qkv_main, qkv_copy, first, last))
        out_main = attention.out_proj(torch.cat([a for a, _ in blocks], 1))
        out_copy = attention.out_proj(torch.cat([b for _, b in blocks], 1))
        return out_main, out_copy.reshape(copies.shape)

    def _attend_block(
        self, heads: int, main: list[Tensor], copy: list[Tensor], first: int, last: int
    ) -> tuple[Tensor, Tensor]:
        c, r, context = self.streaming.chunk, self.streaming.lookahead, self.streaming.context
        start = max(0, first * c - context)
        mains, copies = slice(first * c, last * c), slice(first * r, last * r)
        q = torch.cat([main[0][:, mains], copy[0][:, copies]], 1)
        k = torch.cat([main[1][:, start : last * c], copy[1][:, copies]], 1)
        v = torch.cat([main[2][:, start : last * c], copy[2][:, copies]], 1)
        mask = self._block_mask(first, last, start, q.device)

        def split(x: Tensor) -> Tensor:
            return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

        queries, keys = split(q), split(k)
        if self.rotary is not None:
            places = self._places(first, last, start, q.device)
            cosine, sine = places.cos().to(q), places.sin().to(q)
            keys = self.rotary.turn(keys, cosine, sine)
            asking = slice(first * c - start, None)  # tokens before the block are only asked
            queries = self.rotary.turn(queries, cosine[asking], sine[asking])
        mixed = F.scaled_dot_product_attention(queries, keys, split(v), attn_mask=mask)
        out = mixed.transpose(1, 2).reshape(q.shape)
        return out[:, : (last - first) * c], out[:, (last - first) * c :]

    def _places(self, first: int, last: int, start: int, device: torch.device) -> Tensor:
        """Angles `[keys, size/2]` of a block's tokens from `start` on, then of its copies."""
        assert self.rotary is not None
        c, r = self.streaming.chunk, self.streaming.lookahead
        ahead = torch.arange(first + 1, last + 1)[:, None] * c + torch.arange(r)
        return self.rotary.angles(torch.cat([torch.arange(start, last * c), ahead.flatten()]).to(device))

    def _block_mask(self, first: int, last: int, start: int, device: torch.device) -> Tensor:
        """Who may see whom, [queries, keys]: chunk tokens of the block, then its copies."""
        c, r, context = self.streaming.chunk, self.streaming.lookahead, self.streaming.context
        chunk = torch.arange(first, last, device=device)
        asking = torch.cat([chunk.repeat_interleave(c), chunk.repeat_interleave(r)])[:, None]
        token = torch.arange(start, last * c, device=device)[None]
        past = (token < (asking + 1) * c) & (token >= asking * c - context)
        own = chunk.repeat_interleave(r)[None] == asking
        return torch.cat([past, own], 1)

    @torch.no_grad()
    def extract(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Tokens [T, H] of one waveform [N] by D(c, r, L), padded with silence to whole chunks."""
        audio = torch.as_tensor(samples, dtype=torch.float32).reshape(1, -1)
        step = TOKEN * self.streaming.chunk
        padded = F.pad(audio, (0, -audio.shape[1] % step))
        tokens: NDArray[np.float32] = self.eval()(padded)[0].numpy()
        return tokens
