"""The tracked head of a released scene: `flame_params.npz`, one pickled dict a frame, read without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CheckpointError
from .safe_pickle import load_object_npz

__all__ = ["TrackedHead", "load_tracking"]

Floats = NDArray[np.float32]

_SIZES: dict[str, int | None] = {
    "shape": None,
    "expression": None,
    "rotation": 3,
    "neck_pose": 3,
    "jaw_pose": 3,
    "eyes_pose": 6,
    "translation": 3,
}
_IN_POSE = {"rotation": slice(0, 3), "jaw_pose": slice(3, 6)}
_SAME_SHAPE = 1e-5


@dataclass(frozen=True, eq=False)
class TrackedHead:
    """What the tracker says of T frames. Angles are axis-angle (rad), lengths metres."""

    shape: Floats  # [T, S]; one identity, so all rows should be the same
    expression: Floats  # [T, 100]
    rotation: Floats  # [T, 3]
    neck_pose: Floats  # [T, 3]
    jaw_pose: Floats  # [T, 3]
    eyes_pose: Floats  # [T, 6]
    translation: Floats  # [T, 3]
    static_offset: Floats | None  # [V, 3] of the first frame

    def __len__(self) -> int:
        return len(self.rotation)

    def __getitem__(self, rows: slice) -> TrackedHead:
        """The same of some frames."""
        cut = {name: getattr(self, name)[rows] for name in _SIZES}
        return TrackedHead(static_offset=self.static_offset, **cut)

    @property
    def one_identity(self) -> bool:
        """Whether the shape stays the same over the clip."""
        return bool(np.abs(self.shape - self.shape[0]).max() <= _SAME_SHAPE)


def load_tracking(path: str | Path) -> TrackedHead:
    """Read `flame_params.npz`: keys are frame numbers without gaps, row 0 is the lowest.

    Raises:
        CheckpointError: missing, hostile, with a gap, or a frame lacks a parameter or holds another size of it.
    """
    content = load_object_npz(path)
    if not content or not all(key.isascii() and key.isdigit() for key in content):
        raise CheckpointError(f"{path}: its keys should be frame numbers; copy or make it again.")
    keys = sorted(content, key=int)
    numbers = [int(key) for key in keys]
    gaps = set(range(numbers[0], numbers[0] + len(numbers))) - set(numbers)
    if gaps:
        raise CheckpointError(f"{path}: frame {min(gaps)} is missing; track every frame of the clip.")
    # Every frame repeats static_offset, which is as large as the mesh: only the first is kept.
    first = content[keys[0]]
    offset = first.get("static_offset") if isinstance(first, dict) else None
    columns: dict[str, list[Floats]] = {name: [] for name in _SIZES}
    for key in keys:
        entry = content.pop(key)
        if not isinstance(entry, dict):
            raise CheckpointError(f"{path}: frame {key} is not a set of FLAME parameters; make it again.")
        for name, size in _SIZES.items():
            column = columns[name]
            wanted = size if size is not None else (len(column[0]) if column else None)
            column.append(_parameter(entry, name, wanted, f"{path}: frame {key}"))
    values = {name: np.stack(column) for name, column in columns.items()}
    return TrackedHead(static_offset=_offset(offset), **values)


def _parameter(entry: dict[Any, Any], name: str, size: int | None, where: str) -> Floats:
    """One parameter [N] of a frame. `pose` holds rotation and jaw where a tracker left them out."""
    value = entry.get(name)
    if value is None and name in _IN_POSE and entry.get("pose") is not None:
        value = np.asarray(entry["pose"]).reshape(-1)[_IN_POSE[name]]
    if value is None:
        raise CheckpointError(f"{where} has no {name}; track the clip again.")
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.size == 0 or (size is not None and array.size != size):
        raise CheckpointError(
            f"{where}: {name} has the shape {array.shape}, it should hold {size or 'some'} numbers; track the "
            "clip again."
        )
    flat: Floats = array.reshape(-1).astype(np.float32)
    if not np.isfinite(flat).all():
        raise CheckpointError(f"{where}: {name} is not finite; track the clip again.")
    return flat


def _offset(value: object) -> Floats | None:
    """The first frame's static_offset [V, 3]; it is never drawn with, so an odd one is as good as none."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind != "f" or array.size % 3 or not np.isfinite(array).all():
        return None
    result: Floats = array.reshape(-1, 3).astype(np.float32)
    return result
