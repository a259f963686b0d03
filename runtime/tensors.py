"""Reads the bundle's safetensors by a table of names, types and shapes; the kernels' own types check the values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .errors import BundleError
from .manifest import EMOTIONS, Manifest

Float = NDArray[np.float32]
Shape = tuple[int | str, ...]  # a name stands for a size that must agree wherever the name occurs

_AVATAR: Mapping[str, Shape] = {
    "head.template": ("V", 3),
    "head.faces": ("F", 3),
    "head.expression_basis": ("E", "V", 3),
    "head.pose_basis": (36, "V", 3),
    "head.joints": (5, 3),
    "head.joint_expression_basis": ("E", 5, 3),
    "head.weights": ("V", 5),
    "head.parents": (5,),
    "gaussians.face_index": ("G",),
    "gaussians.means": ("G", 3),
    "gaussians.quats": ("G", 4),
    "gaussians.scales": ("G", 3),
    "gaussians.opacities": ("G",),
    "gaussians.sh": ("G", "K", 3),
}
_MOUTH: Mapping[str, Shape] = {
    "mouth.index": ("M",),
    "mouth.bound": (1,),
    "mouth.grid.xy": ("N", 1),
    "mouth.grid.yz": ("N", 1),
    "mouth.grid.xz": ("N", 1),
    "mouth.grid.offsets": ("levels+1",),
    "mouth.mlp.0": (64, "mouth inputs"),
    "mouth.mlp.1": (64, 64),
    "mouth.mlp.2": (64, 64),
    "mouth.head.weight": (10, 64),
    "mouth.head.bias": (10,),
}
_CUES: Mapping[str, Shape] = {
    "aus": ("T", 6),
    "emotion": ("T", len(EMOTIONS)),
    "rotation": ("T", 3),
    "neck": ("T", 3),
    "translation": ("T", 3),
    "eyes": ("T", 6),
    "view": ("T", 4, 4),
    "intrinsics": ("T", 4),
}
_INT32 = {"head.faces", "head.parents", "gaussians.face_index", "mouth.index", "mouth.grid.offsets"}
_FLOAT64 = {"view"}


@dataclass(frozen=True)
class AvatarTensors:
    """`avatar.safetensors`: arrays by their name in docs/bundle.md; `states` without the prefix `state.`."""

    head: Mapping[str, NDArray[Any]]
    gaussians: Mapping[str, NDArray[Any]]
    mouth: Mapping[str, NDArray[Any]] | None
    states: Mapping[str, Float]

    @property
    def expressions(self) -> int:
        return int(self.head["expression_basis"].shape[0])


@dataclass(frozen=True)
class Cues:
    """The recorded track, T frames. Units and axes as docs/bundle.md gives them."""

    aus: Float
    emotion: Float
    rotation: Float
    neck: Float
    translation: Float
    eyes: Float
    view: NDArray[np.float64]
    intrinsics: Float
    windows_file: Path | None

    def __len__(self) -> int:
        return len(self.aus)

    def windows(self) -> Iterator[Float]:
        """The recorded feature windows [W, H] in order, read as they are asked for. Raises BundleError without any."""
        if self.windows_file is None:
            raise BundleError("this bundle has no recorded windows: only that of a released checkpoint has them")
        return _rows(self.windows_file, len(self))


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a safetensors file, without reading them. Raises BundleError."""
    with _open(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _rows(path: Path, count: int) -> Iterator[Float]:
    with safe_open(path, framework="numpy") as file:
        rows = file.get_slice("windows")
        for frame in range(count):
            yield rows[frame : frame + 1][0]


def read_avatar(path: Path, manifest: Manifest) -> AvatarTensors:
    """Checked content of `avatar.safetensors`. Raises BundleError, naming the tensor."""
    with _open(path) as file:
        names = set(file.keys())
        sizes: dict[str, int] = {}
        arrays = _read(file, path.name, _AVATAR, sizes)
        if any(name.startswith("mouth.") for name in names):
            arrays |= _read(file, path.name, _MOUTH, sizes)
        states = {n.removeprefix("state."): _array(file, path.name, n) for n in names if n.startswith("state.")}
    tensors = AvatarTensors(
        _group(arrays, "head"), _group(arrays, "gaussians"), _group(arrays, "mouth") or None, states
    )
    named = len(manifest.expression_names)
    if named and named != tensors.expressions:
        raise _error("manifest.json", "expression_names", f"has {named} names, the head {tensors.expressions}")
    return tensors


def read_cues(path: Path, window: tuple[int, ...]) -> Cues:
    """Checked content of `cues.safetensors`; recorded windows stay on disk. Raises BundleError, naming the tensor.

    window: shape of one recorded window, that of the motion graph's input.
    """
    sizes: dict[str, int] = {}
    with _open(path) as file:
        arrays = _read(file, path.name, _CUES, sizes)
        has_windows = "windows" in file.keys()  # noqa: SIM118 (safe_open is not iterable)
        if has_windows:
            shape = tuple(file.get_slice("windows").get_shape())
            wanted = (sizes["T"], *window)
            if shape != wanted:
                raise _error(path.name, "windows", f"has shape {shape} instead of {wanted}")
    if sizes["T"] < 1:
        raise _error(path.name, "aus", "holds no frame")
    if not (arrays["intrinsics"][:, :2] > 0).all():
        raise _error(path.name, "intrinsics", "holds a focal length that is not positive")
    rotation = arrays["view"][:, :3, :3]
    if np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() > 1e-3:
        raise _error(path.name, "view", "is not a rotation and a translation")
    return Cues(**arrays, windows_file=path if has_windows else None)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path.name} is not a safetensors file ({error}): export the bundle again") from None


def _error(file: str, name: str, problem: str) -> BundleError:
    return BundleError(f"{file}: {name} {problem}: export the bundle again")


def _read(file: Any, label: str, table: Mapping[str, Shape], sizes: dict[str, int]) -> dict[str, NDArray[Any]]:
    arrays = {}
    for name, wanted in table.items():
        array = arrays[name] = _array(file, label, name)
        fits = array.ndim == len(wanted) and all(
            size == (sizes.setdefault(want, size) if isinstance(want, str) else want)
            for size, want in zip(array.shape, wanted, strict=True)
        )
        if not fits:
            known = tuple(sizes.get(want, want) if isinstance(want, str) else want for want in wanted)
            raise _error(label, name, f"has shape {array.shape} instead of {known}")
    return arrays


def _array(file: Any, label: str, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = file.get_tensor(name)
    except (SafetensorError, TypeError) as error:
        raise _error(label, name, f"is missing or of an unknown type ({error})") from None
    wanted = np.int32 if name in _INT32 else np.float64 if name in _FLOAT64 else np.float32
    if array.dtype != wanted:
        raise _error(label, name, f"has type {array.dtype} instead of {np.dtype(wanted)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _error(label, name, "holds NaN or infinity")
    return array


def _group(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix + "."): array for n, array in arrays.items() if n.startswith(prefix + ".")}
