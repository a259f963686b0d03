"""The released layout (spec §3) as a `Scene`.

Beside what a checkpoint's import needs, it holds pictures in `gt_imgs/`, the head's parsing in `parsing/`, landmarks in
`ori_imgs/*.lms`, and Sapiens' maps in `sapiens/depth/sapiens_*/` and `sapiens/normal/sapiens_*/`, each file named after
its timestep.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...plugins.camera import Camera
from ...plugins.errors import ControlError
from ...runtime.errors import CheckpointError
from ...runtime.manifest import EMOTIONS
from ..released_audio import WINDOW
from ..released_cameras import load_cameras
from ..released_scene import (
    SPARE_ROWS,
    emotion_probabilities,
    load_action_units,
    load_array,
    load_identity,
)
from ..released_tracking import TrackedHead, load_tracking
from .listing import TRANSFORMS, Listing, read_listing, split_of
from .scene import HeadSizes, Picture, Scene
from .sound import find_sound
from .tokens import TOKENS, load_tokens

__all__ = ["TRACKING", "load_released_scene", "per_row", "released_pictures"]

TRACKING = "flame_params.npz"
Floats = NDArray[np.float32]


def load_released_scene(folder: Path) -> Scene:
    """Read a released scene. Files that only some uses need may be missing; those that are there must fit.

    Raises:
        CheckpointError: no pictures, cameras or tracking, or a file is broken or has other frames than the rest.
    """
    pictures, notes = released_pictures(folder)
    head = load_tracking(folder / TRACKING)
    rows = _common_rows(folder, pictures, head)
    lists: list[str] = list(notes)
    emotion = optional_array(folder / "emotion_features.npy", (None, len(EMOTIONS)), rows)
    if emotion is not None:
        emotion = emotion_probabilities(emotion, folder / "emotion_features.npy", lists)
    return Scene(
        folder=folder,
        layout="released",
        pictures=pictures,
        head=head[:rows],
        sizes=HeadSizes(head.shape.shape[1], head.expression.shape[1], _vertices(folder, head)),
        split=split_of(folder, pictures),
        aus=action_units(folder, rows),
        emotion=emotion,
        identity=load_identity(folder / "identity_feature.npy"),
        sound=find_sound(folder),
        tokens=load_tokens(folder) if (folder / TOKENS).is_file() else None,
        released_windows=optional_array(folder / "aud_w2v.npy", (None, WINDOW, None), rows, mapped=True),
        notes=tuple(lists),
    )


def released_pictures(folder: Path) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """The first picture of every timestep, and what is odd about the list. Raises CheckpointError."""
    listing = read_listing(folder / TRANSFORMS)
    center = load_array(folder / "model_center.npy", (3,)).astype(np.float64)
    cameras = load_cameras(folder / TRANSFORMS, center)
    frames: dict[int, dict[str, Any]] = {}
    for frame in listing.frames:
        frames.setdefault(frame["timestep_index"], frame)
    depth, normal = (_sapiens(folder, kind) for kind in ("depth", "normal"))
    made = []
    for camera in cameras.cameras:
        parts = _beside(folder, listing, frames[camera.row], depth, normal)
        try:
            fx, fy, cx, cy = camera.intrinsics.tolist()
            view = Camera(camera.view, fx, fy, cx, cy, cameras.width, cameras.height)
        except ControlError as error:
            raise CheckpointError(f"{folder / TRANSFORMS}: frame {camera.row}: {error}; make it again.") from error
        made.append(Picture(row=camera.row, camera_index=0, camera=view, **parts))
    return tuple(made), cameras.notes


def _beside(
    folder: Path, listing: Listing, frame: dict[str, Any], depth: Path | None, normal: Path | None
) -> dict[str, Any]:
    """The files of one timestep, those that are there."""
    row = frame["timestep_index"]
    parsing, mask = folder / "parsing" / f"{row}.png", listing.file(frame, "fg_mask_path")
    masked = mask is not None and mask.is_file()
    return {
        "path": listing.file(frame, "file_path") or folder / "gt_imgs" / f"{row}.jpg",
        "mask_path": mask if masked else existing(parsing),
        "parsed_mask": not masked,
        "depth_path": None if depth is None else existing(depth / f"{row}.npy"),
        "normal_path": None if normal is None else existing(normal / f"{row}.npy"),
        "landmark_path": existing(folder / "ori_imgs" / f"{row}.lms"),
    }


def _sapiens(folder: Path, kind: str) -> Path | None:
    """The folder of one of Sapiens' maps; of several models' the last by name, as the authors' reader takes."""
    found = sorted(path for path in (folder / "sapiens" / kind).glob("sapiens_*") if path.is_dir())
    return found[-1] if found else None


def existing(path: Path) -> Path | None:
    """`path` if there is such a file."""
    return path if path.is_file() else None


def _common_rows(folder: Path, pictures: tuple[Picture, ...], head: TrackedHead) -> int:
    needed = pictures[-1].row + 1
    if needed > len(head) or len(head) > needed + SPARE_ROWS:
        raise CheckpointError(
            f"{folder}: {TRACKING} has {len(head)} frames, {TRANSFORMS} needs {needed}: make them again from one and "
            "the same clip."
        )
    return needed


def _vertices(folder: Path, head: TrackedHead) -> int | None:
    if head.static_offset is not None:
        return len(head.static_offset)
    path = folder / "vertices.npy"
    return len(load_array(path, (None, 3), mapped=True)) if path.is_file() else None


def optional_array(path: Path, shape: tuple[int | None, ...], rows: int, mapped: bool = False) -> Floats | None:
    """A per-frame array of `rows` rows, or None if there is no such file. Raises CheckpointError if it does not fit."""
    if not path.is_file():
        return None
    return per_row(load_array(path, shape, mapped=mapped), rows, path)


def per_row(values: NDArray[Any], rows: int, path: Path, spare: int = 0) -> Floats:
    """Cut to `rows`; up to `spare` missing rows repeat the last. Raises CheckpointError for other lengths."""
    if len(values) < rows - spare or len(values) > rows + SPARE_ROWS:
        raise CheckpointError(
            f"{path}: has {len(values)} rows, the clip {rows} frames: make both again from one and the same clip."
        )
    cut: Floats = values[:rows] if len(values) >= rows else values[np.minimum(np.arange(rows), len(values) - 1)]
    return cut


def action_units(folder: Path, rows: int) -> Floats | None:
    """The AUs [rows, 6] of OpenFace's CSV, whose last row may have to be repeated; None if there is none."""
    path = folder / "au_features.csv"
    return per_row(load_action_units(path), rows, path, spare=1) if path.is_file() else None
