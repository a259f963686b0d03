"""The scene folder beside a released checkpoint (spec §3): features, cues, cameras and tracked head, checked.

Row t of everything belongs to video frame t; `timestep_index` in `transforms.json` says which row a picture takes.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CheckpointError
from ..runtime.manifest import ACTION_UNITS, EMOTIONS
from .released_audio import WINDOW
from .released_cameras import load_cameras
from .released_tracking import TrackedHead, load_tracking

__all__ = [
    "IDENTITY",
    "SPARE_ROWS",
    "ReleasedScene",
    "emotion_probabilities",
    "load_action_units",
    "load_array",
    "load_identity",
    "load_scene",
]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

IDENTITY = 512
SPARE_ROWS = 2  # rows a file may have after the others' last: audio and video rarely end together


@dataclass(frozen=True, eq=False)
class ReleasedScene:
    """A scene's per-frame arrays, cut to the T frames that all of them have."""

    folder: Path
    windows: Floats  # [T, 16, H]
    aus: Floats  # [T, 6], 0…5
    emotion: Floats  # [T, 7] probabilities
    identity: Floats | None  # [512]; None bypasses AdaIN
    head: TrackedHead  # of T frames
    view: Doubles  # [T, 4, 4] world to camera, OpenCV axes
    intrinsics: Doubles  # [T, 4] fx, fy, cx, cy in pixels
    size: tuple[int, int]  # width, height in pixels
    first: int  # row of the first frame that has a camera
    notes: tuple[str, ...]


def load_scene(folder: str | Path) -> ReleasedScene:
    """Read the per-frame files of a scene folder.

    Raises:
        CheckpointError: a file is missing, is not what it should be, holds values that are not finite, or its length
            disagrees with the others'.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CheckpointError(f"{root}: no such folder; --scene takes the data folder the checkpoint was trained on.")
    center = load_array(root / "model_center.npy", (3,)).astype(np.float64)
    cameras = load_cameras(root / "transforms.json", center)
    windows = load_array(root / "aud_w2v.npy", (None, WINDOW, None))
    emotion = load_array(root / "emotion_features.npy", (None, len(EMOTIONS)))
    head = load_tracking(root / "flame_params.npz")
    aus = load_action_units(root / "au_features.csv")
    lengths = {"aud_w2v.npy": len(windows), "emotion_features.npy": len(emotion), "flame_params.npz": len(head)}
    rows = _common_rows(root, cameras.rows, lengths, len(aus))
    identity = load_identity(root / "identity_feature.npy")
    notes = [*cameras.notes, *_notes(head[:rows], identity)]
    view, intrinsics = cameras.per_row(rows)
    return ReleasedScene(
        folder=root,
        windows=windows[:rows].astype(np.float32),
        aus=aus[np.minimum(np.arange(rows), len(aus) - 1)],
        emotion=emotion_probabilities(emotion[:rows], root / "emotion_features.npy", notes),
        identity=identity,
        head=head[:rows],
        view=view,
        intrinsics=intrinsics,
        size=(cameras.width, cameras.height),
        first=cameras.first,
        notes=tuple(notes),
    )


def load_array(
    path: Path, shape: tuple[int | None, ...], mapped: bool = False, may_be_empty: bool = False
) -> NDArray[Any]:
    """One `.npy` of numbers, never a pickle. `shape`: what each axis must be, None for any size.

    `mapped`: leave it on the disk, read-only; its values are then not looked at.

    Raises:
        CheckpointError: missing, truncated, empty, holding objects, of another shape, or not finite.
    """
    try:
        value = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; copy it from the scene the checkpoint was trained on.") from error
    except Exception as error:  # numpy parses the header as Python: a damaged one can raise nearly anything
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: not a readable array ({reason}); copy or make it again.") from error
    wanted = "×".join("any" if size is None else str(size) for size in shape)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise CheckpointError(f"{path}: not one array of numbers; it should be {wanted}. Make it again.")
    fits = value.ndim == len(shape) and all(n in (None, m) for m, n in zip(value.shape, shape, strict=True))
    if not fits or (value.size == 0 and not may_be_empty):
        raise CheckpointError(f"{path}: has the shape {value.shape}, it should be {wanted}. Make it again.")
    if not mapped and not np.isfinite(value).all():
        raise CheckpointError(f"{path}: holds values that are not finite; make it again.")
    return value


def _common_rows(root: Path, needed: int, lengths: dict[str, int], aus: int) -> int:
    """How many frames all files have; a length that their ends do not explain is refused.

    The AUs may be one row short, because their last row repeats.
    """
    rows = min(lengths.values())
    longest = max(*lengths.values(), aus)
    if needed > rows or aus < rows - 1 or longest > rows + SPARE_ROWS:
        listed = ", ".join(f"{name} {count}" for name, count in (lengths | {"au_features.csv": aus}).items())
        raise CheckpointError(
            f"{root}: the files do not have the same frames ({listed} rows; transforms.json needs {needed}): make them "
            "again from one and the same clip."
        )
    return rows


def load_identity(path: Path) -> Floats | None:
    """The identity feature [512], or None if there is none. Raises CheckpointError, as `load_array` does."""
    if not path.is_file():
        return None
    feature: Floats = load_array(path, (IDENTITY,)).astype(np.float32)
    return feature


def _notes(head: TrackedHead, identity: Floats | None) -> list[str]:
    notes = []
    if identity is None:
        notes.append("identity_feature.npy is missing: AdaIN is bypassed, as the released code does")
    if head.static_offset is not None:
        notes.append("flame_params.npz: static_offset is ignored, as the released renderer does")
    if not head.one_identity:
        notes.append("flame_params.npz: the shape changes over the clip; the first frame's is used")
    return notes


def emotion_probabilities(values: NDArray[Any], path: Path, notes: list[str]) -> Floats:
    """Rows [T, 7] that sum to one. Raises CheckpointError for others; a note tells of rows that had to be scaled."""
    total = values.sum(axis=1, keepdims=True)
    if values.min() < 0 or total.min() <= 0:
        raise CheckpointError(f"{path}: rows are not probabilities of {', '.join(EMOTIONS)}; make it again.")
    if np.abs(total - 1).max() > 1e-2:
        notes.append("emotion_features.npy: rows did not sum to one and were scaled")
        values = values / total
    result: Floats = values.astype(np.float32)
    return result


def load_action_units(path: Path, units: Sequence[str] = ACTION_UNITS) -> Floats:
    """AUs [N, len(units)] (0…5) of an OpenFace CSV, in the order of its own `frame` column, which counts from 1.

    Raises:
        CheckpointError: missing columns or cells, or frames that are missing or there twice.
    """
    columns = [f"{unit}_r" for unit in units]
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines()) if line]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; run OpenFace's FeatureExtraction on the clip.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(f"{path}: not a readable CSV ({error}); run OpenFace again.") from error
    names = lines[0] if lines else []
    missing = [name for name in columns if name not in names]
    if missing:
        raise CheckpointError(f"{path}: the columns {', '.join(missing)} are missing; run OpenFace with -aus.")
    if len(lines) < 2:
        raise CheckpointError(f"{path}: has no rows; run OpenFace again.")
    values = _numbers(path, lines[1:], [names.index(name) for name in columns])
    if "frame" in names:
        values = values[_frame_order(path, _numbers(path, lines[1:], [names.index("frame")])[:, 0])]
    aus: Floats = values.astype(np.float32)
    return aus


def _numbers(path: Path, lines: list[list[str]], columns: list[int]) -> Doubles:
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append([float(line[column]) for column in columns])
        except (IndexError, ValueError) as error:
            raise CheckpointError(f"{path}: line {number} is incomplete ({error}); run OpenFace again.") from error
        if not np.isfinite(rows[-1]).all():
            raise CheckpointError(f"{path}: line {number} holds a value that is not finite; run OpenFace again.")
    return np.array(rows)


def _frame_order(path: Path, frame: Doubles) -> NDArray[np.intp]:
    """Rows in the order of their frames. After a gap or a second face, every frame would have another one's AUs."""
    order = np.argsort(frame, kind="stable")
    wrong = np.flatnonzero(frame[order] != np.arange(1, len(frame) + 1))
    if len(wrong):
        raise CheckpointError(
            f"{path}: its frame column should count 1, 2, … {len(frame)}, but frame {wrong[0] + 1} is missing or there "
            "twice; run OpenFace for a single face on every frame."
        )
    return order
