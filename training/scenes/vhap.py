"""A VHAP or GaussianAvatars dataset (spec §4) as a `Scene`: several cameras a timestep, one `.npz` a timestep."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...plugins.camera import Camera
from ...plugins.errors import ControlError
from ...runtime.errors import CheckpointError
from ...runtime.manifest import EMOTIONS
from ..released_cameras import camera_pose, focal_length, picture_size
from ..released_scene import emotion_probabilities, load_identity
from ..released_tracking import TrackedHead
from .listing import Listing, camera_index, scene_listing, split_of
from .released import action_units, existing, optional_array
from .scene import HeadSizes, Picture, Scene
from .sound import find_sound
from .tokens import TOKENS, load_tokens

__all__ = ["load_vhap_scene", "load_vhap_tracking", "vhap_pictures"]

Floats = NDArray[np.float32]

_NAMES = {  # ours: VHAP's, and how many numbers it holds
    "shape": ("shape", None),
    "expression": ("expr", None),
    "rotation": ("rotation", 3),
    "neck_pose": ("neck_pose", 3),
    "jaw_pose": ("jaw_pose", 3),
    "eyes_pose": ("eyes_pose", 6),
    "translation": ("translation", 3),
}
_LARGEST = 1 << 24  # bytes that one timestep may unpack to: static_offset of 5143 vertices has 62 KB


def load_vhap_scene(folder: Path) -> Scene:
    """Read a dataset. AUs, emotion, identity and audio lie beside `transforms.json`, as in a released scene.

    Raises:
        CheckpointError: no pictures, cameras or tracking, or a file is broken or has other frames than the rest.
    """
    listing = scene_listing(folder)
    pictures = vhap_pictures(listing)
    head = load_vhap_tracking(listing)
    rows, notes = len(head), list[str]()
    emotion = optional_array(folder / "emotion_features.npy", (None, len(EMOTIONS)), rows)
    if emotion is not None:
        emotion = emotion_probabilities(emotion, folder / "emotion_features.npy", notes)
    if not head.one_identity:
        notes.append("the shape changes over the clip; the first frame's is used")
    vertices = None if head.static_offset is None else len(head.static_offset)
    return Scene(
        folder=folder,
        layout="vhap",
        pictures=pictures,
        head=head,
        sizes=HeadSizes(head.shape.shape[1], head.expression.shape[1], vertices),
        split=split_of(folder, pictures),
        aus=action_units(folder, rows),
        emotion=emotion,
        identity=load_identity(folder / "identity_feature.npy"),
        sound=find_sound(folder),
        tokens=load_tokens(folder) if (folder / TOKENS).is_file() else None,
        notes=tuple(notes),
    )


def vhap_pictures(listing: Listing) -> tuple[Picture, ...]:
    """Every picture, in the order of time, then of cameras. Raises CheckpointError."""
    made: dict[tuple[int, int], Picture] = {}
    for frame in listing.frames:
        key = (frame["timestep_index"], camera_index(frame))
        if key in made:
            raise CheckpointError(
                f"{listing.path}: timestep {key[0]} of camera {key[1]} is there twice; export it again."
            )
        path = listing.file(frame, "file_path")
        if path is None:
            raise CheckpointError(f"{listing.path}: timestep {key[0]} names no file_path; export it again.")
        mask = listing.file(frame, "fg_mask_path")
        made[key] = Picture(
            row=key[0],
            camera_index=key[1],
            camera=_camera(listing, frame),
            path=path,
            mask_path=None if mask is None else existing(mask),
            depth_path=_map_beside(listing, path, "depth"),
            normal_path=_map_beside(listing, path, "normal"),
            landmark_path=existing(listing.path.parent / "landmarks" / f"{path.stem}.lms"),
        )
    return tuple(made[key] for key in sorted(made))


def _map_beside(listing: Listing, picture: Path, kind: str) -> Path | None:
    return existing(listing.path.parent / kind / f"{picture.stem}.npy")


def _camera(listing: Listing, frame: dict[str, Any]) -> Camera:
    try:
        width, height = picture_size(listing.top, frame)
        focal = [focal_length(listing.top, frame, axis, size) for axis, size in (("x", width), ("y", height))]
        middle = [
            float(frame.get(name, listing.top.get(name, size / 2))) for name, size in (("cx", width), ("cy", height))
        ]
        view = np.linalg.inv(camera_pose(frame)).astype(np.float64)
        return Camera(view, focal[0], focal[1], middle[0], middle[1], width, height)
    except KeyError as error:
        raise CheckpointError(f"{listing.path}: {error} is missing; export it again.") from error
    except (ValueError, TypeError, OverflowError, ControlError) as error:
        raise CheckpointError(f"{listing.path}: {error}; export it again.") from error


def load_vhap_tracking(listing: Listing) -> TrackedHead:
    """The parameters of every timestep, from the files that the frames name. Of static_offset only the first is kept.

    Raises:
        CheckpointError: a timestep has no file, or it lacks a parameter or holds another size of it.
    """
    files: dict[int, Path] = {}
    for frame in listing.frames:
        path = listing.file(frame, "flame_param_path")
        if path is not None:
            files.setdefault(frame["timestep_index"], path)
    missing = next((row for row in range(listing.rows) if row not in files), None)
    if missing is not None:
        raise CheckpointError(
            f"{listing.path}: timestep {missing} has no flame_param_path; track and export every frame of the clip."
        )
    columns: dict[str, list[Floats]] = {name: [] for name in _NAMES}
    offset: Floats | None = None
    for row in range(listing.rows):
        entry = _read(files[row], with_offset=row == 0)
        for name, (theirs, size) in _NAMES.items():
            wanted = size if size is not None else (len(columns[name][0]) if columns[name] else None)
            columns[name].append(_parameter(entry, theirs, wanted, files[row]))
        if row == 0 and "static_offset" in entry:
            offset = _parameter(entry, "static_offset", None, files[row])
    if offset is not None and offset.size % 3:
        raise CheckpointError(f"{files[0]}: static_offset does not hold vertices; track the clip again.")
    head = {name: np.stack(column) for name, column in columns.items()}
    return TrackedHead(static_offset=None if offset is None else offset.reshape(-1, 3), **head)


def _read(path: Path, with_offset: bool) -> dict[str, NDArray[Any]]:
    wanted = {theirs for theirs, _ in _NAMES.values()} | ({"static_offset"} if with_offset else set())
    try:
        with zipfile.ZipFile(path) as members:
            if sum(member.file_size for member in members.infolist()) > _LARGEST:
                raise ValueError(f"it unpacks to more than {_LARGEST} bytes")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in wanted}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; track and export every frame of the clip.") from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CheckpointError(f"{path}: not a readable set of FLAME parameters ({error}); export it again.") from error


def _parameter(entry: dict[str, NDArray[Any]], name: str, size: int | None, path: Path) -> Floats:
    value = entry.get(name)
    if value is None:
        raise CheckpointError(f"{path}: has no {name}; track the clip again.")
    if value.dtype.kind not in "fiu" or value.size == 0 or (size is not None and value.size != size):
        raise CheckpointError(
            f"{path}: {name} has the shape {value.shape}, it should hold {size or 'some'} numbers; track it again."
        )
    flat: Floats = value.reshape(-1).astype(np.float32)
    if not np.isfinite(flat).all():
        raise CheckpointError(f"{path}: {name} is not finite; track the clip again.")
    return flat
