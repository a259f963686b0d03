"""The demo's motion network: GRMN on the frozen encoder's tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...runtime.manifest import EMOTIONS
from ..corpus import LOOKS, Face, act, augment, probabilities, warp_voice
from ..grmn import GRMN, NEUTRAL, GRMNConfig, Motion, token_windows
from ..wav2vec2 import StreamingWav2Vec2
from .clips import Clips, Progress
from .encoder import one_cycle
from .geometry import LipGeometry
from .snapshot import Snapshot

CONDITIONS = (*EMOTIONS, "contempt")

_AUDIO_PATH = ("audio_proj", "pos_encoder", "audio_transformer")
_KL_WEIGHT = 0.01  # of the released implementation
_SCORE_WEIGHT = 0.1
_SHUT, _SETTLED = 3.0, 0.3
"""How much more a lip gap counts where P, B or M shut it: at first a lot, so that lips learn to shut at all, at last
less, because the corpus has twice as many of them as speech has, and every sound like them would shut the lips too."""
_TOLD = 0.5  # share of crops whose emotion the network is told
_WARPED = 0.5  # share of clips that are heard in another vocal tract
_CALM = 0.75  # share of those that see a calm speaker's action units, so that what is told shows without them

_ACTED = 0.8  # share of a calm voice's told crops whose face is told an emotion that the voice does not have
_FULL = 0.4  # share of these in which it is as strong as can be


@dataclass(frozen=True)
class MotionSchedule:
    """Passes over the clips, each heard through another room; `steps` batches of `batch` crops of `frames` frames."""

    hearings: int = 1
    steps: int = 4000
    batch: int = 8
    frames: int = 32
    rate: float = 1e-3
    seed: int = 0


def motion_config(hidden: int, expression: int) -> GRMNConfig:
    """The released windows [2f - 8, 2f + 8), and no smoothing: 160 ms of look-ahead with r = 2.

    Smoothing over neighbours would cost look-ahead too, and blur closures that last a frame or two.
    """
    return GRMNConfig(
        hidden=hidden,
        width=128,
        layers=2,
        heads=4,
        feedforward=512,
        expression=expression,
        identity=512,
        window_past=8,
        window_future=8,
        smooth_past=0,
        smooth_future=0,
        positions=16,
        steerable=True,
        conditions=CONDITIONS,
        mouth=None,
    )


def demo_identity(size: int = 512) -> Tensor:
    """The demo's identity feature `[size]`: an arbitrary unit vector, in the place of a face embedding's mean."""
    feature = torch.randn(size, generator=torch.Generator().manual_seed(52))
    unit: Tensor = feature / feature.norm()
    return unit


def hear(encoder: StreamingWav2Vec2, clips: Clips, seed: int, progress: Progress | None = None) -> Tensor:
    """Tokens `[N, 2F, H]` of all clips, each through a random room of its own, half of them in another vocal tract.

    Half precision.
    """
    tokens = []
    with torch.no_grad():
        for index in range(len(clips)):
            rng = np.random.default_rng([seed, 2, index])
            spoken = clips.sound(index)
            sound = augment(warp_voice(spoken, rng) if rng.random() < _WARPED else spoken, rng)
            tokens.append(encoder(torch.from_numpy(sound)[None])[0].half())
            if progress and (index + 1) % 50 == 0:
                progress("listening", (index + 1) / len(clips))
    return torch.stack(tokens)


@torch.no_grad()
def encode(motion: GRMN, tokens: Tensor) -> Tensor:
    """`[N,F,D]` what the audio path says of every frame of clips, from tokens `[N,2F,H]`."""
    c = motion.config
    rows = [motion.encode(token_windows(heard.float(), c.window_past, c.window_future)) for heard in tokens]
    return torch.stack(rows)


def train_motion(
    clips: Clips,
    hearings: Sequence[Tensor],
    geometry: LipGeometry,
    schedule: MotionSchedule,
    progress: Progress | None = None,
    motion: GRMN | None = None,
    snapshot: Snapshot | None = None,
) -> tuple[GRMN, list[float]]:
    """Train GRMN on crops of `clips` and the tokens of one of their `hearings`; returns it and every step's loss.

    A given `motion` learns on; a `snapshot` is gone on from.
    """
    torch.manual_seed(schedule.seed)
    if motion is None:
        motion = GRMN(motion_config(hearings[0].shape[-1], clips.expression.shape[-1]))
        _start_at_mean(motion, clips)
    network = motion

    def speak(rng: np.random.Generator) -> tuple[Motion, Truth]:
        windows, truth = _crops(clips, hearings, network.config, schedule, rng, geometry.names)
        who = _identities(schedule.batch, network.config.identity, rng)
        return network(windows, truth.aus, who, truth.asked, truth.told), truth

    return _fit(motion, list(motion.parameters()), speak, MotionLoss(geometry), schedule, progress, snapshot)


def train_decoder(
    clips: Clips,
    encodings: Tensor,
    geometry: LipGeometry,
    schedule: MotionSchedule,
    listener: GRMN,
    *,
    afresh: bool = False,
    without: Sequence[str] = (),
) -> tuple[GRMN, list[float]]:
    """Train everything behind the audio path of `listener`, which stays; P, B and M count as all other sounds do.

    encodings: `[N,F,D]`, what the audio path says of every frame of `clips` (`encode`). afresh: from nothing, as the
    ablation does, else from what `listener` has learned. without: of `trainer.config.COMPONENTS`; only afresh.
    """
    torch.manual_seed(schedule.seed)
    off = {name: False for name in ("gate", "residual", "adain") if name in without}
    motion = GRMN(replace(listener.config, **off))  # type: ignore[arg-type]
    if afresh:
        _start_at_mean(motion, clips)
    kept = {k: v for k, v in listener.state_dict().items() if not afresh or k.startswith(_AUDIO_PATH)}
    motion.load_state_dict(kept, strict=False)
    own = [value for name, value in motion.named_parameters() if not name.startswith(_AUDIO_PATH)]

    def speak(rng: np.random.Generator) -> tuple[Motion, Truth]:
        cuts = [_cut(clips, motion.config, schedule, rng, geometry.names) for _ in range(schedule.batch)]
        heard = torch.stack([encodings[cut.clip, cut.span] for cut in cuts])
        truth = _stack([cut.truth for cut in cuts])
        who = _identities(schedule.batch, motion.config.identity, rng)
        return motion.frames(motion.smooth(heard), truth.aus, who, truth.asked, truth.told), truth

    return _fit(motion, own, speak, MotionLoss(geometry, without, _SETTLED), schedule)


def _fit(
    motion: GRMN,
    parameters: list[nn.Parameter],
    speak: Callable[[np.random.Generator], tuple[Motion, Truth]],
    loss_of: MotionLoss,
    schedule: MotionSchedule,
    progress: Progress | None = None,
    snapshot: Snapshot | None = None,
) -> tuple[GRMN, list[float]]:
    """Steps of AdamW on what `speak` says of a random batch."""
    rng = np.random.default_rng([schedule.seed, 4])
    motion.train()
    optimizer = torch.optim.AdamW(parameters, lr=schedule.rate, weight_decay=0.01)
    shape = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, schedule.steps))
    snapshot = snapshot or Snapshot()
    first = snapshot.resume(motion, optimizer, shape, rng)
    losses = snapshot.losses
    for _ in range(first, schedule.steps):
        loss = loss_of(*speak(rng))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        shape.step()
        losses.append(loss.item())
        snapshot.keep(motion, optimizer, shape, rng)
        if progress and len(losses) % 50 == 0:
            progress(f"motion  loss {np.mean(losses[-50:]):.3f}", len(losses) / schedule.steps)
    return motion.eval(), losses


class Truth(NamedTuple):
    """What a batch of crops should become, `[B,F,…]` as in `Clips`.

    asked: `[B,F,C]` conditions. told: `[B,F,1]`, 1 where the network is told them, so that it learns to be steered.
    inside: `[B,F]`, 0 where smoothing lacks a neighbour.
    """

    expression: Tensor
    jaw: Tensor
    aus: Tensor
    emotion: Tensor
    closure: Tensor
    asked: Tensor
    told: Tensor
    inside: Tensor


class MotionLoss:
    """Vertex error, its change over time, lip gap, KL(p ‖ softmax z_e) and |g - e|.

    Lip-weighted vertex and gap errors count by their size, not their square: a mouth that is either shut or open then
    decides, where the squared error would have it half open and every movement too small.
    """

    def __init__(self, geometry: LipGeometry, without: Sequence[str] = (), shut: float = _SHUT) -> None:
        self.shut = shut
        guided = "seg" not in without
        self.kl_weight = _KL_WEIGHT if guided and "kl" not in without else 0.0
        self.score_weight = _SCORE_WEIGHT if guided and "score" not in without else 0.0
        self.metric = torch.from_numpy(geometry.metric).float()
        parted = np.append(geometry.gap_expression, geometry.gap_jaw)
        self.parted = torch.from_numpy(parted).float()

    def __call__(self, said: Motion, truth: Truth) -> Tensor:
        expression, jaw = said.expression - truth.expression, said.jaw - truth.jaw
        error = torch.cat([expression, jaw[..., :1]], -1)
        inside = truth.inside / truth.inside.mean()
        place = torch.sqrt(((error @ self.metric) * error).sum(-1) + 0.05)  # mm
        change = error[:, 1:] - error[:, :-1]
        pace = ((change @ self.metric) * change).sum(-1)
        parted = error @ self.parted
        gap = F.smooth_l1_loss(parted, torch.zeros_like(parted), reduction="none") * (1 + self.shut * truth.closure)
        small = (expression**2).mean(-1) + (jaw[..., 1:] ** 2).mean(-1)
        motion = (inside * (1.5 * place + 0.3 * gap + 6.0 * small)).mean()
        motion = motion + 0.3 * (inside[:, 1:] * inside[:, :-1] * pace).mean()
        agree = F.kl_div(F.log_softmax(said.emotion_logits, -1), truth.emotion, reduction="none").sum(-1)
        score = (said.gate[..., 0] - (1 - truth.emotion[..., NEUTRAL])).abs()
        return motion + (inside * (self.kl_weight * agree + self.score_weight * score)).mean()


@torch.no_grad()
def predict(motion: GRMN, identity: Tensor | None, tokens: Tensor, aus: NDArray[np.float32]) -> Motion:
    """Motion of clips from tokens `[N,2F,H]` and action units `[N,F,6]`."""
    windows = token_windows(tokens.float(), motion.config.window_past, motion.config.window_future)
    said: Motion = motion(windows, torch.from_numpy(aus), identity)
    return said


@torch.no_grad()
def restore_range(
    motion: GRMN, identity: Tensor, clips: Clips, tokens: Tensor, names: Sequence[str]
) -> NDArray[np.float32]:
    """Scale jaw and mouth rows of the output layers so that predictions move as much as the truth; the gains `[E+1]`.

    A network that is unsure predicts between the possible faces, and so moves too little (regression to the mean).
    Gains are ratios of standard deviations over the neutral frames of `clips` with their `tokens` `[N,2F,H]`, within
    1 and 1.3; `names` are the expressions', of which only the mouth's change. Shut lips stay shut.
    """
    said = predict(motion, identity, tokens, clips.aus)
    calm = clips.emotion[..., NEUTRAL] > 0.99  # how strongly an emotion shows is not the audio's to say
    guess = torch.cat([said.expression, said.jaw[..., :1]], -1).numpy()[calm]
    true = np.concatenate([clips.expression, clips.jaw[..., :1]], -1)[calm]
    mouth = np.array([name.startswith("mouth") for name in names] + [True])
    moving = mouth & (true.std(axis=0) > 0.02)
    gains = np.where(moving, np.clip(true.std(axis=0) / (guess.std(axis=0) + 1e-6), 1.0, 1.3), 1.0).astype(np.float32)
    expressions = clips.expression.shape[-1]
    rows = torch.from_numpy(np.concatenate([gains, np.ones(2, np.float32)]))
    heads = (
        (motion.flame_exp_head, rows[:expressions]),
        (motion.flame_jaw_head, rows[expressions:]),
        (motion.residual_motion_head, rows),
    )
    for head, gain in heads:
        head.weight.mul_(gain[:, None])
        head.bias.mul_(gain)
    return gains


def _start_at_mean(motion: GRMN, clips: Clips) -> None:
    """Begin with the corpus's mean face and a residual near nothing."""
    with torch.no_grad():
        for head, mean in (
            (motion.flame_exp_head, clips.expression.mean(axis=(0, 1))),
            (motion.flame_jaw_head, clips.jaw.mean(axis=(0, 1))),
        ):
            head.weight.mul_(0.3)
            head.bias.copy_(torch.from_numpy(mean))
        motion.residual_motion_head.weight.mul_(0.3)
        motion.residual_motion_head.bias.zero_()


def _identities(count: int, size: int, rng: np.random.Generator) -> Tensor:
    """`[count, size]` unit vectors, half of them the demo's: who speaks must not matter until a person is learnt."""
    vectors = rng.standard_normal((count, size)).astype(np.float32)
    features = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    features[torch.from_numpy(rng.random(count) < 0.5)] = demo_identity(size)
    return features


class _Cut(NamedTuple):
    """Some frames of a clip; `truth` as in a batch, without its first axis."""

    clip: int
    span: slice
    truth: list[NDArray[np.float32]]


def _cut(
    clips: Clips, config: GRMNConfig, schedule: MotionSchedule, rng: np.random.Generator, names: Sequence[str]
) -> _Cut:
    """Some frames of a clip; `names` of its expressions let it be told emotions that the clip does not have."""
    clip = int(rng.integers(len(clips)))
    start = int(rng.integers(clips.jaw.shape[1] - schedule.frames + 1))
    span = slice(start, start + schedule.frames)
    inside = np.ones(schedule.frames, np.float32)
    inside[schedule.frames - config.smooth_future :] = 0
    inside[: config.smooth_past if start else 0] = 0
    told = rng.random() < _TOLD
    calm = told and rng.random() < _CALM
    face = Face(clips.jaw[clip, span], clips.expression[clip, span], clips.aus[clip, span])
    emotion, asked = clips.emotion[clip, span], clips.conditions(clip)[span]
    seen = clips.calm_units(clip)[span] if calm else face.aus
    if told and names and emotion[:, NEUTRAL].min() == 1 and rng.random() < _ACTED:
        face, asked, shown = _acted(face, names, rng)
        seen, emotion = (seen, emotion) if calm else (face.aus, shown)
    truth = [face.expression, face.jaw, seen, emotion, clips.closure[clip, span], asked]
    return _Cut(clip, span, [*truth, np.full((schedule.frames, 1), told, np.float32), inside])


def _acted(
    face: Face, names: Sequence[str], rng: np.random.Generator
) -> tuple[Face, NDArray[np.float32], NDArray[np.float32]]:
    """A calm face with some emotion; the condition that asks for it and the classes that an observer sees, `[F,…]`."""
    emotion = str(rng.choice([name for name in LOOKS if name != "neutral"]))
    full = 1.0 if rng.random() < _FULL else float(rng.uniform(0.1, 1.0))
    strength = np.full(len(face.jaw), full, np.float32)
    asked = np.zeros((len(strength), len(CONDITIONS)), np.float32)
    asked[:, CONDITIONS.index(emotion)], asked[:, NEUTRAL] = strength, 1 - strength
    return act(face, names, emotion, strength), asked, probabilities(emotion, strength)


def _stack(truths: list[list[NDArray[np.float32]]]) -> Truth:
    return Truth(*(torch.from_numpy(np.stack(part)) for part in zip(*truths, strict=True)))


def _crops(
    clips: Clips,
    hearings: Sequence[Tensor],
    config: GRMNConfig,
    schedule: MotionSchedule,
    rng: np.random.Generator,
    names: Sequence[str],
) -> tuple[Tensor, Truth]:
    windows, truths = [], []
    for _ in range(schedule.batch):
        cut = _cut(clips, config, schedule, rng, names)
        heard = hearings[int(rng.integers(len(hearings)))][cut.clip].float()
        windows.append(token_windows(heard, config.window_past, config.window_future)[cut.span])
        truths.append(cut.truth)
    return torch.stack(windows), _stack(truths)
