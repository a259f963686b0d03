"""The CUDA kernels one by one, run on the host, against float64."""

from __future__ import annotations

import sys
from pathlib import Path

import egg
import numpy as np
import pytest
import reference

from emotag import plugins
from emotag.plugins import cuda
from emotag.plugins.cuda import Array, Stages

sys.path.append(str(Path(__file__).parent / "cuda_host"))
import emulated  # noqa: E402


@pytest.fixture(scope="module")
def scene() -> plugins.Scene:
    head = egg.head()
    gaussians = egg.gaussians(head, 1200)
    return plugins.Scene(head, gaussians, egg.mouth(gaussians, 50))


def drawing_of(scene: plugins.Scene, count: int = 1, **options: bool) -> emulated.Drawing:
    camera = egg.camera(64, 64)
    audio = np.random.default_rng(3).normal(0, 1, 256).astype(np.float32)
    avatars = [emulated.Controls(*egg.controls(scene.head, i), camera, audio=audio / (1 + i)) for i in range(count)]
    return emulated.Drawing(scene, avatars, cuda.Options(0, 0, **options))


@pytest.mark.parametrize(("rows", "columns", "expressions"), [(24, 32, 20), (5, 3, 1), (11, 7, 0), (9, 9, 101)])
@pytest.mark.parametrize("outside", [False, True])
def test_skin_agrees_with_float64(rows: int, columns: int, expressions: int, outside: bool) -> None:
    """In the workspace, and in an array of the caller's; for more avatars than share a reading of the bases."""
    head = egg.head(rows, columns, expressions)
    drawing = drawing_of(plugins.Scene(head, egg.gaussians(head, 10)), 6)
    shape = (6, rows * columns, 3)
    if outside:
        drawing.vertices = emulated.memory(int(np.prod(shape)) * 4).view(np.float32).reshape(shape)
    drawing.run(Stages.SKIN)
    vertices = drawing.vertices
    if vertices is None:
        padded = drawing.array(Array.VERTICES, np.float32).reshape(6, rows * columns, 4)
        assert (padded[..., 3] == 1).all()
        vertices = padded[..., :3]
    for i in range(6):
        assert np.abs(vertices[i] - reference.skin(head, *egg.controls(head, i))).max() < 3e-7


def test_the_networks_jaw_replaces_the_controls(scene: plugins.Scene) -> None:
    expression, pose, translation = egg.controls(scene.head)
    jaw = np.array([0.3, 0.02, -0.01], np.float32)
    one = emulated.Controls(expression, pose, translation, egg.camera(32, 32), jaw=jaw)
    drawing = emulated.Drawing(scene, [one], cuda.Options(0, 0))
    drawing.run(Stages.SKIN)
    pose[2] = jaw
    vertices = drawing.array(Array.VERTICES, np.float32).reshape(-1, 4)[:, :3]
    assert np.abs(vertices - reference.skin(scene.head, expression, pose, translation)).max() < 3e-7


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_bind_agrees_with_float64(activation: str) -> None:
    head = egg.head()
    gaussians = egg.gaussians(head, 700, activation=activation)
    drawing = drawing_of(plugins.Scene(head, gaussians, egg.mouth(gaussians, 30)))
    drawing.run(Stages.SKIN)
    out = [emulated.memory(700 * 4 * width).view(np.float32).reshape(700, width) for width in (3, 4, 3)]
    drawing.plan.bound(drawing.buffers(), *map(emulated.address, out))
    wanted = reference.bind(reference.skin(head, *egg.controls(head)), head.faces, gaussians)
    means, quats, scales = out
    assert np.abs(means - wanted.means).max() < 1e-5 * np.abs(wanted.means).max()
    assert (np.abs(scales - wanted.scales) < 3e-5 * wanted.scales).all()
    assert (np.abs((quats * wanted.quats).sum(axis=1)) > 1 - 1e-6).all()


@pytest.mark.parametrize(("count", "width"), [(50, 256), (16, 1), (33, 133)])
def test_mouth_agrees_with_float64(count: int, width: int) -> None:
    head = egg.head()
    gaussians = egg.gaussians(head, 300)
    mouth = egg.mouth(gaussians, count, audio=width)
    scene, controls = plugins.Scene(head, gaussians, mouth), egg.controls(head)
    audios = np.random.default_rng(7).normal(0, 1, (2, width)).astype(np.float32)
    avatars = [emulated.Controls(*controls, egg.camera(16, 16), audio=audio) for audio in audios]
    drawing = emulated.Drawing(scene, avatars, cuda.Options(0, 0, mouth_moves=True))
    drawing.run(Stages.SKIN | Stages.MOUTH)
    moved = drawing.array(Array.MOUTH_MOVES, np.float32).reshape(2, -1, 12)[:, :count]
    bound = reference.bind(reference.skin(head, *controls), head.faces, gaussians)
    local = reference.unit(gaussians.quats[mouth.index].astype(np.float64))
    for i, audio in enumerate(audios):
        d_mu, d_rot, d_scale = reference.mouth_offsets(bound.means[mouth.index], audio, mouth)
        assert np.abs(moved[i, :, :3] - d_mu).max() < 2e-5 * np.abs(d_mu).max()
        turn = reference.matrices(reference.quaternion_product(local, reference.unit(d_rot)))
        scales = gaussians.activated_scales()[mouth.index] * reference.softplus(d_scale)
        covariance = np.einsum("nij,nj,nkj->nik", turn, scales**2, turn)
        upper = covariance[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
        assert np.abs(moved[i, :, 3:9] - upper).max() < 1e-4 * np.abs(upper).max()


def test_projection_agrees_with_float64(scene: plugins.Scene) -> None:
    drawing = drawing_of(scene)
    drawing.run(Stages.SKIN | Stages.PROJECT)
    visible = drawing.array(Array.COUNTS, np.uint32) > 0
    raw = drawing.array(Array.RECORDS, np.float32).reshape(-1, 8)[visible]
    halves = np.ascontiguousarray(raw[:, 6:]).view(np.float16)[:, :3]
    bound = reference.bind(reference.skin(scene.head, *egg.controls(scene.head)), scene.head.faces, scene.gaussians)
    splats = reference.project(bound, scene.gaussians.activated_opacities(), scene.gaussians.sh, 3, egg.camera(64, 64))
    assert 0.9 * len(splats.centres) < visible.sum() <= len(splats.centres)
    match = ((raw[:, None, :2] - splats.centres[None]) ** 2).sum(-1).argmin(1)
    assert np.abs(raw[:, :2] - splats.centres[match]).max() < 2e-3
    conics = -raw[:, [2, 3, 4]] / np.log2(np.e) * [2, 1, 2]
    assert np.abs(conics - splats.conics[match]).max() < 2e-3 * np.abs(splats.conics).max()
    assert np.abs(halves - splats.colours[match]).max() < 2e-3
    levels = np.log2(255 * splats.opacities[match])
    assert np.abs(raw[:, 5] - levels).max() < 1e-4


def test_sort_lists_every_pair_once(scene: plugins.Scene) -> None:
    drawing = drawing_of(scene, 3)
    status = drawing.run(Stages.SKIN | Stages.PROJECT | Stages.SORT)
    begin = drawing.array(Array.TILE_BEGIN, np.uint32).astype(int)
    counts = drawing.array(Array.COUNTS, np.uint32)
    assert len(begin) == 3 * 16 + 1
    assert begin[0] == 0 and begin[-1] == status.pairs == counts.sum()
    assert (np.diff(begin) >= 0).all() and (np.diff(begin) > 0).sum() > 20


def test_stages_one_by_one_make_the_frame(scene: plugins.Scene) -> None:
    whole, parts = drawing_of(scene, mouth_moves=True), drawing_of(scene, mouth_moves=True)
    whole.run()
    for stage in (Stages.SKIN, Stages.MOUTH, Stages.PROJECT, Stages.SORT, Stages.BLEND):
        parts.run(stage)
        parts.run(stage)  # and each may run again on what it was given
    assert (whole.picture == parts.picture).all()
