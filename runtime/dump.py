"""Writes what a clip is made of, array by array, for comparison with another implementation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plugins import Bound, MouthOffsets, apply_mouth, bind, mouth_offsets, rasterize, skin
from .avatar import Avatar
from .errors import ControlError, OutputError
from .frame import Frame
from .motion import MOTION_NAMES
from .output import check_output, partial_name

_WHITE = (1.0, 1.0, 1.0)


class Dump:
    """Collects the motion of every frame, and geometry and picture of a few.

    The arrays of `save`, N frames, R of them drawn, V vertices, G Gaussians, M of them the mouth's: those of `Motion`
    [N, …]; `render_frames` [R]; `vertices` [R, V, 3], `position`, `rotation`, `scale` [R, G, 3 or 4] (mouth applied),
    `d_mu`, `d_rot`, `d_scale` [R, M, 3 or 4], `mouth_point_indices` [M]; `render_rgb` [R, H, W, 3] on white and
    `render_alpha` [R, H, W], neither clamped nor quantised. Lengths are metres, quaternions wxyz.
    """

    def __init__(self, avatar: Avatar, frames: Iterable[int] | None = None) -> None:
        """frames: those that are drawn; the first, middle and last of the clip by default. Raises ControlError."""
        count = len(avatar.model.cues.cues)
        chosen = (0, count // 2, count - 1) if frames is None else tuple(frames)
        outside = [frame for frame in chosen if not 0 <= frame < count]
        if outside:
            raise ControlError(f"frame {outside[0]} is not in the clip: choose from 0 to {count - 1}")
        self.frames = tuple(sorted(set(chosen)))
        self._avatar = avatar
        self._motion: dict[str, list[NDArray[Any]]] = {name: [] for name in MOTION_NAMES}
        self._drawn: dict[str, list[NDArray[Any]]] = {}

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Hands frames on, collecting them."""
        for frame in frames:
            for name, values in self._motion.items():
                values.append(getattr(frame.motion, name))
            if frame.index in self.frames:
                for name, array in self._draw(frame).items():
                    self._drawn.setdefault(name, []).append(array)
            yield frame

    def save(self, path: Path) -> None:
        """Writes the .npz. Raises OutputError, and nothing is left behind."""
        check_output(path, ".npz")
        partial = partial_name(path)
        mouth = self._avatar.model.scene.mouth
        index = np.zeros(0, np.int64) if mouth is None else mouth.index.astype(np.int64)
        arrays: dict[str, Any] = {name: np.stack(values) for name, values in (self._motion | self._drawn).items()}
        arrays |= {"render_frames": np.array(self.frames), "mouth_point_indices": index}
        try:
            with partial.open("wb") as file:
                np.savez(file, **arrays)
            partial.replace(path)
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror}): choose another place") from None
        finally:
            partial.unlink(missing_ok=True)

    def _draw(self, frame: Frame) -> dict[str, NDArray[Any]]:
        """The steps of this frame one by one, by the kernels that `Renderer` fuses."""
        model, scene = self._avatar.model, self._avatar.model.scene
        row, pose = model.cues.at(frame.index), np.zeros((5, 3), np.float32)
        model.cues.pose(row, frame.jaw, pose)
        vertices = skin(scene.head, frame.expression, pose, model.cues.cues.translation[row])
        bound = bind(vertices, scene.head.faces, scene.gaussians)
        offsets = MouthOffsets(*(np.zeros((0, size), np.float32) for size in (3, 4, 3)))
        if scene.mouth is not None:
            offsets = mouth_offsets(bound.means[scene.mouth.index], frame.motion.encoded_audio, scene.mouth)
            bound = apply_mouth(bound, scene.mouth, offsets)
        rgb, alpha = self._picture(bound, frame.index)
        return {
            "vertices": vertices,
            "position": bound.means,
            "rotation": bound.quats,
            "scale": bound.scales,
            **offsets._asdict(),
            "render_rgb": rgb,
            "render_alpha": alpha,
        }

    def _picture(self, bound: Bound, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        gaussians = self._avatar.model.scene.gaussians
        return rasterize(
            bound,
            gaussians.activated_opacities(),
            gaussians.sh,
            gaussians.active_sh_degree,
            self._avatar.camera_at(index),
            background=_WHITE,
            threads=self._avatar.model.threads,
        )
