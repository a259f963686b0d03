"""A checkpoint: everything that the training side knows about one avatar, in memory and as one `.pt` file.

The file holds plain values and tensors only, so that it loads with `weights_only=True` and cannot execute code.
A released checkpoint is read into the same `Checkpoint` by `released.load_released`.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.errors import CheckpointError, OutputError
from .emotional_residual import EmotionalResidual, ResidualConfig
from .grmn import GRMN, GRMNConfig
from .wav2vec2 import StreamingConfig, StreamingWav2Vec2

FORMAT = "emotag-checkpoint"
VERSION = 1

Arrays = dict[str, NDArray[Any]]

HEAD_ARRAYS = (
    "head.template",
    "head.faces",
    "head.expression_basis",
    "head.pose_basis",
    "head.joints",
    "head.joint_expression_basis",
    "head.weights",
    "head.parents",
)
GAUSSIAN_ARRAYS = tuple(f"gaussians.{name}" for name in ("face_index", "means", "quats", "scales", "opacities", "sh"))
CUE_ARRAYS: dict[str, tuple[int, ...]] = {  # by frame
    "aus": (6,),
    "emotion": (7,),
    "rotation": (3,),
    "neck": (3,),
    "eyes": (6,),
    "translation": (3,),
    "view": (4, 4),
    "intrinsics": (4,),
}


@dataclass
class AvatarInfo:
    """What a bundle's manifest says of the avatar, apart from sizes."""

    name: str = "avatar"
    width: int = 512
    height: int = 512
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    active_sh_degree: int = 0
    scale_activation: Literal["exp", "softplus"] = "exp"
    expression_names: tuple[str, ...] = ()
    licence: str = "unspecified"
    consent: str = "unspecified"
    notes: tuple[str, ...] = ()


@dataclass
class Checkpoint:
    """One avatar.

    `avatar` and `cues` hold the arrays that `docs/bundle.md` names for `avatar.safetensors` (head.*, gaussians.*,
    mouth.index) and `cues.safetensors`. `encoder` is None if a released checkpoint was read without one; it can then
    play its recorded features only. `identity` [512] is None where AdaIN is bypassed.
    """

    motion: GRMN
    encoder: StreamingWav2Vec2 | None
    identity: Tensor | None
    avatar: Arrays
    cues: Arrays
    info: AvatarInfo = field(default_factory=AvatarInfo)
    kind: Literal["emotag", "released", "synthetic"] = "emotag"
    source: str = ""
    appearance: EmotionalResidual | None = None
    """what emotions change of the Gaussians beside their motion; most avatars have none"""

    def validate(self) -> None:
        """Check that every array is there and that sizes agree.

        Raises:
            CheckpointError: names what is missing or disagrees.
        """
        check_arrays(self.avatar, HEAD_ARRAYS + GAUSSIAN_ARRAYS, self.source or "checkpoint")
        check_arrays(self.cues, tuple(CUE_ARRAYS), self.source or "checkpoint")
        self._check_cues()
        if self.appearance is not None:
            self._check_appearance(self.appearance.config)
        expressions = self.avatar["head.expression_basis"].shape[0]
        if expressions != self.motion.config.expression:
            raise CheckpointError(
                f"the motion network predicts {self.motion.config.expression} expressions, the head has {expressions}: "
                "use the head that the network was trained on"
            )
        if self.encoder is not None and self.encoder.hidden != self.motion.config.hidden:
            raise CheckpointError(
                f"the audio encoder gives {self.encoder.hidden} channels, the motion network reads "
                f"{self.motion.config.hidden}: use the encoder that the network was trained with"
            )
        if "mouth.index" in self.avatar and self.motion.config.mouth is None:
            raise CheckpointError("mouth Gaussians are listed, but the motion network has no mouth head")

    def _check_appearance(self, own: ResidualConfig) -> None:
        motion = self.motion.config
        found = (own.gaussians, own.expression, own.audio, own.classes)
        wanted = (len(self.avatar["gaussians.means"]), motion.expression, motion.width, len(motion.conditions))
        if found != wanted:
            raise CheckpointError(
                f"the emotional residual is one of {found} Gaussians, expressions, audio channels and classes, the "
                f"avatar has {wanted}: train it again with `emotag-train appearance`"
            )

    def _check_cues(self) -> None:
        source = self.source or "checkpoint"
        frames = len(self.cues["aus"]) if self.cues["aus"].ndim else 0
        if frames < 1:
            raise CheckpointError(f"{source}: the cue track is empty: record at least one frame")
        for name, shape in CUE_ARRAYS.items():
            found = self.cues[name].shape
            if found != (frames, *shape):
                raise CheckpointError(
                    f"{source}: cue {name} has shape {found} instead of {(frames, *shape)}: make the track again"
                )

    def save(self, path: str | os.PathLike[str], training: dict[str, Any] | None = None) -> None:
        """Write one `.pt` file, atomically.

        `training` is what a training run needs to go on from this file; who only reads the avatar passes over it.

        Raises:
            CheckpointError: the checkpoint is a released one, or has no encoder.
            OutputError: the file cannot be written.
        """
        if self.encoder is None or self.kind == "released":
            raise CheckpointError("a checkpoint without an encoder, or a released one, is exported and not saved again")
        self.validate()
        streaming = self.encoder.streaming
        content = {
            "format": FORMAT,
            "version": VERSION,
            "info": vars(self.info),
            "encoder": {
                "config": self.encoder.model.config.to_dict(),
                "streaming": [streaming.chunk, streaming.lookahead, streaming.context],
                "state": _state(self.encoder),
            },
            "motion": {"config": self.motion.config.to_dict(), "state": _state(self.motion)},
            "identity": self.identity,
            "avatar": _tensors(self.avatar),
            "cues": _tensors(self.cues),
        }
        if self.appearance is not None:
            content["appearance"] = {"config": self.appearance.config.to_dict(), "state": _state(self.appearance)}
        if training is not None:
            content["training"] = training
        write_atomically(Path(path), content)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of our own training side. Nothing in it can execute.

    Raises:
        CheckpointError: it is missing, is not a checkpoint, is of a newer version, or its parts disagree.
    """
    content = load_tensors(Path(path))
    if isinstance(content, dict) and content.get("format") == "emotag-training":
        raise CheckpointError(
            f"{path} holds a motion network for many people, not an avatar: adapt it to one with "
            f"`emotag-train adapt {path} SCENE -o avatar.pt`"
        )
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of emotag.training: for one of the released implementation give --scene and "
            "--flame"
        )
    version = content.get("version")
    if version != VERSION:
        raise CheckpointError(f"{path} has version {version}, this emotag reads {VERSION}: update emotag")
    try:
        checkpoint = _build(content, str(path))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"{path} is damaged or incomplete ({error}): train or download it again") from error
    checkpoint.validate()
    return checkpoint


def _build(content: dict[str, Any], source: str) -> Checkpoint:
    encoder = StreamingWav2Vec2.from_config(
        content["encoder"]["config"], StreamingConfig(*content["encoder"]["streaming"])
    )
    restore(encoder, content["encoder"]["state"], "encoder", source)
    motion = GRMN(GRMNConfig.from_dict(content["motion"]["config"]))
    restore(motion, content["motion"]["state"], "motion network", source)
    appearance = None
    if "appearance" in content:
        appearance = EmotionalResidual(ResidualConfig.from_dict(content["appearance"]["config"])).eval()
        restore(appearance, content["appearance"]["state"], "emotional residual", source)
    info = dict(content["info"])
    for name in ("background", "expression_names", "notes"):
        info[name] = tuple(info[name])
    return Checkpoint(
        motion=motion.eval(),
        encoder=encoder.eval(),
        identity=None if content["identity"] is None else content["identity"].float(),
        avatar=_arrays(content["avatar"]),
        cues=_arrays(content["cues"]),
        info=AvatarInfo(**info),
        source=source,
        appearance=appearance,
    )


def load_tensors(path: Path) -> Any:
    """`torch.load` with `weights_only=True` and errors that say what to do."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist or is not a file: check the path")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, so it is not loaded (it could run code): convert it "
            "with the tool that wrote it"
        ) from error
    except Exception as error:  # a broken file can raise nearly every exception there is
        raise CheckpointError(f"{path} is not a checkpoint, or it is truncated: copy or train it again") from error


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be made at `path`; nothing stays behind."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file, such as {path / 'avatar.pt'}")
    probe = path.with_name(f".{path.name}.writable")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"?")
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}): choose a folder that you may write to") from error


def write_atomically(path: Path, content: object) -> None:
    """`torch.save` to a temporary name beside `path`, then rename."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}): choose a folder that you may write to") from error
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
        os.replace(name, path)
    except (OSError, RuntimeError) as error:  # a full disk may reach us through the archive writer as RuntimeError
        what = error.strerror if isinstance(error, OSError) else "it broke off, as on a full disk"
        raise OutputError(f"cannot write {path} ({what}): free some space or choose another place") from error
    finally:
        if os.path.exists(name):
            os.unlink(name)


def restore(module: nn.Module, state: dict[str, Tensor], what: str, source: str) -> None:
    """`load_state_dict(strict=True)`, naming every missing, unexpected or mis-shaped tensor.

    Raises:
        CheckpointError: any key or shape disagrees.
    """
    wanted = module.state_dict()
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(state))
        if state[name].shape != wanted[name].shape
    ]
    problems = [
        f"{label}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source}: the {what}'s tensors do not fit ({'; '.join(problems)}): use a complete checkpoint of this "
            "network, with the configuration it was trained with"
        )
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    module.load_state_dict(floats, strict=True)


def check_arrays(arrays: Arrays, names: tuple[str, ...], source: str) -> None:
    """Raise CheckpointError unless all `names` are there and every float is finite."""
    missing = [name for name in names if name not in arrays]
    if missing:
        raise CheckpointError(f"{source} lacks {', '.join(missing)}: train or export it again")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CheckpointError(f"{source}: {name} holds values that are not finite: use an earlier checkpoint")


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: _compact(tensor.detach().cpu().clone()) for name, tensor in module.state_dict().items()}


def _compact(tensor: Tensor) -> Tensor:
    """In half precision where that loses nothing: weights that were rounded to it take half the room (`restore`)."""
    half = tensor.half() if tensor.dtype == torch.float32 else tensor
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _arrays(tensors: dict[str, Tensor]) -> Arrays:
    """Half-precision storage becomes float32; everything else stays."""
    return {
        name: (tensor.float() if tensor.dtype == torch.float16 else tensor).numpy() for name, tensor in tensors.items()
    }
