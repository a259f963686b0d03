"""Eyes and lashes of the demo avatar. Eyeballs are exact spheres; they turn with the eye joints."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .appearance_surface import Array, Splats, Surface, noise, smoothstep, splats, unit

__all__ = ["eyes", "lashes"]

_IRIS = 0.0061
_PUPIL = 0.0022
_SCLERA = np.array([0.70, 0.655, 0.62])
_VEIN = np.array([0.60, 0.36, 0.32])
_IRIS_INNER = np.array([0.20, 0.115, 0.04])
_IRIS_OUTER = np.array([0.055, 0.115, 0.105])
_LASH = np.array([0.012, 0.008, 0.007])


def eyes(surface: Surface, rng: np.random.Generator, seed: int) -> list[Splats]:
    """Both eyeballs with iris, pupil, limbal ring and catch-lights."""
    joints = surface.head.joint_regressor.astype(np.float64) @ surface.vertices
    parts = []
    for joint, region in ((3, "left_eye"), (4, "right_eye")):
        centre = joints[joint]
        faces = surface.region(region)
        vertices = surface.vertices[np.unique(surface.faces[faces])]
        radius = float(np.linalg.norm(vertices - centre, axis=1).min())
        front = faces & (surface.centroids[:, 2] > centre[2] + 0.001)
        near = front & (np.hypot(*(surface.centroids[:, :2] - centre[:2]).T) < 0.0085)
        for mask, spacing, keep in ((near, 0.00038, (0.0, 0.0068)), (front, 0.00085, (0.0060, 1.0))):
            points = surface.sample(mask, spacing, rng)
            outward = unit(points.position - centre)
            offset = radius * np.arccos(np.clip(outward[:, 2], -1, 1))
            chosen = (offset >= keep[0]) & (offset < keep[1])
            outward, offset = outward[chosen], offset[chosen]
            albedo = _eye_colour(outward, offset, radius, np.sign(centre[0]), seed)
            width = 0.78 * spacing
            parts.append(
                splats(
                    points.face_index[chosen],
                    centre + outward * radius,
                    outward,
                    (width, width, 0.1 * width),
                    albedo,
                    glow=1.0,
                    opacity=0.98,
                )
            )
        parts.append(_catch_lights(surface, front, centre, radius))
    return parts


def _eye_colour(outward: Array, offset: Array, radius: float, side: float, seed: int) -> Array:
    """(N,3) colour on the eyeball; `offset` is the distance from the pupil's middle in metres."""
    across, up = outward[:, 0] * radius, outward[:, 1] * radius
    angle = np.arctan2(up, across)
    fibre = np.sin(angle * 37 + 2 * np.sin(angle * 5 + seed)) * 0.5 + np.sin(angle * 61 + 1.3) * 0.3
    blend = smoothstep(offset + 0.0005 * fibre, 0.0026, 0.0046)[:, None]
    iris = (_IRIS_INNER + (_IRIS_OUTER - _IRIS_INNER) * blend) * (1.25 + 0.40 * fibre[:, None])
    iris = iris * (1.0 + 0.55 * smoothstep(-up, -0.001, 0.004) - 0.45 * smoothstep(up, 0.0005, 0.0045))[:, None]
    iris = iris * (1 - 0.80 * smoothstep(offset, 0.0048, 0.0060))[:, None]
    iris = iris * smoothstep(offset, _PUPIL - 0.0002, _PUPIL + 0.0003)[:, None] + 0.004
    medial = smoothstep(-side * across, 0.006, 0.0125)[:, None]
    sclera = _SCLERA + (_VEIN - _SCLERA) * (0.9 * medial + 0.06 + 0.05 * noise(outward, 0.15, seed + 20)[:, None])
    sclera = sclera * (1 - 0.42 * smoothstep(np.abs(across), 0.006, 0.0135))[:, None]
    sclera = sclera * (1 - 0.55 * smoothstep(up, 0.0005, 0.0050) - 0.15 * smoothstep(-up, 0.003, 0.0055))[:, None]
    edge = smoothstep(offset, _IRIS - 0.0004, _IRIS + 0.0004)[:, None]
    return np.asarray(np.clip(iris + (sclera - iris) * edge, 0.002, 1))


def _catch_lights(
    surface: Surface, faces: np.ndarray[tuple[int], np.dtype[np.bool_]], centre: Array, radius: float
) -> Splats:
    """Reflections of key and fill, just in front of the cornea."""
    outward = unit(np.array([[-0.13, 0.10, 1.0], [0.13, -0.12, 1.0]]))
    index = np.flatnonzero(faces)
    nearest = index[((surface.centroids[index] - centre) @ outward.T).argmax(axis=0)]
    size = np.array([[0.00085, 0.00075, 0.00008], [0.00060, 0.00060, 0.00008]])
    return splats(
        nearest,
        centre + outward * (radius + 0.0008),
        outward,
        size,
        np.array([[1.0, 1.0, 1.0], [0.75, 0.85, 1.0]]),
        opacity=np.array([0.97, 0.28]),
        glow=1.0,
    )


def _upper_lid(surface: Surface, region: str) -> Array:
    """(F,) 1 for the faces of the higher of a region's two lash strips, else 0."""
    faces = surface.faces[surface.region(region)]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    size = len(surface.vertices)
    label = connected_components(coo_matrix((np.ones(len(edges)), edges.T), shape=(size, size)), directed=False)[1]
    strips = np.unique(label[faces[:, 0]])
    heights = [surface.vertices[label == strip, 1].mean() for strip in strips]
    upper = np.zeros(len(surface.faces))
    upper[label[surface.faces[:, 0]] == strips[int(np.argmax(heights))]] = 1.0
    return upper


def lashes(surface: Surface, rng: np.random.Generator) -> list[Splats]:
    """Lashes along MakeHuman's lash strips, so they follow the lids; long above, faint below."""
    joints = surface.head.joint_regressor.astype(np.float64) @ surface.vertices
    parts = []
    for joint, region in ((3, "left_lashes"), (4, "right_lashes")):
        points = surface.sample(surface.region(region), 0.00050, rng)
        away = points.position - joints[joint]
        reach = np.linalg.norm(away, axis=1)
        plane = surface.face_normals[points.face_index]
        direction = unit(away - plane * (away * plane).sum(axis=1, keepdims=True))
        upper = _upper_lid(surface, region)[points.face_index]
        fade = smoothstep(reach, 0.0205, 0.0165)
        parts.append(
            splats(
                points.face_index,
                points.position,
                plane,
                (0.00085, 0.00011, 0.00008),
                _LASH,
                tangent=direction + rng.normal(scale=0.12, size=direction.shape),
                opacity=(0.07 + 0.73 * upper) * (0.35 + 0.65 * fade),
                glow=1.0,
            )
        )
    return parts
