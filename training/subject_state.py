"""What a checkpoint keeps of a person in training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .gaussian_cloud import NAMES, Cloud, Statistics
from .subject_frames import SubjectError

__all__ = ["State", "read_state", "state_of"]

_VERSION = 1


class State(NamedTuple):
    """From where a person's training goes on, but for the optimiser."""

    cloud: Cloud
    statistics: Statistics
    sh_degree: int
    seed: int


def state_of(state: State) -> dict[str, Any]:
    """Tensors on the CPU and plain values."""
    cloud, statistics = state.cloud, state.statistics
    return {
        "version": _VERSION,
        "leaves": {name: leaf.detach().cpu().clone() for name, leaf in cloud.leaves().items()},
        "face_index": cloud.face_index.cpu().clone(),
        "mouth": cloud.mouth.cpu().clone(),
        "scale_activation": cloud.scale_activation,
        "gradient": statistics.gradient.cpu().clone(),
        "seen": statistics.seen.cpu().clone(),
        "sh_degree": state.sh_degree,
        "seed": state.seed,
    }


def read_state(content: dict[str, Any], faces: int, device: torch.device) -> State:
    """Inverse of `state_of` for a head of so many triangles; new leaves on the device.

    Raises:
        SubjectError: the state is of another version or head, or its sizes disagree.
    """
    try:
        if content["version"] != _VERSION:
            raise SubjectError(f"the state has version {content['version']}, not {_VERSION}: update emotag")
        face, mouth = content["face_index"].long(), content["mouth"].bool()
        leaves = {name: content["leaves"][name].float() for name in NAMES}
        statistics = Statistics(content["gradient"].float(), content["seen"].float())
        degree, seed = int(content["sh_degree"]), int(content["seed"])
        activation = content["scale_activation"]
    except (KeyError, TypeError, AttributeError) as error:
        raise SubjectError(f"not the state of a subject ({error}): use a checkpoint of this program") from error
    sizes = {len(value) for value in (face, mouth, *leaves.values(), *statistics)}
    if len(sizes) != 1 or int(face.max()) >= faces:
        raise SubjectError("the state's Gaussians do not fit each other or this head: use a checkpoint of it")
    moved = {name: value.to(device).requires_grad_() for name, value in leaves.items()}
    cloud = Cloud(face.to(device), mouth.to(device), **moved, scale_activation=activation)
    return State(cloud, Statistics(*(value.to(device) for value in statistics)), degree, seed)
