"""The cameras of a released scene: `transforms.json` to world-to-camera matrices and pixels (spec §3)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plugins.constants import MAX_SIDE
from ..runtime.errors import CheckpointError
from .safe_pickle import read_bytes

__all__ = ["Camera", "ReleasedCameras", "camera_pose", "focal_length", "load_cameras", "picture_size"]

Doubles = NDArray[np.float64]

TRANSLATION = 2.4  # the released loader divides a camera's translation by this
_CURE = "make it again with the authors' preprocessing."


@dataclass(frozen=True, eq=False)
class Camera:
    """One frame of `transforms.json`."""

    row: int  # timestep_index
    view: Doubles  # [4, 4] world to camera, OpenCV axes
    intrinsics: Doubles  # [4] fx, fy, cx, cy in pixels, the principal point at the centre


@dataclass(frozen=True, eq=False)
class ReleasedCameras:
    """The first camera of every timestep, in the order of time."""

    cameras: tuple[Camera, ...]
    width: int  # pixels
    height: int
    notes: tuple[str, ...]

    @property
    def first(self) -> int:
        """Row of the first frame."""
        return self.cameras[0].row

    @property
    def rows(self) -> int:
        """Rows that every other file must have."""
        return self.cameras[-1].row + 1

    def per_row(self, count: int) -> tuple[Doubles, Doubles]:
        """Views [count, 4, 4] and intrinsics [count, 4]; a row without a camera takes the one before it."""
        rows = np.array([camera.row for camera in self.cameras])
        pick = np.maximum(np.searchsorted(rows, np.arange(count), side="right") - 1, 0)
        views = np.stack([camera.view for camera in self.cameras])[pick]
        return views, np.stack([camera.intrinsics for camera in self.cameras])[pick]


def load_cameras(path: str | Path, model_center: Doubles) -> ReleasedCameras:
    """Read `transforms.json`. `model_center`: [3], metres.

    A matrix is camera-to-world with OpenGL axes: columns 1 and 2 change sign, the translation is divided by 2.4 and
    `model_center` is added.

    Raises:
        CheckpointError: not JSON, without frames, or a field is missing or is not what it should be.
    """
    try:
        content = json.loads(read_bytes(path))
        frames = content["frames"]
        if not isinstance(frames, list) or not frames:
            raise ValueError("it has no frames")
        width, height = picture_size(content, frames[0])
        found = [_camera(content, frame, model_center, (width, height)) for frame in frames]
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing; {_CURE}") from error
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a transforms.json ({error}); {_CURE}") from error
    by_row: dict[int, Camera] = {}
    for camera in found:
        by_row.setdefault(camera.row, camera)
    cameras = tuple(by_row[row] for row in sorted(by_row))
    return ReleasedCameras(cameras, width, height, _notes(content, found, cameras, width, height))


def _camera(top: dict[str, Any], frame: dict[str, Any], center: Doubles, size: tuple[int, int]) -> Camera:
    row = frame["timestep_index"]
    if not isinstance(row, int) or row < 0:
        raise ValueError(f"timestep_index {row!r} is not a row")
    if picture_size(top, frame) != size:
        raise ValueError(f"frame {row} has another picture size than the first")
    pose = camera_pose(frame)
    pose[:3, 3] = pose[:3, 3] / TRANSLATION + center
    width, height = size
    focal = (focal_length(top, frame, "x", width), focal_length(top, frame, "y", height))
    return Camera(row, np.linalg.inv(pose).astype(np.float64), np.array([*focal, width / 2, height / 2]))


def camera_pose(frame: dict[str, Any]) -> Doubles:
    """Camera-to-world [4, 4] with OpenCV axes (x right, y down, z forward) of a frame, whose own axes are OpenGL's.

    Raises:
        KeyError: it has no `transform_matrix`.
        ValueError: that is not a rotation and a translation of finite numbers.
    """
    pose = np.array(frame["transform_matrix"], dtype=np.float64)
    where = f"the transform_matrix of frame {frame.get('timestep_index')}"
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise ValueError(f"{where} is not a 4×4 of finite numbers that ends in 0 0 0 1")
    axes = pose[:3, :3]
    if np.abs(axes @ axes.T - np.eye(3)).max() > 1e-3 or np.linalg.det(axes) < 0:
        raise ValueError(f"{where} does not hold a rotation")
    pose[:3, 1:3] *= -1
    return pose


def focal_length(top: dict[str, Any], frame: dict[str, Any], axis: str, pixels: int) -> float:
    """Focal length in pixels, from fl_x (fl_y) or else from the field of view. KeyError, ValueError as above."""
    length = frame.get(f"fl_{axis}", top.get(f"fl_{axis}"))
    if length is None:
        angle = frame.get(f"camera_angle_{axis}", top.get(f"camera_angle_{axis}"))
        if angle is None:
            raise KeyError(f"fl_{axis}")
        length = pixels / (2 * math.tan(float(angle) / 2))
    focal = float(length)
    if not 0 < focal < math.inf:
        raise ValueError(f"fl_{axis} = {length!r} is not a focal length in pixels")
    return focal


def picture_size(top: dict[str, Any], frame: dict[str, Any]) -> tuple[int, int]:
    """Width and height in pixels. KeyError, ValueError as above."""
    size = [frame[name] if name in frame else top[name] for name in ("w", "h")]
    for name, value in zip("wh", size, strict=True):
        if value != int(value) or not 0 < value <= MAX_SIDE:
            raise ValueError(f"{name} = {value!r} is not a picture size of 1 to {MAX_SIDE} pixels")
    return int(size[0]), int(size[1])


def _notes(
    top: dict[str, Any], found: list[Camera], cameras: tuple[Camera, ...], width: int, height: int
) -> tuple[str, ...]:
    notes = []
    if len(found) > len(cameras):
        notes.append("transforms.json: several cameras a timestep; the first of each is used")
    missing = cameras[-1].row + 1 - len(cameras)
    if missing:
        notes.append(f"transforms.json: {missing} timesteps have no camera; they keep the one before")
    if (top.get("cx", width / 2), top.get("cy", height / 2)) != (width / 2, height / 2):
        notes.append(
            "transforms.json: cx, cy are ignored, the released renderer puts the principal point at the centre"
        )
    return tuple(notes)
