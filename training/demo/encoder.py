"""How the demo's audio encoder, a small Wav2Vec2, learns to hear phonemes, lips and emotion."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from ...runtime.manifest import EMOTIONS
from ..corpus import PHONEMES, augment, warp_voice
from ..wav2vec2 import StreamingConfig, StreamingWav2Vec2
from .clips import Clips, Progress
from .snapshot import Snapshot

STREAMING = StreamingConfig(chunk=2, lookahead=2, context=100)

ENCODER: dict[str, Any] = {
    "hidden_size": 192,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "conv_dim": (32, 64, 96, 128, 128, 128, 128),
    "feat_extract_norm": "group",
    "conv_bias": False,
    "num_conv_pos_embedding_groups": 16,
    **{
        f"{name}_dropout": 0.0 for name in ("hidden", "attention", "activation", "feat_proj", "feat_quantizer", "final")
    },
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
}
_DELAYS = (0, 1, 2)  # frames by which a head may lag: it then has that much more look-ahead, as GRMN will
_LESSON = {0: 0.5, 2: 1.0}  # weights of the recognizer's features, by frames of lag


@dataclass(frozen=True)
class EncoderSchedule:
    """Length of the training: `steps` batches of `batch` crops of `frames` frames.

    The learning rate warms up to `rate` and is annealed. `warped` is the share of crops in another vocal tract.
    """

    steps: int = 3000
    batch: int = 8
    frames: int = 80
    rate: float = 1.5e-3
    warped: float = 0.0
    seed: int = 0


class TeacherHeads(nn.Module):
    """What the encoder is taught with, thrown away afterwards.

    From a frame's two tokens: both phonemes, and lips, closure and emotion of this frame and the two before; and, where
    `lesson` is not 0, as many features that a recognizer has of each token.
    """

    def __init__(self, hidden: int, lips: int, lesson: int = 0) -> None:
        super().__init__()
        self.phoneme = nn.Linear(hidden, len(PHONEMES))
        self.earlier = nn.Linear(2 * hidden, len(PHONEMES))
        self.face = nn.Sequential(nn.Linear(2 * hidden, 256), nn.GELU(), nn.Linear(256, len(_DELAYS) * (lips + 1)))
        self.emotion = nn.Linear(2 * hidden, len(EMOTIONS))
        if lesson:
            self.lesson = nn.ModuleDict({str(lag): nn.Linear(2 * hidden, 2 * lesson) for lag in _LESSON})


class TrainableWav2Vec2(StreamingWav2Vec2):
    """The same definition, with a positional convolution that is four times as fast to train.

    All chunks see the same taps, shifted by the place in the chunk: one strided convolution with a kernel for
    every place does without a copy of the window of every chunk.
    """

    def _positions(self, features: Tensor) -> tuple[Tensor, Tensor]:
        c, n = self.streaming.chunk, self.streaming.step_tokens
        conv: Any = self.model.encoder.pos_conv_embed.conv
        half = conv.kernel_size[0] // 2
        batch, _, hidden = features.shape
        taps = conv.weight[..., : half + n]
        places = torch.stack([F.pad(taps, (place, 0))[..., : half + n] for place in range(n)], 1)
        padded = F.pad(features.transpose(1, 2), (half, 0))
        y = F.conv1d(padded, places.flatten(0, 1), stride=c, groups=conv.groups)
        y = F.gelu(y.reshape(batch, hidden, n, -1).permute(0, 3, 2, 1) + conv.bias)
        x = features.unfold(1, n, c).transpose(2, 3) + y
        return x[:, :, :c].reshape(batch, -1, hidden), x[:, :, c:]


def build_encoder(seed: int = 0, layers: int = 4) -> StreamingWav2Vec2:
    """An untrained encoder of the demo's width under D(2, 2, 100)."""
    torch.manual_seed(seed)
    return TrainableWav2Vec2(Wav2Vec2Model(Wav2Vec2Config(**ENCODER, num_hidden_layers=layers)), STREAMING)


@dataclass(frozen=True)
class Lesson:
    """Clips that the encoder learns from, and what of them.

    lips: `[N,F,K]` standardised lip channels. drawn: indices of clips, drawn from evenly: a clip that counts more
    stands there more often; None: all. heard: `[N,2F,W]` what a recognizer hears at every token (`lessons`), or None.
    """

    clips: Clips
    lips: NDArray[np.float32]
    drawn: NDArray[np.intp] | None = None
    heard: NDArray[np.float16] | None = None


def train_encoder(
    lesson: Lesson,
    schedule: EncoderSchedule,
    progress: Progress | None = None,
    encoder: StreamingWav2Vec2 | None = None,
    snapshot: Snapshot | None = None,
) -> tuple[StreamingWav2Vec2, list[float]]:
    """Train on random crops of the lesson's clips, augmented anew each time.

    A given `encoder` learns on; a `snapshot` is gone on from. Returns the encoder and the loss of every step.
    """
    clips = lesson.clips
    rng = np.random.default_rng([schedule.seed, 1])
    fresh = encoder is None
    if encoder is None:
        encoder = build_encoder(schedule.seed)
        # Frozen statistics must come from sound as loud as the network will hear.
        encoder.calibrate([augment(clips.sound(i), rng) for i in range(min(16, len(clips)))])
    else:
        torch.manual_seed(schedule.seed)  # for the heads
    width = 0 if lesson.heard is None else lesson.heard.shape[-1]
    learner = nn.ModuleDict({"encoder": encoder, "heads": TeacherHeads(encoder.hidden, lesson.lips.shape[-1], width)})
    parameters = list(learner.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=schedule.rate, weight_decay=0.02, betas=(0.9, 0.98))
    shape = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, schedule.steps))
    snapshot = snapshot or Snapshot()
    learner.train()
    begin = time.monotonic()
    first = snapshot.resume(learner, optimizer, shape, rng)
    losses = snapshot.losses
    for step in range(first, schedule.steps):
        # Rooms grow worse while it learns.
        strength = min(1.0, 0.3 + step / (0.6 * schedule.steps)) if fresh else 1.0
        loss, accuracy = _loss(learner, _crops(lesson, schedule, strength, rng))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        shape.step()
        losses.append(loss.item())
        snapshot.keep(learner, optimizer, shape, rng)
        if progress and (step + 1) % 20 == 0:
            pace = (time.monotonic() - begin) / (step + 1 - first)
            said = f"encoder  loss {np.mean(losses[-20:]):.3f}  phonemes {accuracy:.1%}  {pace:.2f} s/step"
            progress(said, (step + 1) / schedule.steps)
    return encoder.eval(), losses


@torch.no_grad()
def round_to_half(encoder: StreamingWav2Vec2) -> None:
    """Round every weight to half precision, in which a checkpoint then keeps it: 11 mantissa bits of 24."""
    for parameter in encoder.parameters():
        parameter.copy_(parameter.half().float())


def one_cycle(step: int, steps: int, warm: float = 0.1, floor: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to `floor`."""
    position = (step + 1) / max(steps, 1)
    if position < warm:
        return position / warm
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min((position - warm) / (1 - warm), 1.0)))


@dataclass(frozen=True)
class _Batch:
    samples: Tensor
    phonemes: Tensor
    lips: Tensor
    closure: Tensor
    emotion: Tensor
    heard: Tensor | None = None


def _crops(lesson: Lesson, schedule: EncoderSchedule, strength: float, rng: np.random.Generator) -> _Batch:
    clips, lips = lesson.clips, lesson.lips
    samples, phonemes, faces, closures, emotions, heard = [], [], [], [], [], []
    for _ in range(schedule.batch):
        clip = int(rng.integers(len(clips)) if lesson.drawn is None else rng.choice(lesson.drawn))
        start = int(rng.integers(clips.jaw.shape[1] - schedule.frames + 1))
        span = slice(start, start + schedule.frames)
        sound = clips.sound(clip, span)
        if schedule.warped and rng.random() < schedule.warped:
            sound = warp_voice(sound, rng)
        label, face = clips.phonemes[clip, 2 * span.start : 2 * span.stop], lips[clip, span]
        closure, emotion = clips.closure[clip, span], clips.emotion[clip, span]
        samples.append(augment(sound, rng, strength))
        phonemes.append(label.astype(np.int64))
        faces.append(face)
        closures.append(closure)
        emotions.append(emotion)
        if lesson.heard is not None:
            heard.append(lesson.heard[clip, 2 * span.start : 2 * span.stop].astype(np.float32))
    parts = [torch.from_numpy(np.stack(part)) for part in (samples, phonemes, faces, closures, emotions)]
    batch = _Batch(*parts)
    return replace(batch, heard=torch.from_numpy(np.stack(heard))) if heard else batch


def _loss(learner: nn.ModuleDict, batch: _Batch) -> tuple[Tensor, float]:
    heads: Any = learner["heads"]
    tokens = learner["encoder"](batch.samples)
    count = len(PHONEMES)
    logits = heads.phoneme(tokens)
    phoneme = F.cross_entropy(logits.reshape(-1, count), batch.phonemes.reshape(-1), label_smoothing=0.05)
    pairs = tokens.reshape(tokens.shape[0], -1, 2 * tokens.shape[-1])
    later = heads.earlier(pairs[:, 2:])
    earlier = F.cross_entropy(later.reshape(-1, count), batch.phonemes[:, :-4:2].reshape(-1), label_smoothing=0.05)
    face = heads.face(pairs).reshape(*pairs.shape[:2], len(_DELAYS), -1)
    regress = torch.zeros(())
    for index, delay in enumerate(_DELAYS):
        now, then = face[:, delay:, index], slice(0, face.shape[1] - delay)
        regress = regress + F.mse_loss(now[..., :-1], batch.lips[:, then])
        regress = regress + F.binary_cross_entropy_with_logits(now[..., -1], batch.closure[:, then].clamp(0, 1))
    emotion = F.log_softmax(heads.emotion(pairs), -1)
    feeling = -(batch.emotion * emotion).sum(-1).mean()
    accuracy = float((logits.argmax(-1) == batch.phonemes).float().mean())
    loss = phoneme + 0.5 * earlier + 0.5 * regress + 0.1 * feeling
    return loss + _lesson_loss(heads, pairs, batch.heard), accuracy


def _lesson_loss(heads: Any, pairs: Tensor, heard: Tensor | None) -> Tensor:
    """Squared error of the recognizer's features, as the tokens of a frame and those of a later one tell them."""
    total = torch.zeros(())
    if heard is None:
        return total
    frames = heard.reshape(*pairs.shape[:2], -1)
    for lag, weight in _LESSON.items():
        told = heads.lesson[str(lag)](pairs[:, lag:])
        total = total + weight * F.mse_loss(told, frames[:, : frames.shape[1] - lag])
    return total
