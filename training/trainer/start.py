"""What a run starts from: an encoder, a motion network and the head that they drive."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...runtime.errors import CheckpointError
from ..checkpoint import FORMAT as AVATAR_FORMAT
from ..checkpoint import load_checkpoint, load_tensors, restore
from ..demo.assemble import HEAD as ANNY
from ..demo.learn import load_learned
from ..demo.motion import CONDITIONS
from ..flame import load_flame
from ..grmn import GRMN, GRMNConfig
from ..head import HeadModel
from ..mouth import MouthConfig
from ..mouth_region import MASKS, with_masks
from ..wav2vec2 import StreamingConfig, StreamingWav2Vec2

__all__ = [
    "FORMAT",
    "NETWORKS",
    "Networks",
    "fresh_networks",
    "head_digest",
    "open_head",
    "read_networks",
    "with_mouth_head",
]

FORMAT = "emotag-training"
"""`format` of a file that training writes and can go on from."""

NETWORKS = ("live", "released")
_FLAME_EXPRESSIONS = 50  # of FLAME's 100, as the released network has


@dataclass(frozen=True, eq=False)
class Networks:
    """Encoder and motion network, and what they were trained for where that is known."""

    encoder: StreamingWav2Vec2
    motion: GRMN
    expression_names: tuple[str, ...] = ()
    head: str = ""
    """`head_digest` of the head; empty where the file does not say"""
    source: str = ""

    def check_head(self, head: HeadModel) -> None:
        """Refuse a head that these networks do not drive.

        Raises:
            CheckpointError: it has another number of expressions, others, or is another mesh.
        """
        wanted = self.motion.config.expression
        if head.expression_count != wanted:
            raise CheckpointError(
                f"{self.source} moves {wanted} expressions, {head.source} has {head.expression_count}: use the head "
                "that it was trained on (--head)"
            )
        if self.expression_names and self.expression_names != head.expression_names:
            raise CheckpointError(
                f"{self.source} moves other expressions ({self.expression_names[0]}, …) than {head.source} has "
                f"({head.expression_names[0]}, …): use the head that it was trained on (--head)"
            )
        if self.head and self.head != head_digest(head):
            raise CheckpointError(
                f"{self.source} was trained on another head than {head.source}: use that head (--head), or pretrain "
                "on this one"
            )


def head_digest(head: HeadModel) -> str:
    """16 hexadecimal digits that change with the head's mesh, expressions or skinning."""
    found = hashlib.sha256()
    for name in ("v_template", "faces", "expression_basis", "weights"):
        found.update(np.ascontiguousarray(getattr(head, name)).tobytes())
    return found.hexdigest()[:16]


def open_head(name: str | Path, expressions: int | None = None) -> HeadModel:
    """`anny`, a head of ours (`.npz`) or FLAME's pickle, which is read without executing it.

    `expressions` are as many as the motion network moves: of FLAME's 100 the first of them are kept (50 if None). Where
    `FLAME_masks.pkl` lies beside FLAME's pickle, the head knows its mouth.

    Raises:
        CheckpointError: it cannot be read, or has fewer.
    """
    path = ANNY if str(name) == "anny" else Path(name)
    if path.suffix == ".npz":
        return HeadModel.load(path)
    head = with_masks(load_flame(path), path.with_name(MASKS))
    return head.with_expressions(min(_FLAME_EXPRESSIONS, head.expression_count) if expressions is None else expressions)


def read_networks(path: Path) -> Networks:
    """Encoder and motion network of anything that training writes: the demo's learned motion, a pretrained file (its
    EMA weights), or an avatar's checkpoint.

    Raises:
        CheckpointError: it is none of them, or is damaged.
    """
    content = load_tensors(path)
    form = content.get("format") if isinstance(content, dict) else None
    if form == AVATAR_FORMAT:
        avatar = load_checkpoint(path)
        if avatar.encoder is None:
            raise CheckpointError(f"{path} has no audio encoder: start from a checkpoint that has one")
        return Networks(avatar.encoder, avatar.motion, avatar.info.expression_names, "", str(path))
    if form == FORMAT:
        return networks_of(content, str(path))
    if isinstance(content, dict) and {"encoder", "config", "motion"} <= set(content):
        learned = load_learned(path)
        return Networks(learned.encoder, learned.motion, source=str(path))
    raise CheckpointError(f"{path} is no checkpoint to start from: give one of `emotag-train pretrain` or an avatar's")


def networks_of(content: dict[str, Any], source: str) -> Networks:
    """The networks in a training file's content, the motion network with its EMA weights. Raises CheckpointError."""
    try:
        encoder = StreamingWav2Vec2.from_config(
            content["encoder"]["config"], StreamingConfig(*content["encoder"]["streaming"])
        )
        restore(encoder, content["encoder"]["state"], "encoder", source)
        motion = GRMN(GRMNConfig.from_dict(content["motion"]["config"]))
        restore(motion, content["motion"]["ema"], "motion network", source)
        names = tuple(str(name) for name in content["head"]["expression_names"])
        return Networks(encoder.eval(), motion.eval(), names, str(content["head"]["digest"]), source)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{source} is damaged or incomplete ({error}): train it again") from error


def fresh_networks(encoder: StreamingWav2Vec2, head: HeadModel, network: str = "live", seed: int = 0) -> Networks:
    """An untrained motion network on an encoder: windows and smoothing of the live preset, or of the released one.

    Raises:
        CheckpointError: no such preset.
    """
    if network not in NETWORKS:
        raise CheckpointError(f"no network {network!r}; there are {', '.join(NETWORKS)}")
    config = GRMNConfig(hidden=encoder.hidden, expression=head.expression_count, steerable=True, conditions=CONDITIONS)
    if network == "live":
        config = replace(config, layers=2, smooth_past=0, smooth_future=0, positions=16)
    torch.manual_seed(seed)
    return Networks(encoder, GRMN(config), head.expression_names, head_digest(head), "the new network")


def with_mouth_head(networks: Networks, seed: int = 0) -> Networks:
    """The networks with an untrained mouth head (eq. 8) where the motion network has none."""
    motion = networks.motion
    if motion.config.mouth is not None:
        return networks
    torch.manual_seed(seed)
    grown = GRMN(replace(motion.config, mouth=MouthConfig()))
    grown.load_state_dict(grown.state_dict() | motion.state_dict())
    return replace(networks, motion=grown)


def plain_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's tensors on the CPU, detached from it."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
