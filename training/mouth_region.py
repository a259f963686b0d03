"""Where the mouth of a head is that does not say so itself: FLAME's pickle names no regions.

The mouth's Gaussians are those on its triangles; the mouth head moves them (eq. 8). A released scene lists its own in
`mouth_point_indices.npy`; FLAME's site has `FLAME_masks.pkl`, which names the vertices of regions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CheckpointError
from .head import HeadModel
from .released_scene import load_array
from .safe_pickle import load_pickle, read_bytes

__all__ = ["MASKS", "MOUTH_REGIONS", "NO_MOUTH", "has_mouth", "with_masks", "with_mouth_of"]

MASKS = "FLAME_masks.pkl"
"""Read if it lies beside FLAME's pickle."""
MOUTH_REGIONS = ("lips", "mouth", "tongue", "lower_teeth", "upper_teeth")
"""Names of regions whose Gaussians the mouth head moves."""
NO_MOUTH = (
    f"nothing says where the head's mouth is, so the mouth head moves no Gaussians: put {MASKS} of FLAME's site beside "
    "the head, or mouth_point_indices.npy and face_indices.npy into the scene"
)
_LIPS = "lips"  # in FLAME's masks
_BINDING = ("face_indices.npy", "mouth_point_indices.npy")
_MOST = 0.5  # of a triangle's Gaussians that are the mouth's, from which on it is


def has_mouth(head: HeadModel) -> bool:
    """Whether the head names a region of the mouth."""
    return head.face_regions is not None and any(name in head.region_names for name in MOUTH_REGIONS)


def with_masks(head: HeadModel, path: Path) -> HeadModel:
    """The head with the triangles between FLAME's lip vertices as its mouth; as it is where there is no such file.

    Args:
        head: of FLAME's topology.
        path: `FLAME_masks.pkl`, read without executing it: vertex indices by the name of a region.

    Raises:
        CheckpointError: the file holds no lips, or those of another mesh.
    """
    if has_mouth(head) or not path.is_file():
        return head
    content = load_pickle(read_bytes(path), str(path))
    lips = np.asarray(content.get(_LIPS, ())) if isinstance(content, dict) else np.zeros(0)
    if lips.ndim != 1 or not len(lips) or lips.dtype.kind not in "iu":
        raise CheckpointError(f"{path}: names no vertices of the lips; download FLAME's vertex masks again.")
    if lips.min() < 0 or lips.max() >= head.vertex_count:
        raise CheckpointError(
            f"{path}: vertex {lips.max()} is outside the {head.vertex_count} of {head.source}; take the masks of its "
            "edition, or remove the file."
        )
    return _with(head, np.asarray(np.isin(head.faces, lips).all(axis=1)))


def with_mouth_of(head: HeadModel, scene: Path) -> HeadModel:
    """The head with those triangles as its mouth that carry the mouth's Gaussians of a released scene.

    As it is where the head names its mouth, or the scene has not both `face_indices.npy` (G,) and
    `mouth_point_indices.npy` (M,), Gaussians out of these.

    Raises:
        CheckpointError: one of the files is broken, or belongs to another mesh.
    """
    paths = [scene / name for name in _BINDING]
    if has_mouth(head) or not all(path.is_file() for path in paths):
        return head
    bound = _indices(paths[0], len(head.faces), f"triangles of {head.source}")
    listed = _indices(paths[1], len(bound), "Gaussians of face_indices.npy")
    mine = np.zeros(len(bound), bool)
    mine[listed] = True
    every = np.bincount(bound, minlength=len(head.faces))
    share = np.bincount(bound[mine], minlength=len(head.faces)) / np.maximum(every, 1)
    return _with(head, share >= _MOST)


def _with(head: HeadModel, mouth: NDArray[np.bool_]) -> HeadModel:
    """The head with these triangles (F,) as its mouth; as it is if there are none."""
    if not mouth.any():
        return head
    return replace(head, face_regions=mouth.astype(np.int8), region_names=("skin", "mouth"))


def _indices(path: Path, count: int, what: str) -> NDArray[np.int64]:
    values = load_array(path, (None,), may_be_empty=True)
    indices: NDArray[np.int64] = values.astype(np.int64)
    if not np.array_equal(indices, values):
        raise CheckpointError(f"{path}: holds values that are not indices; make it again.")
    if len(indices) and (indices.min() < 0 or indices.max() >= count):
        raise CheckpointError(
            f"{path}: {indices.max()} is outside the {count} {what}; take it from the run that made the scene, and "
            "the head that it was tracked with."
        )
    return indices
