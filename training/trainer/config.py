"""Everything that decides what is learned, as plain values that the checkpoint keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from ...runtime.errors import CheckpointError, ControlError
from ..grmn import GRMNConfig

__all__ = ["COMPONENTS", "WEIGHTS", "Kind", "TrainConfig", "ablate", "parse_without"]

Kind = Literal["pretrain", "adapt"]
WEIGHTS = ("released", "paper")

COMPONENTS = ("score", "kl", "seg", "gate", "residual", "adain")
"""What an ablation can leave out. `seg`, semantic emotion guidance, is `score` and `kl` together."""
_LEAST = {
    "steps": 0, "warmup": 0, "motion_steps": 0, "batch": 1, "crops": 1, "crop_frames": 4, "size": 16, "count": 1,
    "seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """One training run (spec §2). The defaults are pretraining's; `adaptation` gives those of the other mode.

    Steps are iterations of the optimiser. The run is `motion_steps` without pictures, then `steps` with them: the
    first `warmup` a person learn the appearance alone, on a still cloud; over the next `blend` of `steps` the still
    cloud turns into the driven one; then everything learns.
    """

    kind: Kind = "pretrain"
    steps: int = 20_000
    warmup: int = 500
    """frames a person"""
    blend: float = 0.1
    motion_steps: int = 0
    batch: int = 1
    """frames a step and process"""
    crops: int = 8
    crop_frames: int = 32
    """a step of the motion alone sees `crops` pieces of so many frames"""
    seconds: float | None = None
    """of every clip that are used; None: all"""
    size: int = 512
    """pixels; pictures are scaled to it"""
    half_size: float = 0.0
    """share of `steps` that runs at half of `size`"""
    count: int = 60_000
    """Gaussians a person"""
    seed: int = 0
    rate: float = 5e-5
    """of the networks"""
    grid_rate: float = 5e-3
    """of the mouth's tri-plane grid"""
    motion_rate: float = 5e-4
    """of the networks in `motion_steps`"""
    decay: float = 0.1
    """factor on the rates at the end; on the way decay^(i/N)"""
    ema: float = 0.995
    still: Literal["canonical", "tracked"] = "canonical"
    """what the warm-up draws: the cloud without expression and jaw, or with those that were tracked"""
    all_motion: bool = True
    """whether the whole motion network trains, or its AdaIN parameters alone"""
    geometry: bool = False
    """depth and normal losses, for frames that have maps"""
    densify: bool = True
    weights: Literal["released", "paper"] = "released"
    """of the losses, see `losses.LossWeights`"""
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ControlError(f"{name.replace('_', '-')} is {getattr(self, name)}; give {least} or more")
        for name in ("rate", "grid_rate", "motion_rate", "decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ControlError(f"{name.replace('_', '-')} is {getattr(self, name)}; give more than 0, at most 1")
        if not 0 <= self.ema < 1:
            raise ControlError(f"ema is {self.ema}; give 0 (off) or more, below 1")
        for name in ("blend", "half_size"):
            if not 0 <= getattr(self, name) <= 1:
                raise ControlError(f"{name.replace('_', '-')} is {getattr(self, name)}; give a share, 0 to 1")
        if self.seconds is not None and not 0.2 <= self.seconds <= 3600:
            raise ControlError(f"seconds is {self.seconds}; give 0.2 to 3600")
        if self.weights not in WEIGHTS:
            raise ControlError(f"no weights {self.weights!r}; there are {', '.join(WEIGHTS)}")
        unknown = sorted(set(self.without) - set(COMPONENTS))
        if unknown:
            raise ControlError(f"no component {', '.join(unknown)}; there are {', '.join(COMPONENTS)}")
        if self.steps + self.motion_steps == 0:
            raise ControlError("nothing to do: steps and motion-steps are both 0")

    @staticmethod
    def adaptation() -> TrainConfig:
        """Few seconds of one person: only AdaIN and the Gaussians learn, depth and normals help."""
        return TrainConfig(
            kind="adapt", steps=4500, warmup=1000, seconds=5.0, half_size=0.35, rate=5e-4, still="tracked",
            all_motion=False, geometry=True,
        )  # fmt: skip

    def lacks(self, component: str) -> bool:
        """Whether an ablation leaves this component out; `seg` leaves out `score` and `kl`."""
        return component in self.without or ("seg" in self.without and component in ("score", "kl"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint stores them."""
        return asdict(self) | {"without": list(self.without)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> TrainConfig:
        """Inverse of `to_dict`. Raises CheckpointError for a field that this version does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(TrainConfig)})
        if unknown:
            raise CheckpointError(f"the training options {unknown} are unknown: a newer emotag wrote them; update it")
        return TrainConfig(**values | {"without": tuple(values.get("without", ()))})


def parse_without(text: str) -> tuple[str, ...]:
    """`gate,residual` as components, in the order of `COMPONENTS`. Raises ControlError for others."""
    names = {name.strip().lower() for name in text.split(",") if name.strip()}
    unknown = sorted(names - set(COMPONENTS))
    if unknown:
        raise ControlError(f"--without {', '.join(unknown)}: no such component; there are {', '.join(COMPONENTS)}")
    return tuple(name for name in COMPONENTS if name in names)


def ablate(config: GRMNConfig, without: Iterable[str]) -> GRMNConfig:
    """The network's configuration without those components that are its own; what was off before stays off."""
    off = {name: False for name in ("gate", "residual", "adain") if name in set(without)}
    return replace(config, **off)  # type: ignore[arg-type]
