"""Which triangle every Gaussian of a released scene sits on, verified against the scene's own point cloud.

The binding is not in the checkpoint, and the mesh takes its faces from a template OBJ that is not in the scene. A wrong
one of either still draws a picture, so the bound points of the first frame are recomputed and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import CheckpointError
from .head import HeadModel
from .mesh_files import load_ply_points
from .released_scene import ReleasedScene, load_array

__all__ = ["Binding", "load_binding", "pose_vertices", "verify_binding"]

Doubles = NDArray[np.float64]

TOLERANCE = 1e-4  # metres; files of a scene that belong together agree to 1e-8
_FACES_CURE = (
    "The released mesh takes its faces from a template OBJ, not from the FLAME pickle: pass that OBJ with --faces"
)


@dataclass(frozen=True, eq=False)
class Binding:
    """G Gaussians on the triangles of a head."""

    face_index: NDArray[np.int32]  # [G]
    bary: Doubles  # [G, 3] where each was sampled
    mouth_index: NDArray[np.int32]  # [M] the mouth Gaussians, without repeats; may be empty


def load_binding(scene: Path, gaussians: int, faces: int) -> Binding:
    """Read the binding of a checkpoint's `gaussians` to a head of `faces` triangles.

    Raises:
        CheckpointError: a file is missing or broken, G disagrees, or an index points outside.
    """
    face_index = _indices(scene / "face_indices.npy")
    bary = load_array(scene / "bary_coords.npy", (None, 3)).astype(np.float64)
    mouth = _indices(scene / "mouth_point_indices.npy", may_be_empty=True)
    if len(face_index) != gaussians:
        raise CheckpointError(_wrong_count(scene, gaussians, len(face_index)))
    if len(bary) != gaussians:
        raise CheckpointError(
            f"{scene}: bary_coords.npy has {len(bary)} rows, face_indices.npy {len(face_index)}; take both from one "
            "preprocessing run."
        )
    if np.abs(bary.sum(1) - 1).max() > 1e-3 or bary.min() < -1e-3:
        raise CheckpointError(f"{scene}/bary_coords.npy: rows are not barycentric coordinates; make it again.")
    if face_index.min() < 0 or face_index.max() >= faces:
        raise CheckpointError(
            f"{scene}/face_indices.npy: triangle {face_index.max()} is outside the head's {faces}. {_FACES_CURE}."
        )
    if len(mouth) and (mouth.min() < 0 or mouth.max() >= gaussians):
        raise CheckpointError(
            f"{scene}/mouth_point_indices.npy: Gaussian {mouth.max()} is outside the checkpoint's {gaussians}; take it "
            "from the preprocessing run that the checkpoint was trained on."
        )
    return Binding(face_index.astype(np.int32), bary, np.unique(mouth).astype(np.int32))


def _wrong_count(scene: Path, gaussians: int, bound: int) -> str:
    return (
        f"{scene}: the checkpoint has {gaussians} Gaussians, face_indices.npy binds {bound}. Densification changes "
        "their number, but the released code saves neither the new binding nor the mouth mask, so this checkpoint "
        "cannot be placed on the head. Use one saved before densification began, train again with densification off "
        "(densify_until_iter 0), or pass the scene of the run that wrote it."
    )


def _indices(path: Path, may_be_empty: bool = False) -> NDArray[np.int64]:
    value = load_array(path, (None,), may_be_empty=may_be_empty)
    if value.dtype.kind not in "iu" and not np.array_equal(value, np.rint(value)):
        raise CheckpointError(f"{path}: holds values that are not indices; make it again.")
    return value.astype(np.int64)


def verify_binding(scene: ReleasedScene, binding: Binding, head: HeadModel) -> None:
    """Compare the bound points of the scene's first frame with `points3D.ply`, and its mesh with the head.

    Raises:
        CheckpointError: the binding, the faces or the head belong to something else; says which.
    """
    points = load_ply_points(scene.folder / "points3D.ply")
    stored = load_array(scene.folder / "vertices.npy", (None, 3)).astype(np.float64)
    if len(stored) != head.vertex_count:
        raise CheckpointError(
            f"{scene.folder}/vertices.npy: the scene's mesh has {len(stored)} vertices, {head.source} has "
            f"{head.vertex_count}; pass the FLAME file (edition, augmentation) that the scene was made with."
        )
    if len(points) != len(binding.face_index):
        raise CheckpointError(
            f"{scene.folder}: points3D.ply has {len(points)} points, face_indices.npy {len(binding.face_index)}; take "
            "both from one preprocessing run."
        )
    distance = _bound_distance(stored, head.faces, binding, points)
    if distance > TOLERANCE:
        raise CheckpointError(
            f"{scene.folder}: the bound points of the first frame are {distance * 1000:.1f} mm away from points3D.ply, "
            f"so binding and faces do not belong together. {_FACES_CURE}; or take face_indices.npy, bary_coords.npy, "
            "vertices.npy and points3D.ply from one preprocessing run."
        )
    nearest = min(float(np.abs(vertices - stored).max()) for vertices in _first_meshes(scene, head))
    if nearest > TOLERANCE:
        raise CheckpointError(
            f"{head.source}: its mesh for the first frame's parameters is {nearest * 1000:.1f} mm away from the "
            "scene's vertices.npy; pass the FLAME file that the scene was tracked with."
        )


def _bound_distance(vertices: Doubles, faces: NDArray[Any], binding: Binding, points: Doubles) -> float:
    corners = vertices[faces[binding.face_index]]
    return float(np.abs(np.einsum("gk,gkc->gc", binding.bary, corners) - points).max())


def _first_meshes(scene: ReleasedScene, head: HeadModel) -> Iterator[Doubles]:
    """The first frame's mesh in every way that preprocessing is known to make it; the plain one comes first.

    A released scene stores it with the tracked pose but expression and jaw at rest.
    """
    tracked, row = scene.head, scene.first
    offset = tracked.static_offset
    offsets = [None] if offset is None or len(offset) != head.vertex_count else [None, offset]
    still = np.zeros(0, np.float32)
    for static_offset in offsets:
        baked = head.bake(tracked.shape[row], static_offset)
        count = min(tracked.expression.shape[1], head.expression_count)
        moves = [(still, np.zeros(3, np.float32))]
        moves += [(tracked.expression[row, :size], tracked.jaw_pose[row]) for size in {min(50, count), count}]
        for expression, jaw in moves:
            pose = np.concatenate([tracked.rotation[row], tracked.neck_pose[row], jaw, tracked.eyes_pose[row]])
            yield pose_vertices(head, baked.template, expression, pose) + tracked.translation[row]


def pose_vertices(head: HeadModel, template: NDArray[Any], expression: NDArray[Any], pose: NDArray[Any]) -> Doubles:
    """Skinned vertices [V, 3] in metres, float64, before the translation.

    Args:
        head: bases, joints and weights.
        template: [V, 3] with shape applied.
        expression: up to E coefficients.
        pose: [15] axis-angle of root, neck, jaw, left eye, right eye.
    """
    shaped = template.astype(np.float64) + head.expression_basis[:, :, : len(expression)] @ expression.astype(
        np.float64
    )
    rotations = np.stack([_rotation(axis_angle) for axis_angle in pose.astype(np.float64).reshape(-1, 3)])
    joints = head.joint_regressor.astype(np.float64) @ shaped
    posed = shaped + head.pose_basis @ (rotations[1:] - np.eye(3)).reshape(-1)
    world = np.zeros((len(joints), 3, 4))
    for joint, parent in enumerate(head.parents):
        if parent < 0:
            world[joint] = np.hstack([rotations[joint], joints[joint][:, None]])
            continue
        turn = world[parent, :, :3]
        moved = turn @ (joints[joint] - joints[parent]) + world[parent, :, 3]
        world[joint] = np.hstack([turn @ rotations[joint], moved[:, None]])
    world[:, :, 3] -= np.einsum("jab,jb->ja", world[:, :, :3], joints)
    blended = np.einsum("vj,jab->vab", head.weights, world)
    result: Doubles = np.einsum("vab,vb->va", blended[:, :, :3], posed) + blended[:, :, 3]
    return result


def _rotation(axis_angle: Doubles) -> Doubles:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(axis_angle))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = axis_angle / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    result: Doubles = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return result
