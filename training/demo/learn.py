"""Learn the demo's motion from nothing: corpus, encoder, motion network, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...runtime.errors import CheckpointError
from ..checkpoint import load_tensors, restore, write_atomically
from ..corpus import FESTIVAL, HELD_OUT, RECORDED, Voice
from ..corpus.listener import Listener
from ..corpus.listener_weights import listener_weights
from ..grmn import GRMN, GRMNConfig
from ..head import HeadModel
from ..wav2vec2 import StreamingWav2Vec2
from .clips import ClipRequest, Clips, Progress, join, load_clips, silent_clips
from .encoder import STREAMING, EncoderSchedule, Lesson, round_to_half, train_encoder
from .geometry import LipGeometry, lip_geometry
from .lessons import lessons
from .measure import Measures, fit_loudness, measure
from .motion import MotionSchedule, demo_identity, encode, hear, restore_range, train_decoder, train_motion
from .pretrained import Ears, adopt_layers, begun_encoder, imitate
from .snapshot import Snapshot

_WEIGHT_OF_PROMPTS = 3  # they are few, and what real speech is most like
_WEIGHT_OF_PEOPLE = 2  # prompts and talkies together
_TALKIES = (Voice("recorded", "fotaq"),) * 5 + (Voice("recorded", "drascula"),)  # by how much each holds
_LEARNED = {"encoder", "encoder_config", "config", "motion", "identity"}
_RANGE_CLIPS = 200  # clips on which the range of motion is restored


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is learned."""

    corpus: ClipRequest = ClipRequest(count=2400, seed=1)
    recorded: ClipRequest = ClipRequest(count=800, seed=2, voices=FESTIVAL, emotional=0.3, stretched=0.8)
    """voices cut from recordings; the encoder meets them when it hears already, then everything is new to it"""
    prompts: ClipRequest = ClipRequest(count=1000, seed=3, voices=RECORDED, emotional=0.0, stretched=0.8)
    """people who speak whole sentences, met after that"""
    talkies: ClipRequest = ClipRequest(count=2600, seed=4, voices=_TALKIES, emotional=0.0, stretched=0.8)
    """actors of two games, met at last"""
    silent: int = 60
    encoder: EncoderSchedule = field(default_factory=EncoderSchedule)
    refine: EncoderSchedule = field(default_factory=lambda: EncoderSchedule(1500, rate=8e-4, warped=0.5, seed=1))
    people: EncoderSchedule = field(default_factory=lambda: EncoderSchedule(1600, rate=8e-4, warped=0.5, seed=2))
    """the encoder once more, with the prompts"""
    layers: int = 4
    """of a recognizer of people's speech, with which the encoder goes on (`pretrained`)"""
    imitate: EncoderSchedule = field(
        default_factory=lambda: EncoderSchedule(1500, batch=12, frames=40, rate=2e-3, warped=0.5, seed=4)
    )
    """its convolutions, with everybody"""
    listen: EncoderSchedule = field(
        default_factory=lambda: EncoderSchedule(1500, batch=5, rate=5e-4, warped=0.5, seed=4)
    )
    """all of it, with everybody; the recognizer says what it hears (`lessons`)"""
    again: EncoderSchedule = field(
        default_factory=lambda: EncoderSchedule(2200, batch=5, rate=4e-4, warped=0.5, seed=5)
    )
    """the same once more, with new heads"""
    motion: MotionSchedule = field(default_factory=MotionSchedule)
    settle: MotionSchedule = field(default_factory=lambda: MotionSchedule(steps=800, batch=24, rate=5e-4, seed=5))
    """of the decoders alone, on every fourth clip"""


HELD_OUT_CLIPS = ClipRequest(count=50, seed=4242, voices=HELD_OUT, emotional=0.0, stretched=0.0)
"""What the result is measured on: voices that training never heard."""


@dataclass(frozen=True)
class Learned:
    """An encoder, the motion network on top of it and the identity feature it was trained with."""

    encoder: StreamingWav2Vec2
    motion: GRMN
    identity: Tensor

    def save(self, path: Path) -> None:
        """Write the intermediate that `load_learned` reads; `weights_only=True` loads it."""
        content = {
            "encoder": self.encoder.state_dict(),
            "encoder_config": self.encoder.model.config.to_dict(),
            "config": self.motion.config.to_dict(),
            "motion": self.motion.state_dict(),
            "identity": self.identity,
        }
        write_atomically(path, content)


def load_learned(path: Path) -> Learned:
    """Inverse of `Learned.save`.

    Raises:
        CheckpointError: the file is not one.
    """
    content = load_tensors(path)
    if not isinstance(content, dict) or not _LEARNED <= set(content):
        raise CheckpointError(f"{path} is not learned motion: give a file of `emotag-train speech`")
    encoder = StreamingWav2Vec2.from_config(content["encoder_config"], STREAMING)
    restore(encoder, content["encoder"], "encoder", str(path))
    motion = GRMN(GRMNConfig.from_dict(content["config"]))
    restore(motion, content["motion"], "motion network", str(path))
    return Learned(encoder.eval(), motion.eval(), content["identity"])


def learn(
    head: HeadModel, recipe: Recipe, cache: Path, progress: Progress | None = None, work: Path | None = None
) -> Learned:
    """Train encoder and motion network on the corpus of `recipe`, cached in `cache`.

    What was learned so far is kept in the folder `work`, from which an interrupted run goes on.

    Raises:
        MissingProgramError: a clip must be made whose synthesizer or recordings are not installed, or there is no
            recogniser, or nothing that reads its weights; told before anything is learned.
        SpeechError: one of these fails.
    """
    names = head.expression_names
    Listener()  # needed hours from here, as are its weights
    listener_weights()
    clips = training_clips(names, recipe, cache, progress)
    recorded, prompts, talkies = (
        load_clips(request, names, cache, progress) for request in (recipe.recorded, recipe.prompts, recipe.talkies)
    )
    snapshot = _snapshot(work, "encoder", recipe)
    encoder, _ = train_encoder(_lesson(clips, names), recipe.encoder, progress, snapshot=snapshot)
    joined = join(clips, recorded, recorded)
    snapshot = _snapshot(work, "refined", recipe)
    encoder, _ = train_encoder(_lesson(joined, names), recipe.refine, progress, encoder, snapshot)
    joined = join(clips, recorded, *[prompts] * _WEIGHT_OF_PROMPTS)
    snapshot = _snapshot(work, "people", recipe)
    encoder, _ = train_encoder(_lesson(joined, names), recipe.people, progress, encoder, snapshot)
    lesson = everybody(join(clips, recorded), join(prompts, talkies), names, progress)
    encoder = pretrained(encoder, lesson, recipe, progress, _snapshot(work, "imitated", recipe))
    snapshot = _snapshot(work, "listened", recipe)
    encoder, _ = train_encoder(lesson, recipe.listen, progress, encoder, snapshot)
    encoder, _ = train_encoder(lesson, recipe.again, progress, encoder, _snapshot(work, "again", recipe))
    round_to_half(encoder)
    return learn_motion(head, encoder, join(clips, recorded), join(prompts, talkies), recipe, progress, work)


def pretrained(
    small: StreamingWav2Vec2, lesson: Lesson, recipe: Recipe, progress: Progress | None, snapshot: Snapshot
) -> StreamingWav2Vec2:
    """The recognizer's layers behind convolutions that have learned from `small` and to imitate the recognizer's."""
    weights = listener_weights()
    encoder = begun_encoder(small, recipe.layers)
    drawn = np.arange(len(lesson.clips)) if lesson.drawn is None else lesson.drawn
    imitate(encoder, lesson.clips, drawn, Ears(weights), recipe.imitate, progress, snapshot)
    adopt_layers(encoder, weights)
    return encoder


def everybody(synthesised: Clips, people: Clips, names: Sequence[str], progress: Progress | None = None) -> Lesson:
    """The lesson of `listen` and `again`: all clips, people's counted more, and what a recognizer hears in them."""
    clips, few = join(synthesised, people), len(synthesised)
    drawn = np.concatenate([np.arange(few), np.tile(np.arange(few, len(clips)), _WEIGHT_OF_PEOPLE)])
    return Lesson(clips, lip_channels(clips, names), drawn, lessons(clips, Listener(), progress))


def _lesson(clips: Clips, names: Sequence[str]) -> Lesson:
    return Lesson(clips, lip_channels(clips, names))


def learn_motion(
    head: HeadModel,
    encoder: StreamingWav2Vec2,
    synthesised: Clips,
    people: Clips,
    recipe: Recipe,
    progress: Progress | None = None,
    work: Path | None = None,
) -> Learned:
    """Train the motion network on what a finished encoder hears. Each clip is heard once, however often it counts."""
    schedule, few = recipe.motion, len(synthesised)
    clips = join(synthesised, people)
    seen = np.concatenate([np.arange(few), np.tile(np.arange(few, len(clips)), _WEIGHT_OF_PEOPLE)])
    hearings = [hear(encoder, clips, schedule.seed + n, progress)[seen] for n in range(schedule.hearings)]
    clips = clips.part(seen)
    snapshot = _snapshot(work, "motion", recipe)
    motion, _ = train_motion(clips, hearings, lip_geometry(head), schedule, progress, snapshot=snapshot)
    every = slice(None, None, 4)
    encodings = encode(motion, hearings[0][every])
    motion, _ = train_decoder(clips.part(every), encodings, lip_geometry(head), recipe.settle, motion)
    identity = demo_identity(motion.config.identity)
    some = slice(0, _RANGE_CLIPS)
    restore_range(motion, identity, clips.part(some), hearings[0][some], head.expression_names)
    return Learned(encoder, motion, identity)


def _snapshot(work: Path | None, stage: str, recipe: Recipe) -> Snapshot:
    return Snapshot(None if work is None else work / f"{stage}.pt", recipe=repr(recipe))


def training_clips(names: Sequence[str], recipe: Recipe, cache: Path, progress: Progress | None = None) -> Clips:
    """The spoken clips of the recipe and its silent ones."""
    spoken = load_clips(recipe.corpus, names, cache, progress)
    return join(spoken, silent_clips(recipe.silent, names, recipe.corpus.frames))


def lip_channels(clips: Clips, names: Sequence[str]) -> NDArray[np.float32]:
    """`[N,F,K]` jaw opening and the mouth's expressions that move, standardised: the encoder's lesson."""
    moving = [k for k, name in enumerate(names) if name.startswith("mouth") and clips.expression[..., k].std() > 0.02]
    lips = np.concatenate([clips.jaw[..., :1], clips.expression[..., moving]], axis=-1)
    standard: NDArray[np.float32] = (lips - lips.mean(axis=(0, 1))) / lips.std(axis=(0, 1))
    return standard


def evaluate(
    head: HeadModel,
    encoder: StreamingWav2Vec2,
    motion: GRMN,
    identity: Tensor | None,
    cache: Path,
    count: int = HELD_OUT_CLIPS.count,
    progress: Progress | None = None,
) -> Measures:
    """The numbers on `count` clips of held-out voices; loudness alone is fitted to training voices first."""
    names = head.expression_names
    unheard = load_clips(replace(HELD_OUT_CLIPS, count=count), names, cache, progress)
    heard = load_clips(ClipRequest(count=count, seed=1), names, cache, progress)
    geometry: LipGeometry = lip_geometry(head)
    with torch.no_grad():
        return measure(encoder, motion, identity, unheard, geometry, fit_loudness(heard))
