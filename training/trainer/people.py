"""The people of a run: each clip's motion side, its Gaussians, and the optimiser of those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...runtime.manifest import FRAME_RATE
from ..gaussian_cloud import Densification
from ..grmn import GRMN
from ..head import HeadModel
from ..mouth_region import NO_MOUTH, has_mouth, with_mouth_of
from ..scenes import Scene, open_scene
from ..subject import Subject, SubjectOptions, rest_jaw_of
from ..subject_scene import cue_arrays, extra_teeth
from ..wav2vec2 import StreamingWav2Vec2
from .config import TrainConfig
from .errors import TrainingError
from .hearing import encoder_digest, tokens_of
from .track import Track

__all__ = ["Person", "open_people"]

_EPSILON = 1e-15  # of Adam, as 3DGS


@dataclass(eq=False)
class Person:
    """One clip of a run. `subject` and `optimizer` are None in a run without pictures; `notes` are for the user."""

    scene: Scene
    track: Track
    subject: Subject | None
    optimizer: torch.optim.Optimizer | None
    steps: int = 0
    """of the optimiser, with pictures"""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The scene's folder."""
        return str(self.scene.folder)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors from which `load_state_dict` goes on."""
        return {
            "scene": self.name,
            "steps": self.steps,
            "subject": None if self.subject is None else self.subject.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.steps = int(state["steps"])
        if self.subject is not None and state["subject"] is not None:
            self.subject.load_state_dict(state["subject"])
            self.optimizer = optimizer_of(self.subject)
            self.optimizer.load_state_dict(state["optimizer"])


def open_people(
    folders: tuple[Path, ...],
    head: HeadModel,
    encoder: StreamingWav2Vec2,
    motion: GRMN,
    config: TrainConfig,
    cache: Path | None,
    device: torch.device,
    processes: int = 1,
) -> list[Person]:
    """Open every scene, hear its sound and spread its Gaussians.

    Raises:
        TrainingError, SubjectError, CheckpointError, AudioError: a scene cannot be learnt from; names it and the cure.
    """
    digest = encoder_digest(encoder)
    visits = -(-config.steps * config.batch * processes // len(folders))
    options = subject_options(config, visits)
    people = []
    for number, folder in enumerate(folders):
        scene = open_scene(folder)
        rows, indices = _used(scene, config)
        track = Track(scene, tokens_of(scene, encoder, digest, cache), motion, rows, rest_jaw_of(scene), device)
        if config.kind == "adapt":
            cue_arrays(scene, indices)  # what it lacks would be missed when the first file is written
        subject, optimizer, notes = None, None, list[str]()
        if config.steps:
            own = with_mouth_of(head, scene.folder)
            subject = Subject.open(
                scene, own, count=config.count, seed=config.seed + number, size=trained_size(scene, config),
                indices=indices, options=options, device=device,
            )  # fmt: skip
            optimizer = optimizer_of(subject)
            notes += [*subject.notes, *_notes(scene, own, motion)]
        people.append(Person(scene, track, subject, optimizer, notes=tuple(notes)))
    return people


def _notes(scene: Scene, head: HeadModel, motion: GRMN) -> Iterator[str]:
    """What of a head or scene stays unused."""
    if motion.config.mouth is not None and not has_mouth(head):
        yield NO_MOUTH
    if extra_teeth(scene, head):
        yield f"was tracked with VHAP's teeth, which {head.source} has not: the head is learnt without them"


def trained_size(scene: Scene, config: TrainConfig) -> int:
    """The longer side of the pictures that are trained on: never more than the scene has."""
    camera = scene.pictures[0].camera
    return min(config.size, max(camera.width, camera.height))


def optimizer_of(subject: Subject) -> torch.optim.Optimizer:
    """The Gaussians' Adam."""
    return torch.optim.Adam(subject.parameter_groups(), eps=_EPSILON, fused=True)


def subject_options(config: TrainConfig, visits: int) -> SubjectOptions:
    """3DGS' schedule, stretched over the `visits` of a person; the number of Gaussians never grows past the start's."""
    first, last = (round(0.15 * visits), round(0.75 * visits)) if config.densify else (1, 0)
    densification = Densification(ceiling=config.count, first=first, last=last, every=max(visits // 20, 1))
    return SubjectOptions(steps=visits, sh_every=max(visits // 4, 1), densification=densification)


def _used(scene: Scene, config: TrainConfig) -> tuple[int, tuple[int, ...]]:
    """How many rows of a scene are used, and which pictures. Raises TrainingError if it is too short."""
    if config.seconds is None:
        indices = scene.split.train
    else:
        if scene.rows < round(config.seconds * FRAME_RATE):
            raise TrainingError(
                f"{scene.folder}: lasts {scene.seconds:.2f} s, {config.seconds:g} s are asked for: give a longer clip, "
                f"or --seconds {scene.seconds:.2f}"
            )
        indices = scene.first_seconds(config.seconds)
    if not indices:
        raise TrainingError(f"{scene.folder}: has no training pictures; `emotag-train check {scene.folder}` says why")
    return 1 + max(scene.pictures[index].row for index in indices), indices
