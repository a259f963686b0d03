"""A head in FLAME's layout, as one `.npz`, and its bake into the tensors that a bundle holds.

Metres, y up, the face towards +z. Joints, in this order: root, neck, jaw, left eye, right eye.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CheckpointError

__all__ = ["JOINT_NAMES", "BakedHead", "HeadModel"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
_JOINTS = len(JOINT_NAMES)
_POSE_FEATURES = 9 * (_JOINTS - 1)
_MAX_BYTES = 1 << 30
_QUANTISED = ("shape_basis", "expression_basis", "pose_basis")


@dataclass(frozen=True, eq=False)
class BakedHead:
    """The head of one identity: what `skin` needs for a frame. As docs/bundle.md, `head.*`."""

    template: Floats
    """(V,3) metres, shape and static offset applied"""
    faces: Ints
    """(F,3)"""
    expression_basis: Floats
    """(E,V,3) metres"""
    pose_basis: Floats
    """(36,V,3), times R - I of joints 1-4, row-major"""
    joints: Floats
    """(5,3) regressed from the template"""
    joint_expression_basis: Floats
    """(E,5,3) the regressor applied to the expression basis"""
    weights: Floats
    """(V,5)"""
    parents: Ints
    """(5,)"""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The `head.*` tensors of `avatar.safetensors`, C-contiguous."""
        return {f"head.{name}": np.ascontiguousarray(value) for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class HeadModel:
    """A head with identity, expression and pose bases (FLAME, Eq. 1 of the paper).

    Vertices of a pose: `v_template + shape_basis·β + expression_basis·ψ + pose_basis·(R - I)`, then linear
    blend skinning about the joints `joint_regressor·(v_template + shape_basis·β + expression_basis·ψ)`.
    Checked when made; `CheckpointError` names the array that does not fit.
    """

    v_template: Floats
    """(V,3) metres"""
    faces: Ints
    """(F,3) counter-clockwise seen from outside"""
    shape_basis: Floats
    """(V,3,S)"""
    expression_basis: Floats
    """(V,3,E)"""
    pose_basis: Floats
    """(V,3,36)"""
    joint_regressor: Floats
    """(5,V)"""
    weights: Floats
    """(V,5), rows sum to one"""
    parents: Ints
    """(5,) -1 for the root"""
    expression_names: tuple[str, ...]
    """E names"""
    shape_names: tuple[str, ...] = ()
    """S names, or none"""
    uv: Floats | None = None
    """(F,3,2) texture coordinates of each face's corners"""
    face_regions: NDArray[np.int8] | None = None
    """(F,) index into `region_names`"""
    region_names: tuple[str, ...] = ()
    source: str = field(default="head model", compare=False)
    """what errors call this head"""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def vertex_count(self) -> int:
        """V."""
        return len(self.v_template)

    @property
    def expression_count(self) -> int:
        """E."""
        return int(self.expression_basis.shape[2])

    def with_expressions(self, count: int) -> HeadModel:
        """The same head with its first `count` expressions; a released checkpoint uses 50 of FLAME's 100."""
        if not 0 < count <= self.expression_count:
            raise CheckpointError(
                f"{self.source}: {count} expressions were asked for, it has {self.expression_count};"
                " use the head that the checkpoint was trained with."
            )
        return replace(
            self,
            expression_basis=np.ascontiguousarray(self.expression_basis[:, :, :count]),
            expression_names=self.expression_names[:count],
        )

    def region(self, *names: str) -> NDArray[np.bool_]:
        """(F,) which faces belong to any of these regions. Raises `CheckpointError` for a name it has not."""
        unknown = sorted(set(names) - set(self.region_names))
        if self.face_regions is None or unknown:
            have = ", ".join(self.region_names) or "none"
            raise CheckpointError(f"{self.source}: no region {', '.join(unknown)}; its regions: {have}.")
        return np.isin(self.face_regions, [self.region_names.index(name) for name in names])

    def bake(self, shape: Floats | None = None, static_offset: Floats | None = None) -> BakedHead:
        """Apply identity: `shape` (up to S coefficients) and `static_offset` ((V,3) metres).

        The offset is added before the joints are regressed, as VHAP does. Raises `CheckpointError` on sizes
        that do not fit this head, or values that are not finite.
        """
        template = self.v_template.astype(np.float64)
        if shape is not None:
            beta = self._coefficients(shape)
            template += self.shape_basis[:, :, : len(beta)] @ beta
        if static_offset is not None:
            offset = np.asarray(static_offset, dtype=np.float64)
            if offset.size != template.size or not np.isfinite(offset).all():
                raise CheckpointError(
                    f"{self.source}: static_offset of shape {offset.shape} does not fit"
                    f" {self.vertex_count} vertices (or is not finite);"
                    " take head and tracking from the same mesh."
                )
            template += offset.reshape(template.shape)
        regressor = self.joint_regressor.astype(np.float64)
        expression = np.ascontiguousarray(self.expression_basis.transpose(2, 0, 1))
        return BakedHead(
            template=template.astype(np.float32),
            faces=self.faces,
            expression_basis=expression,
            pose_basis=np.ascontiguousarray(self.pose_basis.transpose(2, 0, 1)),
            joints=(regressor @ template).astype(np.float32),
            joint_expression_basis=(regressor @ expression.astype(np.float64)).astype(np.float32),
            weights=self.weights,
            parents=self.parents,
        )

    def _coefficients(self, shape: Floats) -> NDArray[np.float64]:
        beta = np.asarray(shape, dtype=np.float64).reshape(-1)
        if len(beta) > self.shape_basis.shape[2] or not np.isfinite(beta).all():
            raise CheckpointError(
                f"{self.source}: {len(beta)} shape coefficients do not fit its {self.shape_basis.shape[2]}"
                " (or are not finite); use the head that they were tracked with."
            )
        return beta

    def save(self, path: str | Path, compact: bool = False) -> None:
        """Write one `.npz` without pickles.

        `compact` stores the bases as 16-bit integers with one step a component: 1/65,534 of its largest
        displacement, below 1e-6 m for a head.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name in ("v_template", "faces", "joint_regressor", "weights", "parents", *_QUANTISED):
            value = getattr(self, name)
            if compact and name in _QUANTISED:
                step = np.abs(value).max(axis=(0, 1), initial=0.0).astype(np.float32) / np.float32(32767)
                arrays[name] = np.rint(value / np.where(step > 0, step, 1)).astype(np.int16)
                arrays[name + "_step"] = step
            else:
                arrays[name] = value
        for name in ("expression_names", "shape_names", "region_names"):
            arrays[name] = np.array(getattr(self, name), dtype=np.str_)
        for name in ("uv", "face_regions"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        with open(path, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> HeadModel:
        """Read what `save` wrote. Raises `CheckpointError` (file, array, cure) if anything does not fit."""
        arrays = _read(Path(path))
        cure = "make the head again with its converter."
        try:
            for name in _QUANTISED:
                if name + "_step" in arrays:
                    arrays[name] = arrays[name] * arrays.pop(name + "_step").astype(np.float32)
            for key in ("expression_names", "shape_names", "region_names"):
                arrays[key] = tuple(str(name) for name in arrays[key])
            return cls(**arrays, source=str(path))
        except KeyError as error:
            raise CheckpointError(f"{path}: the array {error} is missing; {cure}") from error
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: not a head model ({error}); {cure}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("one array, not an .npz")
            with zipfile.ZipFile(path) as members:
                unpacked = sum(member.file_size for member in members.infolist())
            if unpacked > _MAX_BYTES:
                raise ValueError(f"it unpacks to more than {_MAX_BYTES} bytes")
            return dict(archive.items())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); check the path.") from error
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(
            f"{path}: not a head model ({error}); make it with `python -m emotag.training.anny_head`."
        ) from error


def _check(head: HeadModel) -> None:
    """Bring every array to its type and check it against the vertex count."""
    vertices, faces = len(head.v_template), len(head.faces)
    shapes: dict[str, tuple[int | None, ...]] = {
        "v_template": (vertices, 3),
        "faces": (faces, 3),
        "shape_basis": (vertices, 3, None),
        "expression_basis": (vertices, 3, None),
        "pose_basis": (vertices, 3, _POSE_FEATURES),
        "joint_regressor": (_JOINTS, vertices),
        "weights": (vertices, _JOINTS),
        "parents": (_JOINTS,),
        "uv": (faces, 3, 2),
        "face_regions": (faces,),
    }
    types = {"faces": np.int32, "parents": np.int32, "face_regions": np.int8}
    for name, expected in shapes.items():
        value = getattr(head, name)
        if value is None and name in ("uv", "face_regions"):
            continue
        value = np.asarray(value)
        if not _fits(value.shape, expected):
            wanted_text = "×".join("any" if size is None else str(size) for size in expected)
            raise _misfit(head, name, f"has the shape {value.shape}, not {wanted_text}")
        if value.dtype.kind not in "fiub" or not np.isfinite(value).all():
            raise _misfit(head, name, "holds values that are not finite numbers")
        object.__setattr__(head, name, np.ascontiguousarray(value, dtype=types.get(name, np.float32)))
    _check_values(head)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        wanted is None or wanted == size for size, wanted in zip(shape, expected, strict=True)
    )


def _check_values(head: HeadModel) -> None:
    if head.vertex_count == 0 or len(head.faces) == 0:
        raise _misfit(head, "faces", "is empty")
    if head.faces.min() < 0 or head.faces.max() >= head.vertex_count:
        raise _misfit(head, "faces", f"points outside the {head.vertex_count} vertices")
    if not np.allclose(head.weights.sum(axis=1), 1, atol=1e-3):
        raise _misfit(head, "weights", "has rows that do not sum to one")
    if head.parents[0] != -1 or any(not 0 <= head.parents[joint] < joint for joint in range(1, _JOINTS)):
        raise _misfit(head, "parents", f"is not a tree of {_JOINTS} joints with the root first")
    if len(head.expression_names) != head.expression_count:
        raise _misfit(head, "expression_names", f"has {len(head.expression_names)} names, not {head.expression_count}")
    if head.shape_names and len(head.shape_names) != head.shape_basis.shape[2]:
        raise _misfit(head, "shape_names", f"has {len(head.shape_names)} names")
    regions = head.face_regions
    if regions is not None and (regions.min() < 0 or regions.max() >= len(head.region_names)):
        raise _misfit(head, "face_regions", "points outside region_names")


def _misfit(head: HeadModel, name: str, what: str) -> CheckpointError:
    return CheckpointError(f"{head.source}: {name} {what}; make or download the head again.")
