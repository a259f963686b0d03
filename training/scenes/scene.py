"""A processed clip of one person, whatever layout it lies in: the one representation that training and metrics use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...plugins.camera import Camera
from ...runtime.errors import CheckpointError
from ...runtime.manifest import FRAME_RATE
from ..released_audio import SIDE, WINDOW
from ..released_tracking import TrackedHead
from . import pictures
from .pictures import PictureCache
from .tokens import Tokens

__all__ = ["HeadSizes", "Picture", "Scene", "SceneFrame", "Split"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HeadSizes:
    """The edition of the head that a clip was tracked with. Sizes vary: they are read, not assumed."""

    shape: int
    expression: int
    vertices: int | None  # of the scene's mesh or static_offset; None where there is neither


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a clip: where it lies, the camera that took it, and what else there is of it."""

    row: int  # timestep: the row of every per-frame array
    camera_index: int
    camera: Camera
    path: Path
    mask_path: Path | None = None
    depth_path: Path | None = None
    normal_path: Path | None = None
    landmark_path: Path | None = None
    parsed_mask: bool = False  # whether `mask_path` is a parsing picture, not a coverage

    def rgb(self, cache: PictureCache | None = None) -> NDArray[np.uint8]:
        """RGB [H, W, 3], decoded now or taken from `cache`.

        Raises:
            CheckpointError: missing, not a picture, or of another size than its camera says.
        """
        value = pictures.read_rgb(self.path) if cache is None else cache.read(self.path)
        self._check_size(value, self.path)
        return value

    def mask(self) -> Floats:
        """Coverage of the head [H, W], 0…1. Raises CheckpointError, also if there is none."""
        path = self._there(self.mask_path, "mask")
        value = pictures.read_parsing(path) if self.parsed_mask else pictures.read_mask(path)
        self._check_size(value, path)
        return value

    def depth(self) -> Floats:
        """Depth [H, W] in its teacher's unit. Raises CheckpointError, also if there is none."""
        path = self._there(self.depth_path, "depth map")
        value = pictures.read_depth(path)
        self._check_size(value, path)
        return value

    def normal(self) -> Floats:
        """Normals [H, W, 3]. Raises CheckpointError, also if there are none."""
        path = self._there(self.normal_path, "normal map")
        value = pictures.read_normal(path)
        self._check_size(value, path)
        return value

    def landmarks(self) -> Floats:
        """68 landmarks [68, 2] in pixels. Raises CheckpointError, also if there are none."""
        return pictures.read_landmarks(self._there(self.landmark_path, "landmark file"))

    def _there(self, path: Path | None, what: str) -> Path:
        if path is None:
            raise CheckpointError(f"{self.path}: has no {what}; `emotag-train check` says how to make it.")
        return path

    def _check_size(self, value: NDArray[Any], path: Path) -> None:
        height, width = value.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            raise CheckpointError(
                f"{path}: is {width}×{height}, transforms.json says {self.camera.width}×{self.camera.height}; make "
                "them again from one and the same clip."
            )


@dataclass(frozen=True)
class Split:
    """Which pictures are trained on and which are tested on, and who says so. Indices into `Scene.pictures`."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    source: str


@dataclass(frozen=True, eq=False)
class SceneFrame:
    """One picture with everything that belongs to its moment. Angles are axis-angle (rad), lengths metres."""

    picture: Picture
    shape: Floats  # [S]
    expression: Floats  # [E]
    rotation: Floats  # [3]
    neck: Floats  # [3]
    jaw: Floats  # [3]
    eyes: Floats  # [6]
    translation: Floats  # [3]
    aus: Floats | None  # [6], 0…5
    emotion: Floats | None  # [7] probabilities


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip of T frames at 25 a second and its pictures. Arrays that a scene has not are None."""

    folder: Path
    layout: str  # "released" or "vhap"
    pictures: tuple[Picture, ...]  # in the order of time, then of cameras
    head: TrackedHead  # of T frames
    sizes: HeadSizes
    split: Split
    aus: Floats | None = None  # [T, 6]
    emotion: Floats | None = None  # [T, 7]
    identity: Floats | None = None  # [512]
    sound: Path | None = None
    tokens: Tokens | None = None
    released_windows: Floats | None = None  # [T, 16, H] whole-file features, on the disk
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """T, the number of timesteps."""
        return len(self.head)

    @property
    def seconds(self) -> float:
        """The clip's length at 25 frames a second."""
        return self.rows / FRAME_RATE

    def frame(self, index: int) -> SceneFrame:
        """Everything of picture `index`, nothing decoded."""
        picture = self.pictures[index]
        row, head = picture.row, self.head
        return SceneFrame(
            picture=picture,
            shape=head.shape[row],
            expression=head.expression[row],
            rotation=head.rotation[row],
            neck=head.neck_pose[row],
            jaw=head.jaw_pose[row],
            eyes=head.eyes_pose[row],
            translation=head.translation[row],
            aus=None if self.aus is None else self.aus[row],
            emotion=None if self.emotion is None else self.emotion[row],
        )

    def windows(self, rows: NDArray[np.integer[Any]], past: int, future: int) -> Floats:
        """Audio windows [len(rows), past + future, H] in 20 ms tokens.

        From the tokens by D(c, r, L) if the scene has them, else from the released whole-file windows.

        Raises:
            CheckpointError: it has neither, or only released windows and others than 8 + 8 tokens are asked for.
        """
        if self.tokens is not None:
            return self.tokens.windows(rows, past, future)
        if self.released_windows is None:
            raise CheckpointError(
                f"{self.folder}: has no audio features; make them with "
                f"`emotag-train check {self.folder} --make-features --encoder NAME`."
            )
        if (past, future) != (SIDE, WINDOW - SIDE):
            raise CheckpointError(
                f"{self.folder}: aud_w2v.npy holds windows of {SIDE} + {WINDOW - SIDE} tokens, {past} + {future} are "
                f"needed; make tokens with `emotag-train check {self.folder} --make-features --encoder NAME`."
            )
        windows: Floats = np.asarray(self.released_windows[np.asarray(rows)], dtype=np.float32)
        return windows

    def first_seconds(self, seconds: float) -> tuple[int, ...]:
        """Indices of the training pictures of the first `seconds`: what few-shot adaptation may see."""
        last = round(seconds * FRAME_RATE)
        return tuple(index for index in self.split.train if self.pictures[index].row < last)
