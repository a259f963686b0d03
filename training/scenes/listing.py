"""`transforms.json` as a list of pictures: which file, timestep and camera, and which are for testing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.errors import CheckpointError
from ..safe_pickle import read_bytes
from .scene import Picture, Split

__all__ = ["TRANSFORMS", "Listing", "camera_index", "is_scene", "read_listing", "scene_listing", "split_of"]

TRANSFORMS = "transforms.json"
TRAIN_SHARE = 10 / 11
"""Of the frames where no file splits them: the first ten of eleven are trained on, as AD-NeRF and its successors do."""
_HELD_OUT = ("transforms_val.json", "transforms_test.json")
_PARTS = ("transforms_train.json", *_HELD_OUT)


@dataclass(frozen=True, eq=False)
class Listing:
    """The content of a `transforms.json`."""

    path: Path
    top: dict[str, Any]
    frames: tuple[dict[str, Any], ...]

    @property
    def rows(self) -> int:
        """Timesteps that every per-frame file must have."""
        return 1 + max(int(frame["timestep_index"]) for frame in self.frames)

    def file(self, frame: dict[str, Any], key: str) -> Path | None:
        """The file that a frame names under `key`: below the scene's folder, or in a folder beside it.

        The latter because GaussianAvatars' unions of sequences name `../SEQUENCE/images/…`.

        Raises:
            CheckpointError: the name is no text or points elsewhere.
        """
        name = frame.get(key)
        if name is None:
            return None
        parts = Path(name).parts if isinstance(name, str) else ()
        inside = parts[1:] if len(parts) > 2 and parts[0] == ".." else parts
        if not inside or ".." in inside or Path(*inside).is_absolute():
            raise CheckpointError(f"{self.path}: {key} {name!r} is not a file of the scene; make it again.")
        return self.path.parent.joinpath(*parts)


def read_listing(path: Path) -> Listing:
    """Read a `transforms.json` (or one of its splits).

    Raises:
        CheckpointError: missing, not JSON, or a frame has no timestep.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path}: missing; a scene is the folder that VHAP's export or the authors' import wrote."
        )
    try:
        top = json.loads(read_bytes(path))
        frames = top["frames"]
        if not isinstance(frames, list) or not frames:
            raise ValueError("it has no frames")
        for frame in frames:
            row = frame["timestep_index"]
            if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < 1 << 24:
                raise ValueError(f"timestep_index {row!r} is not a row")
    except KeyError as error:
        raise CheckpointError(f"{path}: {error} is missing; make it again.") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a transforms.json ({error}); make it again.") from error
    return Listing(path, top, tuple(frames))


def is_scene(folder: Path) -> bool:
    """Whether the folder has a list of pictures, whole or in its parts."""
    return any((folder / name).is_file() for name in (TRANSFORMS, _PARTS[0]))


def scene_listing(folder: Path) -> Listing:
    """`transforms.json`, or all splits where a GaussianAvatars dataset has only those. Raises CheckpointError."""
    if (folder / TRANSFORMS).is_file():
        return read_listing(folder / TRANSFORMS)
    parts = [read_listing(folder / name) for name in _PARTS if (folder / name).is_file()]
    if not parts:
        return read_listing(folder / TRANSFORMS)
    frames = tuple(frame for part in parts for frame in part.frames)
    return Listing(parts[0].path, parts[0].top, frames)


def split_of(folder: Path, pictures: tuple[Picture, ...]) -> Split:
    """Training and test pictures: by `transforms_val.json` or `transforms_test.json` if there, else by time."""
    held_out: set[tuple[int, int]] = set()
    found = [name for name in _HELD_OUT if (folder / name).is_file()]
    for name in found:
        listing = read_listing(folder / name)
        held_out |= {(frame["timestep_index"], camera_index(frame)) for frame in listing.frames}
    if held_out:
        return _split(pictures, lambda picture: (picture.row, picture.camera_index) in held_out, ", ".join(found))
    first_test = int(TRAIN_SHARE * (max(picture.row for picture in pictures) + 1))
    return _split(pictures, lambda picture: picture.row >= first_test, "the last eleventh of the clip is held out")


def _split(pictures: tuple[Picture, ...], tested: Callable[[Picture], bool], source: str) -> Split:
    test = tuple(index for index, picture in enumerate(pictures) if tested(picture))
    chosen = set(test)
    return Split(tuple(index for index in range(len(pictures)) if index not in chosen), test, source)


def camera_index(frame: dict[str, Any]) -> int:
    """Which camera a frame names; 0 if it does not say."""
    index = frame.get("camera_index", 0)
    return index if isinstance(index, int) else 0
