"""When a run does what (spec §2): its phases, the decay of its rates, and which frame comes when.

All of it is a function of the step alone. A run that goes on from a checkpoint therefore sees what it would have seen,
and so does every process of a run that is spread over several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import ControlError
from .config import TrainConfig

__all__ = ["Phase", "Slot", "Timeline", "slots_of", "timeline_of"]


class Phase(NamedTuple):
    """What a step with pictures does."""

    driven: float
    """0: the still cloud, appearance alone; between: both mixed; 1: driven by the motion network"""
    decay: float
    """factor on the rates"""
    half: bool
    """whether pictures are half as wide"""


@dataclass(frozen=True)
class Timeline:
    """The phases of a run, in steps with pictures."""

    steps: int
    warmup: int
    blend: int
    half: int
    decay: float

    def phase(self, position: int) -> Phase:
        """The phase at a position 0 … steps - 1."""
        after = position - self.warmup
        driven = 0.0 if after < 0 else 1.0 if after >= self.blend else (after + 1) / (self.blend + 1)
        return Phase(driven, self.decay ** (position / max(self.steps, 1)), position < self.half)


def timeline_of(config: TrainConfig, people: int, processes: int = 1) -> Timeline:
    """The timeline of a run over `people` clips.

    Raises:
        ControlError: the warm-up takes all steps, so nothing would be driven.
    """
    warmup = -(-config.warmup * people // (config.batch * processes))
    if config.steps and warmup >= config.steps:
        raise ControlError(
            f"a warm-up of {config.warmup} frames for each of {people} scenes takes {warmup} of {config.steps} steps: "
            f"give more --steps, or a shorter --warmup"
        )
    blend = round(config.blend * config.steps)
    return Timeline(config.steps, warmup, blend, round(config.half_size * config.steps), config.decay)


class Slot(NamedTuple):
    """One frame of a step."""

    person: int
    frame: int
    """a place in the person's list of training pictures"""
    number: int
    """of all slots of the run"""


def slots_of(step: int, batch: int, frames: Sequence[int], seed: int) -> list[Slot]:
    """The `batch` frames of a step; `frames` are how many each person has.

    People take turns in an order that is drawn anew every round, and each shows all frames before one comes again.
    """
    people = len(frames)
    slots = []
    for number in range(step * batch, (step + 1) * batch):
        turn, place = divmod(number, people)
        person = int(_permutation(seed, -1, turn, people)[place])
        round_, place = divmod(turn, frames[person])
        slots.append(Slot(person, int(_permutation(seed, person, round_, frames[person])[place]), number))
    return slots


@lru_cache(maxsize=256)
def _permutation(seed: int, person: int, turn: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, person + 1, turn]).permutation(count)
