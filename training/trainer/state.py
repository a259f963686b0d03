"""A run as the content of a `.pt` file: plain values and tensors, so that it loads with `weights_only=True`.

Pretraining writes the file of `save_pretrained`; adaptation writes an avatar's checkpoint with the run beside it.
Both can be gone on from at any step with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...runtime.errors import CheckpointError
from ..checkpoint import FORMAT as AVATAR_FORMAT
from ..checkpoint import AvatarInfo, Checkpoint, load_checkpoint, load_tensors, restore, write_atomically
from ..grmn import GRMN, GRMNConfig
from ..subject import SubjectError
from .config import TrainConfig
from .run import Run
from .start import FORMAT, Networks, head_digest, networks_of, plain_state

__all__ = ["Saved", "avatar_of", "load_saved", "resume", "save_avatar", "save_pretrained"]

VERSION = 1


class Saved:
    """A file to go on from: its `config`, `networks` (parameters as trained, not their mean), and the run's rest."""

    def __init__(self, path: Path, config: TrainConfig, networks: Networks, state: dict[str, Any]) -> None:
        self.path, self.config, self.networks, self.state = path, config, networks, state

    @property
    def scenes(self) -> tuple[Path, ...]:
        """The scenes that the run was started with, in their order."""
        return tuple(Path(str(person["scene"])) for person in self.state["people"])


def save_pretrained(run: Run, path: Path) -> None:
    """Write a pretraining run. Raises OutputError; the old file then stays."""
    encoder = run.networks.encoder
    streaming = encoder.streaming
    content = {
        "format": FORMAT,
        "version": VERSION,
        "encoder": {
            "config": encoder.model.config.to_dict(),
            "streaming": [streaming.chunk, streaming.lookahead, streaming.context],
            "state": plain_state(encoder),
        },
        **run_state(run),
    }
    write_atomically(path, content)


def save_avatar(run: Run, path: Path, info: AvatarInfo, compact: bool = False) -> None:
    """Write an adaptation as an avatar's checkpoint, with the run beside it unless `compact`. Raises OutputError."""
    avatar_of(run, info).save(path, None if compact else run_state(run))


def run_state(run: Run) -> dict[str, Any]:
    """Everything of a run but its encoder."""
    motion = run.networks.motion
    return {
        "config": run.config.to_dict(),
        "head": {"digest": head_digest(run.head), "expression_names": list(run.head.expression_names)},
        "motion": {
            "config": motion.config.to_dict(),
            "state": plain_state(motion),
            "ema": {name: value.cpu().clone() for name, value in run.ema.state_dict().items()},
        },
        "optimizer": None if run.optimizer is None else deepcopy(run.optimizer.state_dict()),
        "people": [person.state_dict() for person in run.people],
        "step": run.step,
        "elapsed": run.clock(),
        "minutes": run.minutes,
        "processes": run.processes.world,
    }


def load_saved(path: Path) -> Saved:
    """Read a file to go on from.

    Raises:
        CheckpointError: it is none, is damaged, was written by a newer version, or keeps only the finished avatar.
    """
    content = load_tensors(path)
    form = content.get("format") if isinstance(content, dict) else None
    if form == AVATAR_FORMAT:
        if "training" not in content:
            raise CheckpointError(f"{path} holds a finished avatar without its run: there is nothing to go on with")
        encoder = load_checkpoint(path).encoder
        state = content["training"]
    elif form == FORMAT:
        if content.get("version") != VERSION:
            raise CheckpointError(
                f"{path} has version {content.get('version')}, this emotag reads {VERSION}: update it"
            )
        encoder = networks_of(content, str(path)).encoder
        state = content
    else:
        raise CheckpointError(f"{path} is no training run: give a file that `emotag-train` wrote")
    assert encoder is not None  # both kinds have one
    try:
        motion = GRMN(GRMNConfig.from_dict(state["motion"]["config"]))
        restore(motion, state["motion"]["state"], "motion network", str(path))
        head = state["head"]
        networks = Networks(encoder, motion, tuple(head["expression_names"]), str(head["digest"]), str(path))
        return Saved(path, TrainConfig.from_dict(state["config"]), networks, state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged or incomplete ({error}): go on from an earlier file") from error


def resume(run: Run, saved: Saved) -> None:
    """Bring a run that was started with the same scenes to where the file left it.

    Raises:
        CheckpointError: the file does not fit the run.
    """
    state = saved.state
    try:
        if len(state["people"]) != len(run.people):
            raise CheckpointError(
                f"{saved.path} was trained on {len(state['people'])} scenes, {len(run.people)} are given: give the same"
            )
        if state["processes"] != run.processes.world:
            raise CheckpointError(
                f"{saved.path} was trained by {state['processes']} processes, now there are {run.processes.world}: "
                f"pass --devices {state['processes']}"
            )
        for person, own in zip(run.people, state["people"], strict=True):
            person.load_state_dict(own)
        run.ema.load_state_dict(state["motion"]["ema"])
        if run.optimizer is not None and state["optimizer"] is not None:
            run.optimizer.load_state_dict(state["optimizer"])
        run.step, run.elapsed = int(state["step"]), float(state["elapsed"])
    except (KeyError, TypeError, ValueError, SubjectError) as error:
        raise CheckpointError(f"{saved.path} does not fit this run ({error}): go on from an earlier file") from error


def avatar_of(run: Run, info: AvatarInfo) -> Checkpoint:
    """The avatar of the run's only person, with the mean of the motion network's weights (EMA)."""
    (person,) = run.people
    subject = person.subject
    assert subject is not None
    motion = GRMN(run.networks.motion.config)
    motion.load_state_dict({name: value.cpu() for name, value in run.ema.state_dict().items()})
    with torch.no_grad():  # the network's jaw counts from the shut mouth, the head's as the tracker does
        motion.flame_jaw_head.bias.add_(subject.rest_jaw.cpu())
    identity = person.track.identity
    size = subject.scene.pictures[0].camera
    share = np.array([info.width / size.width, info.height / size.height] * 2, np.float32)
    cues = subject.cue_arrays()
    cues["intrinsics"] = cues["intrinsics"] * share
    avatar = subject.avatar_arrays()
    if motion.config.mouth is None:  # such a network moves the mouth by expression and jaw alone
        avatar.pop("mouth.index", None)
    info.active_sh_degree = subject.sh_degree
    info.scale_activation = subject.cloud.scale_activation
    return Checkpoint(
        motion=motion.eval(),
        encoder=run.networks.encoder,
        identity=None if identity is None else identity.cpu(),
        avatar=avatar,
        cues=cues,
        info=info,
        source=person.name,
    )


def left_out(without: Sequence[str]) -> tuple[str, ...]:
    """What the avatar's notes say of an ablation."""
    return (f"an ablation, trained without {', '.join(without)}",) if without else ()
