"""A training run: what it holds, and one step of it (spec §2, eq. 10-14)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...runtime.errors import EmotagError
from ..gaussian_cloud import Statistics
from ..grmn import Motion as Predicted
from ..head import HeadModel
from ..losses import LossError, LossWeights, total
from ..render import RenderOutput
from ..subject import Subject
from .config import TrainConfig
from .ema import MovingAverage
from .errors import TrainingError
from .face_loss import FaceLoss
from .people import Person, trained_size
from .processes import Processes
from .schedule import Phase, Slot, Timeline, slots_of
from .start import Networks

__all__ = ["Advance", "Run", "start_run"]

_GRIDS = ("encoder_xy", "encoder_yz", "encoder_xz")
_ADAIN = ("audio_adain", "au_adain")
_TOLD = 0.4  # share of the crops whose emotion a steerable network is told
_CLIP = 1.0  # largest norm of the motion network's gradient


class Advance(NamedTuple):
    """What a step did: its stage, its loss terms (of this process), and the rates."""

    stage: str
    terms: dict[str, float]
    values: dict[str, float]


@dataclass(eq=False)
class Run:
    """Everything of a run. `step` is the number of steps that are done."""

    config: TrainConfig
    networks: Networks
    head: HeadModel
    people: list[Person]
    processes: Processes
    timeline: Timeline
    ema: MovingAverage
    optimizer: torch.optim.Optimizer | None
    weights: LossWeights
    face: FaceLoss | None
    minutes: float | None = None
    step: int = 0
    elapsed: float = 0.0
    """seconds, of all the sessions of this run"""
    _since: float = field(default_factory=time.monotonic)

    @property
    def total(self) -> int:
        """Steps of the whole run, with and without pictures."""
        return self.config.motion_steps + self.config.steps

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the time that may be taken is over."""
        return self.step >= self.total or (self.step >= self.config.motion_steps and self._late())

    def _late(self) -> bool:
        return self.minutes is not None and self.position() >= self.config.steps

    def clock(self) -> float:
        """Seconds that the run has taken so far."""
        return self.elapsed + time.monotonic() - self._since

    def position(self) -> int:
        """The place in the timeline: the step, or farther where the time that may be taken runs out sooner."""
        own = self.step - self.config.motion_steps
        if self.minutes is None:
            return own
        mine = torch.tensor([self.clock() if self.processes.first else 0.0], dtype=torch.float64)
        share = float(self.processes.sum(mine.to(self.processes.device))) / (60 * self.minutes)
        return max(own, int(share * self.config.steps))

    def advance(self) -> Advance:
        """One step.

        Raises:
            TrainingError: a loss or a gradient is not a number; says at which step, whose, which frame and term.
                Nothing has changed then.
        """
        # All that is random in a step follows from its number: a run that goes on draws the same.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        done = self._motion_step() if self.step < self.config.motion_steps else self._picture_step()
        self.step += 1
        return done

    # Motion alone

    def _motion_step(self) -> Advance:
        config = self.config
        length = min(config.crop_frames, min(person.track.rows for person in self.people))
        starts = [person.track.rows - length + 1 for person in self.people]
        count = config.crops * self.processes.world
        slots = slots_of(self.step, count, starts, config.seed + 1)
        decay = config.decay ** (self.step / config.motion_steps)
        weights = replace(self.weights, motion=LossWeights().motion)  # here it is all there is, also for the paper's
        self._zero(())

        def learn(slot: Slot) -> dict[str, Tensor]:
            track = self.people[slot.person].track
            rows = slice(slot.frame, slot.frame + length)
            steerable = self.networks.motion.config.steerable
            told = steerable and np.random.default_rng([config.seed, 7, slot.number]).random() < _TOLD
            predicted = track.predict(self.networks.motion, rows, bool(told))
            tracked = track.tracked(rows)
            loss, terms = total(weights, predicted=predicted, tracked=tracked)
            if self.face is not None:
                extra = self.face(predicted, tracked)
                loss, terms = loss + extra, terms | {"face": extra.detach()}
            torch.autograd.backward(loss)
            return terms

        terms = self._learn(slots, learn)
        self._update((), count, config.motion_rate * decay, config.grid_rate * decay, driven=True)
        return Advance("motion", terms, {"rate": config.motion_rate * decay})

    # With pictures

    def _picture_step(self) -> Advance:
        config = self.config
        phase = self.timeline.phase(min(self.position(), config.steps - 1))
        count = config.batch * self.processes.world
        frames = [len(_subject(person).train_indices) for person in self.people]
        slots = slots_of(self.step - config.motion_steps, count, frames, config.seed)
        touched = [self.people[index] for index in sorted({slot.person for slot in slots})]
        self._zero(touched)
        before = {id(person): _subject(person).statistics for person in touched} if self.processes.world > 1 else {}
        before = {key: Statistics(*(part.clone() for part in value)) for key, value in before.items()}
        terms = self._learn(slots, lambda slot: self._learn_picture(slot, phase))
        for person in touched:
            self._count(person, before.get(id(person)))
        rates = (config.rate * phase.decay, config.grid_rate * phase.decay)
        self._update(touched, count, *rates, driven=phase.driven > 0)
        stage = "appearance" if phase.driven == 0 else "blend" if phase.driven < 1 else "everything"
        gaussians = sum(len(_subject(person).cloud) for person in self.people) / len(self.people)
        return Advance(stage, terms, {"rate": rates[0], "driven": phase.driven, "gaussians": gaussians})

    def _learn_picture(self, slot: Slot, phase: Phase) -> dict[str, Tensor]:
        person = self.people[slot.person]
        subject, config = _subject(person), self.config
        index = subject.train_indices[slot.frame]
        row = subject.scene.pictures[index].row
        size = trained_size(subject.scene, config)
        subject.use_size(max(size // 2, 1) if phase.half else size)
        generator = torch.Generator().manual_seed(config.seed * 7_919 + slot.number)
        background = subject.random_background(generator)
        predicted = tracked = None
        if phase.driven > 0:
            predicted = person.track.predict(self.networks.motion, slice(row, row + 1))
            tracked = person.track.tracked(slice(row, row + 1))
        geometry = config.geometry and subject.scene.pictures[index].depth_path is not None
        output = self.draw(person, index, predicted, phase.driven, geometry, background, crop=True)
        target = subject.target(index, background, geometry, crop=True)
        loss, terms = total(self.weights, output, target, predicted, tracked)
        torch.autograd.backward(loss)
        return terms

    def draw(
        self,
        person: Person,
        index: int,
        predicted: Predicted | None,
        driven: float,
        geometry: bool = False,
        background: Tensor | None = None,
        crop: bool = False,
    ) -> RenderOutput:
        """Picture `index` of a person: the still cloud, what the network says of it, or a mixture by `driven`.

        `crop`: only the box around the head.
        """
        subject, motion = _subject(person), self.networks.motion
        still = subject.controls(index) if self.config.still == "tracked" else subject.still(index)
        if predicted is None:
            return subject.render(index, still, geometry, background, crop)
        jaw = still.pose[2] - subject.rest_jaw
        expression = torch.lerp(still.expression, predicted.expression[0], driven)
        mouth = None
        if motion.config.mouth is not None and len(subject.mouth_index):
            head, heard = motion.mouth(), predicted.encoded_audio[0]

            def mouth(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                return head(points, heard)  # type: ignore[no-any-return]

        moved = subject.driven(index, expression, torch.lerp(jaw, predicted.jaw[0], driven), mouth)
        return subject.render(index, moved, geometry, background, crop)

    def _count(self, person: Person, before: Statistics | None) -> None:
        """Densification's statistics of a step, of all processes."""
        subject = _subject(person)
        subject.after_backward(person.steps)
        if before is not None:
            for now, then in zip(subject.statistics, before, strict=True):
                now.copy_(then + self.processes.sum(now - then))

    # Both

    def _learn(self, slots: list[Slot], learn: Callable[[Slot], dict[str, Tensor]]) -> dict[str, float]:
        """Run this process's slots; terms are their means. An error says where, in every process."""
        sums: dict[str, float] = {}
        mine = self.processes.share(slots)

        def all_of_them() -> None:
            for slot in mine:
                try:
                    terms = learn(slot)
                except LossError as error:
                    raise TrainingError(f"step {self.step}, {self._where(slot)}: {error}") from error
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + float(value) / len(mine)

        self.together(all_of_them)
        return sums

    def _where(self, slot: Slot) -> str:
        person = self.people[slot.person]
        if person.subject is None or self.step < self.config.motion_steps:
            return f"{person.name}, from frame {slot.frame}"
        return str(person.scene.pictures[person.subject.train_indices[slot.frame]].path)

    def together(self, action: Callable[[], None]) -> None:
        """Do something in every process; where it fails in one, all of them stop."""
        failed: EmotagError | None = None
        try:
            action()
        except EmotagError as error:
            failed = error
        if self.processes.any(failed is not None):
            raise failed or TrainingError("another process of this run stopped; it says why")

    def _trained(self) -> list[Tensor]:
        groups: Iterable[dict[str, Any]] = [] if self.optimizer is None else self.optimizer.param_groups
        return [parameter for group in groups for parameter in group["params"]]

    def _zero(self, people: Iterable[Person]) -> None:
        for optimizer in [self.optimizer, *(person.optimizer for person in people)]:
            if optimizer is not None:
                optimizer.zero_grad(set_to_none=True)

    def _update(self, people: Iterable[Person], count: int, rate: float, grid_rate: float, driven: bool) -> None:
        """Mean gradients of `count` slots over all processes, and a step of every optimiser that has some."""
        people = list(people)
        trained = self._trained()
        leaves = [leaf for person in people for leaf in _subject(person).cloud.leaves().values()]
        self.processes.sum_gradients([*trained, *leaves])
        gradients = [leaf.grad for leaf in (*trained, *leaves) if leaf.grad is not None]
        if gradients and not bool(torch.isfinite(torch.stack([gradient.sum() for gradient in gradients]).sum())):
            names = ", ".join(person.name for person in people) or "the motion alone"
            raise TrainingError(
                f"step {self.step}, {names}: a gradient is not a number: go on from the last good checkpoint with a "
                "lower learning rate"
            )
        if count > 1:
            for gradient in gradients:
                gradient.div_(count)
        for person in people:
            self._update_person(person)
        if self.optimizer is not None and driven:
            for group in self.optimizer.param_groups:
                group["lr"] = grid_rate if group["name"] == "grids" else rate
            torch.nn.utils.clip_grad_norm_(trained, _CLIP)
            self.optimizer.step()
            self.ema.update(self.networks.motion)

    def _update_person(self, person: Person) -> None:
        assert person.optimizer is not None
        subject = _subject(person)
        person.optimizer.step()
        subject.densify(person.steps, person.optimizer)
        person.steps += 1
        if self.minutes is not None:
            subject.set_rates(self.position(), self.config.steps, person.optimizer)


def start_run(
    config: TrainConfig,
    networks: Networks,
    head: HeadModel,
    people: list[Person],
    processes: Processes,
    timeline: Timeline,
    minutes: float | None = None,
) -> Run:
    """A run before its first step."""
    motion = networks.motion.to(processes.device).train()
    for name, parameter in motion.named_parameters():
        parameter.requires_grad_(config.all_motion or name.split(".")[0] in _ADAIN)
    if not config.all_motion:
        for person in people:
            person.track.remember(motion)
    plain = LossWeights.paper() if config.weights == "paper" else LossWeights()
    weights = replace(
        plain,
        emotion=0.0 if config.lacks("kl") else plain.emotion,
        score=0.0 if config.lacks("score") else plain.score,
        depth=plain.depth if config.geometry else 0.0,
        normal=plain.normal if config.geometry else 0.0,
    )
    face = FaceLoss.of(head, processes.device) if config.motion_steps else None
    return Run(
        config, networks, head, people, processes, timeline, MovingAverage(motion, config.ema),
        motion_optimizer(networks), weights, face, minutes,
    )  # fmt: skip


def motion_optimizer(networks: Networks) -> torch.optim.Optimizer | None:
    """AdamW over what trains of the motion network, its grids in a group of their own; None if nothing does."""
    named = [(name, p) for name, p in networks.motion.named_parameters() if p.requires_grad]
    grids = [parameter for name, parameter in named if name.split(".")[0] in _GRIDS]
    rest = [parameter for name, parameter in named if name.split(".")[0] not in _GRIDS]
    groups = [{"params": rest, "name": "networks"}, {"params": grids, "name": "grids"}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=1e-4, weight_decay=0.01) if groups else None


def _subject(person: Person) -> Subject:
    assert person.subject is not None, "a run with pictures has a subject for everyone"
    return person.subject
