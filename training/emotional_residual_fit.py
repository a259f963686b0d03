"""Training of the emotional residual after GRMN: pictures of one person's emotional scenes, everything else frozen.

The head is drawn with the motion that the frozen network says, as the runtime will, told the scene's emotion: a network
that hears none of what a picture shows moves and adds nothing, which teaches nothing. Scenes that do not say their
emotion are heard. The residual learns from the photometric loss alone (eq. 10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import plugins
from ..runtime.errors import CheckpointError, ControlError
from .checkpoint import Checkpoint
from .emotional_residual import EmotionalResidual, asked_emotion, make_residual, wear
from .grmn import Motion as Said
from .head import HeadModel
from .losses import photometric
from .render import GaussianParameters, HeadTensors, Motion, Mouth, RenderOutput, render
from .scenes import open_scene
from .subject import Subject, rest_jaw_of
from .trainer.errors import TrainingError
from .trainer.hearing import encoder_digest, tokens_of
from .trainer.track import Track

__all__ = ["FitOptions", "Studio", "fit"]

_SAME_PERSON = 1e-3  # metres between the avatar's head and a scene's


@dataclass(frozen=True)
class FitOptions:
    """How the residual learns.

    size: longer side of the pictures, pixels. rate, offset_rate: of the network and of the offsets. decay: of the
    offsets, times their rate, every step: what pictures do not agree on goes back to nothing. other_audio: share of
    the steps that hear another frame of the clip, so that the residual cannot know a picture by its sound.
    """

    steps: int = 400
    size: int = 256
    rank: int = 6
    seed: int = 0
    rate: float = 2e-3
    offset_rate: float = 2e-2
    decay: float = 1.0
    other_audio: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 1 or not 16 <= self.size <= plugins.constants.MAX_SIDE or not 1 <= self.rank <= 8:
            raise ControlError(
                f"steps {self.steps}, size {self.size}, rank {self.rank}: give 1 step or more, "
                f"16 to {plugins.constants.MAX_SIDE} pixels and a rank of 1 to 8"
            )
        if not 0 <= self.decay <= 10 or not 0 <= self.other_audio <= 1:
            raise ControlError(f"decay {self.decay}, other_audio {self.other_audio}: give 0 to 10, and a share of 1")


class Studio:
    """An avatar in front of the pictures of one scene: what GRMN says of every frame, drawn with or without a residual.

    Raises:
        CheckpointError: the avatar cannot be steered, has no encoder, or the scene shows another person or head.
        TrainingError, SubjectError, AudioError: the scene cannot be learnt from.
    """

    def __init__(self, checkpoint: Checkpoint, folder: Path, head: HeadModel, size: int) -> None:
        self.scene = open_scene(folder)
        encoder, network = checkpoint.encoder, checkpoint.motion
        if encoder is None or not network.config.steerable:
            raise CheckpointError(
                f"{checkpoint.source}: an emotional residual needs an avatar with an audio encoder and a steerable "
                "motion network: adapt one with `emotag-train adapt`"
            )
        self.subject = Subject.open(self.scene, head, count=64, size=size, colours=False)
        _check_person(self.subject, checkpoint)
        arrays = checkpoint.avatar
        parts = {name.split(".", 1)[1]: value for name, value in arrays.items() if name.startswith("head.")}
        self.head = HeadTensors.of(plugins.Head(**parts))
        self.gaussians = _gaussians_of(checkpoint)
        rest = rest_jaw_of(self.scene)
        tokens = tokens_of(self.scene, encoder, encoder_digest(encoder))
        track = Track(self.scene, tokens, network, self.scene.rows, rest, torch.device("cpu"))
        self.asked = track.emotion
        self.classes = len(network.config.conditions)
        with torch.no_grad():
            every = slice(0, self.scene.rows)
            self.heard, self.told = track.predict(network, every), track.predict(network, every, told=True)
        mouth = arrays.get("mouth.index")
        self._mouth_index = None if mouth is None else torch.from_numpy(mouth.astype(np.int64))
        self._mouth = None if mouth is None else network.mouth()

    def take(self, checkpoint: Checkpoint) -> None:
        """Go on with the Gaussians of another checkpoint of the same avatar: motion and head stay."""
        self.gaussians = _gaussians_of(checkpoint)

    def said(self, index: int, told: bool) -> tuple[Said, Tensor]:
        """What the network says of picture `index`, each part with a leading axis of 1, and the emotion [1,C]."""
        row = self.scene.pictures[index].row
        motion = Said(*(part[row : row + 1] for part in (self.told if told else self.heard)))
        asked = self.asked[row : row + 1] if told and self.asked is not None else None
        return motion, asked_emotion(motion, asked, self.classes)

    def motion(self, index: int, said: Said) -> Motion:
        """GRMN's expression and jaw (from the head's own zero, as in the avatar) in the tracked pose."""
        tracked = self.subject.controls(index)
        pose = torch.cat([tracked.pose[:2], said.jaw, tracked.pose[3:]])
        mouth = None
        if self._mouth is not None and self._mouth_index is not None:
            head, heard = self._mouth, said.encoded_audio[0]
            mouth = Mouth(self._mouth_index, lambda points: head(points, heard))
        return Motion(said.expression[0], pose, tracked.translation, mouth)

    def draw(
        self,
        index: int,
        residual: EmotionalResidual | None,
        background: Tensor,
        told: bool,
        tracked: bool = False,
        audio_of: int | None = None,
    ) -> RenderOutput:
        """The box around the head of picture `index`.

        tracked: the tracker's expression and jaw instead of GRMN's. audio_of: the picture that the residual hears, if
        it is another.
        """
        said, emotion = self.said(index, told)
        gaussians = self.gaussians
        if residual is not None:
            heard = (
                said if audio_of is None else said._replace(encoded_audio=self.said(audio_of, told)[0].encoded_audio)
            )
            gaussians = wear(gaussians, residual.offsets(residual.of_motion(heard, emotion)[0]))
        moved = self.subject.controls(index) if tracked else self.motion(index, said)
        return render(self.head, gaussians, moved, self.subject.camera(index, crop=True), background)


def _check_person(subject: Subject, checkpoint: Checkpoint) -> None:
    own, theirs = checkpoint.avatar["head.template"], subject.baked.template
    if own.shape != theirs.shape or np.abs(own - theirs).max() > _SAME_PERSON:
        raise CheckpointError(
            f"{subject.scene.folder}: shows another head than {checkpoint.source}: give scenes of the avatar's person"
        )


def _gaussians_of(checkpoint: Checkpoint) -> GaussianParameters:
    """The avatar's Gaussians, frozen."""
    names = ("face_index", "means", "quats", "scales", "opacities", "sh")
    values = {name: torch.from_numpy(checkpoint.avatar[f"gaussians.{name}"].copy()) for name in names}
    values["face_index"] = values["face_index"].long()
    info = checkpoint.info
    return GaussianParameters(**values, sh_degree=info.active_sh_degree, scale_activation=info.scale_activation)


def fit(
    checkpoint: Checkpoint,
    studios: Sequence[Studio],
    options: FitOptions | None = None,
    progress: Callable[[int, float], None] = lambda step, loss: None,
    residual: EmotionalResidual | None = None,
    also: Sequence[torch.nn.Parameter] = (),
) -> EmotionalResidual:
    """Learn the residual of an avatar from the training pictures of its scenes; nothing else changes.

    Args:
        checkpoint: the avatar. Its `appearance` is not read.
        studios: its scenes, at least one of which is not neutral.
        options: steps and rates.
        progress: is told every step and its loss.
        residual: what to go on with, of this avatar; None is a fresh one. It is trained in place.
        also: what else learns, at the rate of the offsets and without decay.

    Raises:
        TrainingError: there is nothing to learn from, or the loss is not a number.
        CheckpointError: a picture is broken.
    """
    own = options or FitOptions()
    neutral = checkpoint.motion.config.conditions.index("neutral")
    if not any(studio.asked is not None and bool((studio.asked[:, neutral] < 0.5).any()) for studio in studios):
        raise TrainingError("no scene shows an emotion: give scenes of the person with `emotion_features.npy` of some")
    for network in (checkpoint.motion, checkpoint.encoder):
        if network is not None:
            network.requires_grad_(False)
    if residual is None:
        residual = make_residual(checkpoint.avatar, checkpoint.motion.config, own.seed, own.rank)
    known = {id(one) for one in (residual.raw, *also)}
    rest = [parameter for parameter in residual.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": own.rate, "weight_decay": 0.0}]
    groups.append({"params": [residual.raw], "lr": own.offset_rate, "weight_decay": own.decay})
    if also:
        groups.append({"params": list(also), "lr": own.offset_rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups)
    fade = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, own.steps, eta_min=0.0)
    generator = torch.Generator().manual_seed(own.seed)
    pictures = [(studio, index) for studio in studios for index in studio.subject.train_indices]
    for step in range(own.steps):
        studio, index = pictures[int(torch.randint(len(pictures), (), generator=generator))]
        background = torch.rand(3, generator=generator)
        target = studio.subject.target(index, background, crop=True)
        audio_of = None
        if bool(torch.rand((), generator=generator) < own.other_audio):
            mine = studio.subject.train_indices
            audio_of = mine[int(torch.randint(len(mine), (), generator=generator))]
        output = studio.draw(index, residual, background, True, audio_of=audio_of)
        loss = photometric(output.rgb, target.rgb)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(f"step {step}: the loss is not a number: train with fewer steps, or look at the scenes")
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        fade.step()
        progress(step, float(loss.detach()))
    return residual.eval()
