"""Pictures of a figure: a textured mesh, z-buffered, smooth shaded, antialiased by supersampling. No Gaussians here.

Colour is made on a grid `supersample` times finer and averaged in linear light. Depth, normals and triangles are
those at the centre of each pixel of the picture itself, so that they are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...plugins.camera import Camera
from .atlas import SIZE
from .blood import tint
from .figure import Figure, Skin, light_share, vertex_normals
from .hair import CROWN, STRANDS
from .light import Lighting, irradiance, to_srgb
from .noise import Doubles
from .raster import Fragments, Visible, rasterize

__all__ = ["Drawing", "Geometry", "MeshRenderer", "geometry_of"]

Floats = NDArray[np.float32]

_CORNEA = 240.0
_SKIN_SHINE = 22.0
_HAIR_SHINE = 30.0
_STEP = 0.35  # slope at which the light of tilted skin is sampled; it is taken to be linear between
_LEAST_LIT, _MOST_LIT = 0.4, 1.6  # of the light without a crease
_HIDDEN = np.array([0.80, 1.0, 1.05, 1.0], np.float32)  # light that is scattered into a crease is red


@dataclass(frozen=True, eq=False)
class Geometry:
    """What lies at the pixel centres."""

    depth: Floats
    """(H,W) metres along the camera's z; 0 where nothing is"""
    normals: Floats
    """(H,W,3) unit, camera space in OpenCV axes (x right, y down, z forward); 0 where nothing is"""
    face: NDArray[np.int32]
    """(H,W) triangle, -1 where nothing is"""


@dataclass(frozen=True, eq=False)
class Drawing:
    """One frame."""

    rgb: NDArray[np.uint8]
    """(H,W,3) sRGB over the background"""
    mask: NDArray[np.uint8]
    """(H,W) cover of the figure, 255 = all of the pixel"""


def geometry_of(normals: Doubles, faces: NDArray[np.int32], seen: Visible, camera: Camera) -> Geometry:
    """Depth, smooth normals and triangles of what is visible.

    Args:
        normals: (V,3) world, unit, of the vertices.
        faces: (F,3).
        seen: at the camera's own size.
    """
    fragments = seen.fragments
    turned = (normals @ camera.view[:3, :3].T).astype(np.float32)
    mixed = _mixed(turned, faces[fragments.face], fragments.bary)
    mixed /= np.maximum(np.sqrt(np.einsum("nc,nc->n", mixed, mixed)), 1e-9)[:, None]
    return Geometry(
        depth=np.asarray(seen.picture(fragments.depth), np.float32),
        normals=np.asarray(seen.picture(mixed), np.float32),
        face=np.asarray(seen.picture(fragments.face, -1), np.int32),
    )


class MeshRenderer:
    """Draws one figure under one light.

    Args:
        figure: whom.
        lighting: the clip's light; its shadows are those of the head at rest.
        background: (H,W,3) linear, the picture's size.
        supersample: samples per pixel along each axis.
    """

    def __init__(self, figure: Figure, lighting: Lighting, background: Floats, supersample: int = 2) -> None:
        self.figure, self.lighting, self.background = figure, lighting, background
        self.supersample = supersample
        self._key_seen = light_share(figure, figure.template, lighting.key)
        inner = figure.head.weights[:, 3:].sum(axis=1) > 0.5
        self._key_seen[inner] = 0.6  # an eyeball turns, its shadow does not
        # Shut at rest, the mouth would have no light at all; it is as open to the key as to the surroundings.
        mouth = figure.mouth_vertex
        self._key_seen[mouth] = 0.75 * figure.ambient[mouth]
        self._wrap = np.where(figure.cover < 1.9, 0.55, 0.22)
        self._is_hair = np.arange(len(figure.head.faces)) >= figure.head_faces

    def draw(self, points: Doubles, camera: Camera, skin: Skin | None = None) -> Drawing:
        """One frame of posed vertices (V,3), `figure.vertices`: its colour and mask.

        skin: creases and blood, `figure.skin`; None is skin at rest.
        """
        normals = vertex_normals(points, self.figure.head.faces)
        fine = self._rasterize(points, _finer(camera, self.supersample))
        colour = self._shade(points, normals, fine.fragments, camera, skin)
        side = self.supersample
        total = np.zeros((fine.height * fine.width, 4), np.float32)
        total[fine.fragments.pixel, :3] = np.minimum(colour, 4)
        total[fine.fragments.pixel, 3] = 1
        grid = total.reshape(camera.height, side, camera.width, side, 4)
        mean = np.zeros((camera.height, camera.width, 4), np.float32)
        for i in range(side):
            for j in range(side):
                mean += grid[:, i, :, j]
        mean /= side * side
        rgb = to_srgb(mean[..., :3] + (1 - mean[..., 3:]) * self.background)
        return Drawing(
            rgb=np.rint(rgb * 255).astype(np.uint8),
            mask=np.rint(mean[..., 3] * 255).astype(np.uint8),
        )

    def geometry(self, points: Doubles, camera: Camera) -> Geometry:
        """Depth, normals and triangles of the head and its hair; triangles from `figure.head_faces` on are hair."""
        faces = self.figure.head.faces
        return geometry_of(vertex_normals(points, faces), faces, self._rasterize(points, camera), camera)

    def _rasterize(self, points: Doubles, camera: Camera) -> Visible:
        figure = self.figure
        cut_out = self._is_hair | figure.lash
        return rasterize(points, figure.head.faces, camera, figure.two_sided, cut_out, self._is_there)

    def _is_there(self, fragments: Fragments) -> NDArray[np.bool_]:
        """Which fragments the cut-outs of hair and lashes leave."""
        hair = self._is_hair[fragments.face]
        there = np.empty(len(hair), bool)
        for chosen, lookup in ((hair, self._strand_there), (~hair, self._lash_there)):
            index = np.flatnonzero(chosen)
            there[index] = lookup(fragments.take(index))
        return there

    def _strand_there(self, fragments: Fragments) -> NDArray[np.bool_]:
        corners = self.figure.head.faces[fragments.face]
        cover = _mixed(self.figure.cover, corners, fragments.bary)
        row, column = self._strand_texel(fragments)
        return np.asarray(self.figure.cut[row, column] < cover)

    def _lash_there(self, fragments: Fragments) -> NDArray[np.bool_]:
        return np.asarray(self.figure.lash_cut[self._texel(fragments)])

    def _coordinates(self, fragments: Fragments) -> Floats:
        uv = self.figure.uv[fragments.face]
        return np.asarray(sum(fragments.bary[:, corner, None] * uv[:, corner] for corner in range(3)))

    def _texel(self, fragments: Fragments) -> NDArray[np.int32]:
        at = np.rint(self._coordinates(fragments)).astype(np.int32)
        np.clip(at, 0, SIZE - 1, out=at)
        return np.asarray(at[:, 1] * SIZE + at[:, 0])

    def _strand_texel(self, fragments: Fragments) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        at = np.floor(self._coordinates(fragments)).astype(np.int32)
        return at[:, 1] % STRANDS[0], at[:, 0] % STRANDS[1]

    def _shade(
        self, points: Doubles, normals: Doubles, fragments: Fragments, camera: Camera, skin: Skin | None
    ) -> Floats:
        """(N,3) linear colour. Light is a matter of vertices, the mesh is fine; texture and eyes of fragments."""
        figure = self.figure
        light = irradiance(normals, figure.ambient, self._key_seen, self.lighting, self._wrap)
        shine = self._shine(points, normals, camera)
        at_vertex = np.concatenate([light, shine[:, None]], axis=1).astype(np.float32)
        if skin is not None and skin.blood.any():  # it is below the shine
            at_vertex[:, :3] *= tint(figure.blood, skin.blood)
        corners = figure.head.faces[fragments.face]
        mixed = _mixed(at_vertex, corners, fragments.bary)
        hair = self._is_hair[fragments.face]
        bare = np.flatnonzero(~hair)
        texel = self._texel(fragments.take(bare))
        paint = np.empty((len(corners), 4), np.float32)
        paint[bare] = figure.atlas[texel]
        if skin is not None and skin.creases.any():
            row = figure.creases.index[texel]
            there = np.flatnonzero(row)
            index = bare[there]
            tilt = self._tilt(points, normals, camera, skin)
            mixed[index] = _creased(
                mixed[index], figure.creases.at(skin.creases)[row[there]], tilt, corners[index], fragments.bary[index]
            )
        strands = np.flatnonzero(hair)
        if len(strands):
            row, column = self._strand_texel(fragments.take(strands))
            paint[strands, :3] = figure.strands[row, column]
            paint[strands, 3] = 0.03 + 0.12 * paint[strands, :3].mean(axis=1)
        colour = paint[:, :3] * mixed[:, :3] + (paint[:, 3] * mixed[:, 3])[:, None]
        eyes = np.flatnonzero(figure.eyeball[fragments.face])
        if len(eyes):
            colour[eyes] += self._cornea(points, normals, fragments.take(eyes), camera)
        return np.asarray(colour, np.float32)

    def _tilt(self, points: Doubles, normals: Doubles, camera: Camera, skin: Skin) -> Floats:
        """(V,8) change of light and shine for skin that rises by 1 in 1 to the person's left, then upwards; hair: 0."""
        head = slice(self.figure.head_vertices)
        own, half = normals[head], self._half(points[head], camera)
        slopes = []
        for along in (skin.turn[:, 0], skin.turn[:, 1]):
            across = _STEP * (along - own * (own @ along)[:, None])
            low, high = (self._light_of(own + sign * across, half) for sign in (1, -1))
            slopes.append((high - low) / (2 * _STEP))
            slopes[-1][:, :3] *= tint(self.figure.blood[head], skin.blood)
        return np.pad(np.concatenate(slopes, axis=1), ((0, len(points) - len(own)), (0, 0))).astype(np.float32)

    def _light_of(self, normals: Doubles, half: Doubles) -> Doubles:
        """(H,4) light and shine of the head's vertices, had they these normals (H,3), of any length."""
        head = slice(self.figure.head_vertices)
        unit = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        light = irradiance(unit, self.figure.ambient[head], self._key_seen[head], self.lighting, self._wrap[head])
        shine = _skin_shine(unit, half) * self._key_seen[head]
        return np.concatenate([light, shine[:, None]], axis=1)

    def _half(self, points: Doubles, camera: Camera) -> Doubles:
        """(V,3) unit vectors half-way between the camera and the key."""
        toward = _eye_of(camera) - points
        toward /= np.linalg.norm(toward, axis=1, keepdims=True)
        half = toward + self.lighting.key
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        return np.asarray(half)

    def _shine(self, points: Doubles, normals: Doubles, camera: Camera) -> Doubles:
        """(V,) highlight of the key: a broad one on skin (Blinn-Phong), a band across strands (Kajiya and Kay)."""
        half = self._half(points, camera)
        shine = _skin_shine(normals, half)
        strands = slice(self.figure.head_vertices, None)
        along = CROWN - normals[strands] * (normals[strands] @ CROWN)[:, None]
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        across = 1 - (along * half[strands]).sum(axis=1) ** 2
        facing = np.clip(normals[strands] @ self.lighting.key, 0, 1)
        shine[strands] = 2.2 * across**_HAIR_SHINE * facing
        shine[self.figure.eyeball_vertex] = 0
        return np.asarray(shine * self._key_seen)

    def _cornea(self, points: Doubles, normals: Doubles, fragments: Fragments, camera: Camera) -> Floats:
        """(N,3) catch-lights of key and fill on the wet eye."""
        corners = self.figure.head.faces[fragments.face]
        normal = (normals[corners] * fragments.bary[:, :, None]).sum(axis=1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        toward = _eye_of(camera) - (points[corners] * fragments.bary[:, :, None]).sum(axis=1)
        toward /= np.linalg.norm(toward, axis=1, keepdims=True)
        total = np.zeros((len(normal), 3))
        for direction, colour in ((self.lighting.key, 2.6), (self.lighting.fill, 0.35)):
            half = toward + direction
            half /= np.linalg.norm(half, axis=1, keepdims=True)
            total += colour * np.clip((normal * half).sum(axis=1), 0, 1)[:, None] ** _CORNEA
        return total.astype(np.float32)


def _skin_shine(normals: Doubles, half: Doubles) -> Doubles:
    """(V,) before shadows."""
    return np.asarray(3.0 * np.clip((normals * half).sum(axis=1), 0, 1) ** _SKIN_SHINE)


def _creased(lit: Floats, crease: Floats, tilt: Floats, corners: NDArray[np.int32], bary: Floats) -> Floats:
    """(N,4) light and shine of creased skin: tilted, and hidden from a share of what comes.

    Args:
        lit: (N,4) what smooth skin has.
        crease: (N,3) slopes and share, `Creases.at`.
        tilt: (V,8) `MeshRenderer._tilt`.
        corners: (N,3) of the fragments, as is bary.
    """
    slope = _mixed(tilt, corners, bary)
    light = lit + crease[:, :1] * slope[:, :4] + crease[:, 1:2] * slope[:, 4:]
    light = np.clip(light, _LEAST_LIT * lit, _MOST_LIT * lit)
    return np.asarray(light * (1 - crease[:, 2:] * _HIDDEN), np.float32)


def _mixed(values: Floats, corners: NDArray[np.int32], bary: Floats) -> Floats:
    """Vertex values (V,…) at fragments: corners (N,3), shares (N,3)."""
    shares = bary if values.ndim == 1 else bary[:, :, None]
    return np.asarray(sum(np.take(values, corners[:, corner], axis=0) * shares[:, corner] for corner in range(3)))


def _finer(camera: Camera, times: int) -> Camera:
    """The same view with `times` samples per pixel along each axis, evenly inside each pixel."""
    return Camera(
        camera.view,
        camera.fx * times,
        camera.fy * times,
        camera.cx * times,
        camera.cy * times,
        camera.width * times,
        camera.height * times,
    )


def _eye_of(camera: Camera) -> Doubles:
    """(3,) the camera's place in the world."""
    return np.asarray(-camera.view[:3, :3].T @ camera.view[:3, 3])
