"""An avatar's checkpoint as a prediction of a scene: driven by its sound and cues, drawn by its cameras.

This is how the paper judges: the scene gives sound, action units, head pose and camera; expression and jaw, the mouth
and every picture are the avatar's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import plugins
from ...runtime.manifest import FRAME_RATE
from ..checkpoint import Checkpoint, load_checkpoint
from ..render import GaussianParameters, HeadTensors, Motion, Mouth, render
from ..scenes import Scene
from ..subject_frames import Frames
from ..trainer.hearing import encoder_digest, tokens_of
from ..trainer.track import Track
from .clips import Clip
from .errors import MetricError

__all__ = ["driven_clip"]

_CACHE = 64 << 20
_GAUSSIANS = ("face_index", "means", "quats", "scales", "opacities", "sh")


@torch.no_grad()
def driven_clip(path: Path, scene: Scene, cache: Path | None = None) -> Clip:
    """What the avatar shows in every frame of the scene; pictures are drawn when they are read.

    Pictures stand before the scene's own wall where that is still and masks tell it, else before white.

    Args:
        path: an avatar's `.pt`.
        scene: with sound and action units, tracked with the avatar's head.
        cache: folder of audio tokens; None: the scene's own.

    Raises:
        MetricError: the avatar has no audio encoder, or an emotional residual, which the runtime alone draws.
        CheckpointError, TrainingError: avatar or scene cannot be read, or do not belong together.
    """
    avatar = load_checkpoint(path)
    if avatar.encoder is None:
        raise MetricError(f"{path}: has no audio encoder, so it cannot hear the scene; judge what emotag-render writes")
    if avatar.appearance is not None:
        raise MetricError(f"{path}: has an emotional residual, which only emotag-render draws; judge what that writes")
    tokens = tokens_of(scene, avatar.encoder, encoder_digest(avatar.encoder), cache)
    track = Track(scene, tokens, avatar.motion, scene.rows, torch.zeros(3), torch.device("cpu"))
    track.identity = avatar.identity
    said = track.predict(avatar.motion, slice(0, scene.rows))
    drawer = _Drawer(avatar, scene, said.expression, said.jaw, said.encoded_audio)
    tracks = {
        "expression": said.expression.numpy(), "jaw": said.jaw.numpy(), "gate": said.gate.numpy(),
        "emotion_logits": said.emotion_logits.numpy(), "rotation": scene.head.rotation,
        "translation": scene.head.translation,
    }  # fmt: skip
    return Clip(path.name, FRAME_RATE, tracks, tuple(sorted(drawer.shots)), drawer.picture, sound=scene.sound)


class _Drawer:
    """Draws the avatar as the scene's first camera would see it."""

    def __init__(self, avatar: Checkpoint, scene: Scene, expression: Tensor, jaw: Tensor, heard: Tensor) -> None:
        first = min(picture.camera_index for picture in scene.pictures)
        self.shots = {p.row: index for index, p in enumerate(scene.pictures) if p.camera_index == first}
        self._scene, self._expression, self._jaw, self._heard = scene, expression, jaw, heard
        arrays = avatar.avatar
        head = {name.removeprefix("head."): value for name, value in arrays.items() if name.startswith("head.")}
        self._head = HeadTensors.of(plugins.Head(**head))
        gaussians = plugins.Gaussians(
            **{name: arrays[f"gaussians.{name}"] for name in _GAUSSIANS},
            active_sh_degree=avatar.info.active_sh_degree,
            scale_activation=avatar.info.scale_activation,
        )
        plain = GaussianParameters.of(gaussians)
        self._gaussians = replace(plain, **{name: getattr(plain, name).detach() for name in _GAUSSIANS})
        listed = arrays.get("mouth.index")
        self._index = None if listed is None else torch.from_numpy(np.asarray(listed)).long()
        self._mouth = None if self._index is None else avatar.motion.mouth()
        masked = all(scene.pictures[index].mask_path is not None for index in scene.split.train)
        self._frames = Frames(scene, scene.split.train, None, _CACHE) if masked else None

    @torch.no_grad()
    def picture(self, row: int) -> NDArray[np.uint8]:
        """RGB [H, W, 3] of frame `row`, truncated to 8 bits."""
        index = self.shots[row]
        frame, head = self._scene.frame(index), self._scene.head
        pose = np.stack([head.rotation[row], head.neck_pose[row], frame.jaw, *head.eyes_pose[row].reshape(2, 3)])
        turned = torch.from_numpy(pose.astype(np.float32))
        turned[2] = self._jaw[row]
        place = torch.from_numpy(np.array(head.translation[row], np.float32))
        moved = Motion(self._expression[row], turned, place, self._offsets(row))
        wall = None if self._frames is None else self._frames.wall(index)
        behind = torch.ones(3, 1, 1) if wall is None else wall
        drawn = render(self._head, self._gaussians, moved, frame.picture.camera, behind).rgb
        shown: NDArray[np.uint8] = (drawn.clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).numpy()
        return shown

    def _offsets(self, row: int) -> Mouth | None:
        """The mouth's Gaussians as they move in frame `row` (eq. 8)."""
        if self._index is None or self._mouth is None:
            return None
        mouth, heard = self._mouth, self._heard[row]
        return Mouth(self._index, lambda points: mouth(points, heard))
