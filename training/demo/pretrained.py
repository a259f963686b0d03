"""An encoder that begins as a recogniser of people's speech.

Of the recogniser (Moonshine's "tiny", 200 thousand hours of speech) the first layers are taken as they are: they attend
with rotary positions, as `Rotary` does at its pace of 24 ms. Its convolutions step by 24 ms, ours by 20 ms, so a
Wav2Vec2's learn to say what its own would say at our tokens (`imitate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from ..corpus import augment, warp_voice
from ..corpus.listener import HOP
from ..corpus.listener_weights import Weights
from ..wav2vec2 import TOKEN, StreamingWav2Vec2
from .clips import FRAME, Clips, Progress
from .encoder import ENCODER, STREAMING, EncoderSchedule, TrainableWav2Vec2, one_cycle
from .snapshot import Snapshot

_PRETRAINED: dict[str, Any] = {
    **ENCODER,
    "hidden_size": 288,
    "num_attention_heads": 8,
    "intermediate_size": 1152,
    "conv_dim": (32, 64, 96, 128, 192, 256, 256),
    "do_stable_layer_norm": True,
    "position_embeddings_type": "rotary",
    "rotary_embedding_size": 32,
    "rotary_embedding_pace": TOKEN / HOP,
}
_KEPT_CONVOLUTIONS = 4  # the first ones, as wide as the small encoder's
_STRIDE, _AHEAD = 64, 287  # samples: of the first convolution; from a field's first sample to its token's first
_BEHIND = 1300  # samples after the last token that its field may reach
_COPIES = 0.3  # weight of the look-ahead copies, which see less of what follows
_EDGE = 2  # tokens at either end of a crop that lack their neighbours
_PROJECTIONS = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "out_proj": "o_proj"}


def begun_encoder(small: StreamingWav2Vec2, layers: int) -> StreamingWav2Vec2:
    """An encoder of the recogniser's width with the first convolutions, and the statistics of sound, of `small`."""
    torch.manual_seed(0)
    encoder = TrainableWav2Vec2(Wav2Vec2Model(Wav2Vec2Config(**_PRETRAINED, num_hidden_layers=layers)), STREAMING)
    state, old = encoder.state_dict(), small.state_dict()
    for name in state:
        first = any(f"conv_layers.{i}." in name for i in range(_KEPT_CONVOLUTIONS))
        if first or name in ("sample_mean", "sample_scale", "norm_mean", "norm_var"):
            state[name] = old[name].clone()
    encoder.load_state_dict(state)
    return encoder


@torch.no_grad()
def adopt_layers(encoder: StreamingWav2Vec2, weights: Weights) -> None:
    """Put the recogniser's first layers, and its last norm, into `encoder`, as many as it has."""
    model: Any = encoder.model
    for i, layer in enumerate(model.encoder.layers):
        of = f"layers.{i}."
        for ours, its in _PROJECTIONS.items():
            _fill(getattr(layer.attention, ours), weights[f"{of}self_attn.{its}.weight"])
        _fill(layer.layer_norm, weights[f"{of}input_layernorm.weight"])
        _fill(layer.final_layer_norm, weights[f"{of}post_attention_layernorm.weight"])
        for ours, its in (("intermediate_dense", "fc1"), ("output_dense", "fc2")):
            _fill(getattr(layer.feed_forward, ours), weights[f"{of}mlp.{its}.weight"], weights[f"{of}mlp.{its}.bias"])
    _fill(model.encoder.layer_norm, weights["layer_norm.weight"])


def _fill(module: Any, weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> None:
    module.weight.copy_(torch.from_numpy(weight))
    module.bias.zero_() if bias is None else module.bias.copy_(torch.from_numpy(bias))


class Ears:
    """The recogniser's convolutions, at our tokens instead of its own.

    They step by 64, 3 and 2. With the second one at every step of the first, and the third one's taps three apart, the
    same numbers come out at every 64th sample, of which every fifth, 320 samples apart, is a token.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = {
            name: torch.from_numpy(value) for name, value in weights.items() if name.startswith(("conv", "groupnorm"))
        }

    @torch.no_grad()
    def hear(self, sounds: Tensor, firsts: Sequence[int], tokens: int) -> Tensor:
        """`[B, tokens, W]` of whole clips `[B, N]`, from sample firsts[b] of each on.

        Loudness is taken away as the recogniser does, by the mean and spread over the whole clip.
        """
        whole = self._first(sounds)
        mean, spread = whole.mean((1, 2)), whole.var((1, 2), unbiased=False)
        padded = F.pad(sounds, (_AHEAD, _BEHIND))
        length = _AHEAD + tokens * TOKEN + _BEHIND
        x = self._first(
            torch.stack([sound[first : first + length] for sound, first in zip(padded, firsts, strict=True)])
        )
        x = (x - mean[:, None, None]) / torch.sqrt(spread + 1e-5)[:, None, None]
        x = x * self._weights["groupnorm.weight"][:, None] + self._weights["groupnorm.bias"][:, None]
        total = self._weights["conv3.bias"][:, None]
        for tap in range(3):
            stage = F.conv1d(x[..., 3 * tap :], self._weights["conv2.weight"], self._weights["conv2.bias"], stride=5)
            total = total + F.conv1d(F.gelu(stage[..., :tokens]), self._weights["conv3.weight"][..., tap : tap + 1])
        return F.gelu(total).transpose(1, 2)

    def _first(self, sounds: Tensor) -> Tensor:
        return torch.tanh(F.conv1d(sounds[:, None], self._weights["conv1.weight"], stride=_STRIDE))


def imitate(
    encoder: StreamingWav2Vec2,
    clips: Clips,
    drawn: NDArray[np.intp],
    ears: Ears,
    schedule: EncoderSchedule,
    progress: Progress | None = None,
    snapshot: Snapshot | None = None,
) -> list[float]:
    """Train what is in front of `encoder`'s layers to say of augmented sound what `ears` hear in it clean.

    drawn: as of `Lesson`. Returns every step's loss: squared errors in units of each channel's spread.
    """
    model: Any = encoder.model
    front = nn.ModuleList([model.feature_extractor, model.feature_projection, model.encoder.pos_conv_embed])
    parameters = list(front.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=schedule.rate, weight_decay=0.01, betas=(0.9, 0.98))
    shape = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, schedule.steps))
    rng = np.random.default_rng([schedule.seed, 9])
    snapshot = snapshot or Snapshot()
    tokens = schedule.frames * FRAME // TOKEN
    some = _batch(clips, drawn, schedule, np.random.default_rng([schedule.seed, 10]))
    spread = ears.hear(some[1], some[2], tokens).std((0, 1)) + 0.05
    first = snapshot.resume(front, optimizer, shape, rng)
    for _ in range(first, schedule.steps):
        heard, clean, firsts = _batch(clips, drawn, schedule, rng)
        loss = _imitation(encoder, heard, ears.hear(clean, firsts, tokens), spread)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        shape.step()
        snapshot.losses.append(loss.item())
        snapshot.keep(front, optimizer, shape, rng)
        if progress and len(snapshot.losses) % 20 == 0:
            progress(f"ears  loss {np.mean(snapshot.losses[-20:]):.3f}", len(snapshot.losses) / schedule.steps)
    return snapshot.losses


def _imitation(encoder: StreamingWav2Vec2, samples: Tensor, wanted: Tensor, spread: Tensor) -> Tensor:
    """Mean squared error of a batch's tokens, and of their copies, before the first layer."""
    c, r = encoder.streaming.chunk, encoder.streaming.lookahead
    main, copies = encoder.before_layers(samples)
    own = ((main - wanted) / spread)[:, _EDGE:-_EDGE].square().mean()
    ahead = wanted[:, c:].unfold(1, r, c).transpose(2, 3)  # [B, chunks - 1, r, W]
    count = ahead.shape[1] - 1  # the last one's field leaves the crop
    return own + _COPIES * ((copies[:, :count] - ahead[:, :count]) / spread).square().mean()


def _batch(
    clips: Clips, drawn: NDArray[np.intp], schedule: EncoderSchedule, rng: np.random.Generator
) -> tuple[Tensor, Tensor, list[int]]:
    """Augmented crops `[B, n]`, the whole clips they are of `[B, N]`, clean, and where in these the crops begin."""
    crops, wholes, firsts = [], [], []
    for _ in range(schedule.batch):
        sound = clips.sound(int(rng.choice(drawn)))
        if rng.random() < schedule.warped:
            sound = warp_voice(sound, rng)
        first = int(rng.integers(len(sound) // FRAME - schedule.frames + 1)) * FRAME
        crops.append(augment(sound[first : first + schedule.frames * FRAME], rng))
        wholes.append(sound)
        firsts.append(first)
    return torch.from_numpy(np.stack(crops)), torch.from_numpy(np.stack(wholes)), firsts
