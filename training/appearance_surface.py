"""Surfels on a head's triangles: even sampling, local frames, and their turn into bound Gaussians."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from .head import HeadModel

__all__ = [
    "Array",
    "Indices",
    "Points",
    "Splats",
    "Surface",
    "even_subset",
    "join",
    "noise",
    "smoothstep",
    "splats",
    "unit",
]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_SH_C0 = 0.28209479177387814


def unit(vectors: Array) -> Array:
    """Vectors (…,3) of length one."""
    length: Array = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12))


def smoothstep(value: Array, low: float | Array, high: float | Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between; `low` may be above `high`."""
    ramp = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))


def noise(points: Array, wavelength: float, seed: int) -> Array:
    """(N,) smooth noise of about ±1 at (N,3) points; `wavelength` in metres. A few random plane waves."""
    rng = np.random.default_rng(seed)
    directions = unit(rng.normal(size=(12, 3)))
    phases = rng.uniform(0, 2 * np.pi, 12)
    frequencies = 2 * np.pi / wavelength * rng.uniform(0.7, 1.4, 12)
    waves: Array = np.sin(points @ directions.T * frequencies + phases).sum(axis=1)
    return np.asarray(waves / np.sqrt(6))


@dataclass(frozen=True)
class Splats:
    """Gaussians in the neutral head's space, before they are lit and bound."""

    face_index: Indices
    """(N,) the triangle each will be bound to"""
    position: Array
    """(N,3) metres"""
    normal: Array
    """(N,3) the thin axis, and what light sees"""
    tangent: Array
    """(N,3) the long axis"""
    scale: Array
    """(N,3) metres along tangent, side and normal"""
    albedo: Array
    """(N,3) linear reflectance"""
    opacity: Array
    """(N,)"""
    gloss: Array
    """(N,) strength of the highlight"""
    glow: Array
    """(N,) 0: lit by the lights, 1: the albedo is shown as it is"""

    def __len__(self) -> int:
        return len(self.face_index)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Splats:
        return Splats(*(getattr(self, field.name)[index] for field in fields(self)))

    def with_albedo(self, albedo: Array) -> Splats:
        return replace(self, albedo=albedo)


def join(parts: list[Splats]) -> Splats:
    """All parts, one after the other."""
    return Splats(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Splats)))


def splats(
    face_index: Indices,
    position: Array,
    normal: Array,
    scale: Array | tuple[float, float, float],
    albedo: Array,
    tangent: Array | None = None,
    opacity: float | Array = 0.96,
    gloss: float | Array = 0.0,
    glow: float | Array = 0.0,
) -> Splats:
    """Splats with what is not given filled in; `normal` is made perpendicular to `tangent`, or the other way round."""
    count = len(face_index)
    if tangent is None:
        helper = np.where(np.abs(normal[:, :1]) < 0.8, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
        tangent = unit(np.cross(normal, helper))
    else:
        tangent = unit(tangent)
        normal = unit(normal - tangent * (normal * tangent).sum(axis=1, keepdims=True))
    return Splats(
        face_index=np.asarray(face_index, dtype=np.int64),
        position=position,
        normal=unit(normal),
        tangent=tangent,
        scale=np.broadcast_to(np.asarray(scale, dtype=np.float64), (count, 3)).copy(),
        albedo=np.broadcast_to(np.asarray(albedo, dtype=np.float64), (count, 3)).copy(),
        opacity=np.broadcast_to(np.asarray(opacity, dtype=np.float64), (count,)).copy(),
        gloss=np.broadcast_to(np.asarray(gloss, dtype=np.float64), (count,)).copy(),
        glow=np.broadcast_to(np.asarray(glow, dtype=np.float64), (count,)).copy(),
    )


@dataclass(frozen=True)
class Points:
    """Samples of a surface."""

    face_index: Indices
    position: Array
    normal: Array
    bary: Array

    def __len__(self) -> int:
        return len(self.face_index)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Points:
        return Points(self.face_index[index], self.position[index], self.normal[index], self.bary[index])


class Surface:
    """The neutral head's triangles, with what sampling and binding need of them."""

    def __init__(self, head: HeadModel) -> None:
        self.head = head
        self.vertices = head.v_template.astype(np.float64)
        self.faces = head.faces.astype(np.int64)
        corners = self.vertices[self.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.centroids: Array = corners.mean(axis=1)
        self.face_normals = unit(cross)
        normals = np.zeros_like(self.vertices)
        for corner in range(3):
            np.add.at(normals, self.faces[:, corner], cross)
        self.vertex_normals = unit(normals)

    def region(self, *names: str) -> NDArray[np.bool_]:
        return self.head.region(*names)

    def sample(
        self, mask: NDArray[np.bool_], spacing: float, rng: np.random.Generator, posed: Array | None = None
    ) -> Points:
        """Points of the masked faces, none nearer to another than `spacing` metres, with hardly room for one more.

        `posed` (V,3): measure distances in this pose instead, for faces that a pose stretches.
        """
        chosen = np.flatnonzero(mask)
        vertices = self.vertices if posed is None else posed
        corners = vertices[self.faces[chosen]]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas: Array = np.linalg.norm(cross, axis=1) / 2
        count = max(16, int(7.0 * areas.sum() / spacing**2))
        face = chosen[rng.choice(len(chosen), count, p=areas / areas.sum())]
        root, ratio = np.sqrt(rng.random(count)), rng.random(count)
        bary = np.stack([1 - root, root * (1 - ratio), root * ratio], axis=1)
        points = self.at(face, bary)
        measured = (vertices[self.faces[face]] * bary[:, :, None]).sum(axis=1)
        return points.take(even_subset(measured, points.normal, spacing))

    def stretch(self, face: Indices, posed: Array) -> Array:
        """(N,) how much larger faces are in the pose (V,3) than in the neutral head, by Eq. 7's size."""
        return np.asarray(_frames(posed[self.faces[face]])[1] / _frames(self.vertices[self.faces[face]])[1])

    def longer(self, face: Indices, posed: Array) -> tuple[Array, Array]:
        """Where faces grow most in the pose (V,3): unit directions (N,3) in the neutral head, and by what factor (N,)
        more than their Gaussians do, which grow by Eq. 7's size in all directions."""
        neutral, corners = self.vertices[self.faces[face]], posed[self.faces[face]]
        frame, _, _ = _frames(neutral)
        flat = np.stack([neutral[:, 1] - neutral[:, 0], neutral[:, 2] - neutral[:, 0]], axis=-1)
        new = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], axis=-1)
        plane = frame[..., [0, 2]]  # the triangle's own two axes
        grown = new @ np.linalg.pinv(np.swapaxes(plane, 1, 2) @ flat)  # (N,3,2), from the plane to the pose
        _, most, ways = np.linalg.svd(grown, full_matrices=False)
        return np.einsum("nij,nj->ni", plane, ways[:, 0]), np.asarray(most[:, 0] / self.stretch(face, posed))

    def at(self, face: Indices, bary: Array) -> Points:
        """Points with smooth normals at barycentric coordinates of faces."""
        corners = self.faces[face]
        position: Array = (self.vertices[corners] * bary[:, :, None]).sum(axis=1)
        normal: Array = (self.vertex_normals[corners] * bary[:, :, None]).sum(axis=1)
        return Points(face, position, unit(normal), bary)

    def in_front(self, xy: Array, mask: NDArray[np.bool_]) -> Points:
        """The frontmost points of the masked faces at (N,2) x, y; points that hit no face are left out."""
        front = np.flatnonzero(mask & (self.face_normals[:, 2] > 0.05))
        _, near = cKDTree(self.centroids[front, :2]).query(xy, k=min(24, len(front)))
        candidates = front[near]
        a, b, c = (self.vertices[self.faces[candidates]][:, :, corner, :2] for corner in range(3))
        area = _cross2(b - a, c - a)
        point = xy[:, None]
        bary = np.stack(
            [_cross2(b - point, c - point), _cross2(c - point, a - point), _cross2(a - point, b - point)], -1
        )
        bary = bary / np.where(np.abs(area) > 1e-14, area, 1e-14)[..., None]
        inside = bary.min(axis=-1) >= -1e-6
        depth = np.where(inside, (self.vertices[self.faces[candidates]][..., 2] * bary).sum(axis=-1), -np.inf)
        best = depth.argmax(axis=1)
        rows = np.flatnonzero(inside.any(axis=1))
        return self.at(candidates[rows, best[rows]], bary[rows, best[rows]])

    def posed(self, *expressions: str, amount: float = 1.0) -> Array:
        """(V,3) vertices with these expressions at `amount`; names the head has not are left out."""
        names = self.head.expression_names
        chosen = [names.index(name) for name in expressions if name in names]
        moved: Array = self.head.expression_basis[:, :, chosen].sum(axis=2, dtype=np.float64)
        return np.asarray(self.vertices + amount * moved)

    def carried(self, made: Splats, posed: Array) -> Splats:
        """The same splats where the pose (V,3) of the mesh takes them; sizes as they are."""
        corners = self.faces[made.face_index]
        frame, size, centre = _frames(self.vertices[corners])
        new_frame, new_size, new_centre = _frames(posed[corners])
        turn = np.einsum("nij,nkj->nik", new_frame, frame)
        moved = np.einsum("nij,nj->ni", turn, made.position - centre) * (new_size / size)[:, None] + new_centre
        return replace(made, position=moved, normal=np.einsum("nij,nj->ni", turn, made.normal))

    def still_faces(self) -> NDArray[np.bool_]:
        """(F,) faces that only head and neck rotation move: what hair is bound to."""
        moves = np.abs(self.head.expression_basis).max(axis=(1, 2)) > 1e-4
        moves |= self.head.weights[:, 1] < 0.999
        still: NDArray[np.bool_] = ~moves[self.faces].any(axis=1)
        return still

    def bind(self, made: Splats, colour: Array) -> dict[str, NDArray[np.generic]]:
        """Gaussians in the frames of their triangles (Eq. 7, exp scales), coloured with sRGB (N,3), of SH degree 0."""
        frame, size, centre = _frames(self.vertices[self.faces[made.face_index]])
        axes = np.stack([made.tangent, np.cross(made.normal, made.tangent), made.normal], axis=-1)
        local = np.einsum("nji,nj->ni", frame, made.position - centre) / size[:, None]
        turned = Rotation.from_matrix(np.einsum("nji,njk->nik", frame, axes)).as_quat()
        opacity = np.clip(made.opacity, 1e-4, 1 - 1e-4)
        values = {
            "means": local,
            "quats": turned[:, [3, 0, 1, 2]],
            "scales": np.log(made.scale / size[:, None]),
            "opacities": np.log(opacity / (1 - opacity)),
            "sh": ((colour - 0.5) / _SH_C0)[:, None, :],
        }
        bound: dict[str, NDArray[np.generic]] = {
            f"gaussians.{name}": np.ascontiguousarray(value, dtype=np.float32) for name, value in values.items()
        }
        bound["gaussians.face_index"] = made.face_index.astype(np.int32)
        return bound


def _frames(corners: Array) -> tuple[Array, Array, Array]:
    """Frames (N,3,3), sizes (N,) and centroids (N,3) of triangles (N,3,3), by the rule of Eq. 7."""
    v0, v1, v2 = corners[:, 0], corners[:, 1], corners[:, 2]
    a0 = unit(v1 - v0)
    a1 = unit(np.cross(a0, v2 - v0))
    a2 = -unit(np.cross(a1, a0))
    size = (np.linalg.norm(v1 - v0, axis=1) + np.abs((a2 * (v2 - v0)).sum(axis=1))) / 2
    return np.stack([a0, a1, a2], axis=-1), size, (v0 + v1 + v2) / 3


def _cross2(a: Array, b: Array) -> Array:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def even_subset(position: Array, normal: Array, spacing: float) -> Indices:
    """Indices of a subset without two points nearer than `spacing` that face the same way, and with no room for more.

    The order of the points is their priority. They are taken in batches: what is near a point that stayed is dropped
    first, so that few pairs are left to compare.
    """
    kept = np.zeros(0, dtype=np.int64)
    batches = np.array_split(np.arange(len(position)), max(1, min(8, len(position) // 2000)))
    for batch in batches:
        batch = batch[~_crowded(position, normal, batch, kept, spacing)]
        kept = np.concatenate([kept, batch[_thinned(position[batch], normal[batch], spacing)]])
    return kept


def _crowded(position: Array, normal: Array, batch: Indices, kept: Indices, spacing: float) -> NDArray[np.bool_]:
    """(B,) whether a point of the batch has a kept one near that faces the same way."""
    if not len(kept):
        return np.zeros(len(batch), dtype=bool)
    _, near = cKDTree(position[kept]).query(position[batch], k=3, distance_upper_bound=spacing)
    found = near < len(kept)
    facing = (normal[batch][:, None] * normal[kept[np.where(found, near, 0)]]).sum(axis=2) > 0.2
    return np.asarray((found & facing).any(axis=1))


def _thinned(position: Array, normal: Array, spacing: float) -> Indices:
    """Indices of the points that stay: those without an earlier point near that stays."""
    pairs = cKDTree(position).query_pairs(spacing, output_type="ndarray")
    pairs = np.sort(pairs[(normal[pairs[:, 0]] * normal[pairs[:, 1]]).sum(axis=1) > 0.2], axis=1)
    state = np.zeros(len(position), dtype=np.int8)  # 0 open, 1 kept, -1 dropped
    while len(pairs):
        blocked = np.zeros(len(position), dtype=bool)
        blocked[pairs[:, 1]] = True
        state[(state == 0) & ~blocked] = 1
        state[pairs[state[pairs[:, 0]] == 1, 1]] = -1
        pairs = pairs[(state[pairs[:, 0]] == 0) & (state[pairs[:, 1]] == 0)]
    return np.flatnonzero(state >= 0)
