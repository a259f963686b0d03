"""The mesh renderer against what geometry says: projection, depth, normals, edges and cut-outs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from emotag.plugins.camera import Camera
from emotag.training.synth.light import draw_lighting, to_srgb
from emotag.training.synth.mesh_renderer import geometry_of
from emotag.training.synth.raster import Fragments, project, rasterize

FACING = np.diag([1.0, -1.0, -1.0, 1.0])  # looks along -z, y up


def camera(size: int = 96, distance: float = 1.0, focal: float = 2.0) -> Camera:
    view = FACING.copy()
    view[2, 3] = distance
    return Camera(view, focal * size, 1.1 * focal * size, 0.5 * size + 1.3, 0.5 * size - 2.1, size, size)


def rays(view: Camera, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
    """(N,3) camera-space directions of z = 1 through pixel centres: u = fx·x/z + cx - 0.5."""
    x = (columns + 0.5 - view.cx) / view.fx
    return np.stack([x, (rows + 0.5 - view.cy) / view.fy, np.ones_like(x)], axis=1)


def test_points_land_where_the_bundle_says() -> None:
    points = np.array([[0.0, 0.0, 0.0], [0.03, -0.02, 0.1], [-0.07, 0.05, -0.2]])
    local, pixels = project(points, view := camera())
    np.testing.assert_allclose(local, points * [1, -1, -1] + [0, 0, 1.0])
    np.testing.assert_allclose(pixels[0], [view.cx - 0.5, view.cy - 0.5])
    np.testing.assert_allclose(pixels[1], [view.fx * 0.03 / 0.9 + view.cx - 0.5, view.fy * 0.02 / 0.9 + view.cy - 0.5])


def test_a_tilted_triangle_has_the_depth_and_normal_of_its_plane() -> None:
    view = camera()
    corners = np.array([[-0.15, -0.12, 0.2], [0.16, -0.1, -0.25], [0.02, 0.17, 0.1]])
    seen = rasterize(corners, np.array([[0, 1, 2]], np.int32), view)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    normal /= np.linalg.norm(normal)
    geometry = geometry_of(np.tile(normal, (3, 1)), np.array([[0, 1, 2]], np.int32), seen, view)
    rows, columns = np.nonzero(geometry.face == 0)
    assert len(rows) > 500
    local, _ = project(corners, view)
    plane = view.view[:3, :3] @ normal
    exact = (plane @ local[0]) / (rays(view, rows, columns) @ plane)
    np.testing.assert_allclose(geometry.depth[rows, columns], exact, rtol=2e-6)
    np.testing.assert_allclose(geometry.normals[rows, columns], np.tile(plane, (len(rows), 1)), atol=1e-6)
    assert plane[2] < 0  # what is seen faces the camera
    assert (geometry.depth[geometry.face < 0] == 0).all()


def test_shares_are_perspective_correct() -> None:
    view = camera()
    corners = np.array([[-0.15, -0.12, 0.4], [0.16, -0.1, -0.5], [0.02, 0.17, 0.1]])
    found = rasterize(corners, np.array([[0, 1, 2]], np.int32), view).fragments
    hit = found.bary.astype(np.float64) @ project(corners, view)[0]
    directions = rays(view, found.pixel // view.width, found.pixel % view.width)
    np.testing.assert_allclose(hit, directions * found.depth[:, None], atol=1e-6)
    np.testing.assert_allclose(found.bary.sum(axis=1), 1, atol=1e-6)


def sphere(rings: int = 60, radius: float = 0.12) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    down, around = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings), indexing="ij")
    points = radius * np.stack([np.sin(down) * np.cos(around), np.cos(down), -np.sin(down) * np.sin(around)], -1)
    index = np.arange(down.size).reshape(down.shape)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.stack([a, b, c, a, c, d], -1).reshape(-1, 3)
    return points.reshape(-1, 3), faces.astype(np.int32)


def test_a_sphere_has_its_depth_normals_and_outline() -> None:
    view = camera()
    points, faces = sphere()
    geometry = geometry_of(points / 0.12, faces, rasterize(points, faces, view), view)
    rows, columns = np.nonzero(geometry.face >= 0)
    directions = rays(view, rows, columns)
    square, half = (directions**2).sum(axis=1), directions[:, 2]  # |t·d - (0,0,1)| = radius
    root = half**2 - square * (1 - 0.12**2)
    inner = root > 0.002
    depth = (half[inner] - np.sqrt(root[inner])) / square[inner]
    np.testing.assert_allclose(geometry.depth[rows, columns][inner], depth, atol=4e-4)
    expected = (directions[inner] * depth[:, None] - [0, 0, 1]) / 0.12
    assert (geometry.normals[rows, columns][inner] * expected).sum(axis=1).min() > 0.999
    # The outline is an ellipse: tan² of the half angle is radius² / (distance² - radius²).
    area = np.pi * view.fx * view.fy * 0.12**2 / (1 - 0.12**2)
    assert len(rows) == pytest.approx(area, rel=0.02)


def test_neighbours_neither_overlap_nor_leave_a_gap() -> None:
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.linspace(-0.2, 0.2, 12), np.linspace(-0.2, 0.2, 12), indexing="ij"), -1).reshape(
        -1, 2
    )
    points = np.concatenate([grid + rng.normal(0, 0.004, grid.shape), np.zeros((144, 1))], axis=1)
    index = np.arange(144).reshape(12, 12)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.stack([a, b, c, a, c, d], -1).reshape(-1, 3).astype(np.int32)
    asked: list[Fragments] = []

    def keep(fragments: Fragments) -> NDArray[np.bool_]:
        asked.append(fragments)
        return np.ones(len(fragments.face), bool)

    view = camera()
    rasterize(points, faces, view, None, np.ones(len(faces), bool), keep)
    count = np.bincount(asked[0].pixel, minlength=view.width * view.height).reshape(view.height, view.width)
    assert count.max() == 1
    inside = count[25:70, 35:65]
    assert (inside == 1).all()


def test_backs_are_drawn_only_where_asked_and_holes_let_through() -> None:
    view = camera()
    square = np.array([[-0.1, -0.1, 0], [0.1, -0.1, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0]])
    front = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    assert len(rasterize(square, front, view).fragments.face) > 0
    assert len(rasterize(square, front[:, ::-1].copy(), view).fragments.face) == 0
    both = rasterize(square, front[:, ::-1].copy(), view, np.ones(2, bool)).fragments
    assert len(both.face) == len(rasterize(square, front, view).fragments.face)
    two = np.concatenate([square, square - [0, 0, 0.1]])
    faces = np.concatenate([front, front + 4]).astype(np.int32)
    holes = np.array([True, True, False, False])
    seen = rasterize(two, faces, view, None, holes, lambda fragments: fragments.pixel % 2 == 0)
    first = seen.fragments.face < 2
    assert (seen.fragments.pixel[first] % 2 == 0).all() and first.any()
    np.testing.assert_allclose(seen.fragments.depth[~first], 1.1, rtol=1e-6)


def test_light_is_the_same_for_a_seed_and_the_tone_curve_rises() -> None:
    first, second = (draw_lighting(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.harmonics, second.harmonics)
    assert np.linalg.norm(first.key) == pytest.approx(1)
    value = to_srgb(np.linspace(0, 3, 200))
    assert (np.diff(value) > 0).all() and value[0] == 0 and value[-1] <= 1
    assert to_srgb(np.array([0.2140411]))[0] == pytest.approx(0.5, abs=1e-4)
