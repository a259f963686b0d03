"""The stages whose results never leave the GPU, against float64: mouth, projection, sort. On 1,200 Gaussians."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from emotag import plugins
from emotag.plugins.cuda import Array, Options, Stages

from .gpu_device import AUDIO_WIDTH, Drawing, Gpu, egg, reference

SIZE = 64
MOUTH = 50


@cache
def small_scene() -> plugins.Scene:
    """A head that float64 arithmetic in numpy gets through."""
    head = egg.head()
    gaussians = egg.gaussians(head, 1200)
    return plugins.Scene(head, gaussians, egg.mouth(gaussians, MOUTH, audio=AUDIO_WIDTH))


def stage_errors(gpu: Gpu) -> Iterator[tuple[str, float, float]]:
    """Name, value and its largest allowed value, of each comparison."""
    yield from _mouth(gpu)
    yield from _projection(gpu)
    yield from _sort(gpu)


def _mouth(gpu: Gpu) -> Iterator[tuple[str, float, float]]:
    scene = small_scene()
    drawing = Drawing(gpu, scene, Options(SIZE, SIZE, mouth_moves=True))
    drawing.run(Stages.SKIN | Stages.MOUTH)
    moved = drawing.array(Array.MOUTH_MOVES, np.float32).reshape(-1, 12)[:MOUTH, :3]
    assert scene.mouth is not None
    bound = reference.bind(reference.skin(scene.head, *egg.controls(scene.head)), scene.head.faces, scene.gaussians)
    wanted, _, _ = reference.mouth_offsets(bound.means[scene.mouth.index], drawing.audio, scene.mouth)
    yield "mouth: largest error of offsets, relative", _largest(moved - wanted) / _largest(wanted), 1e-4


def _projection(gpu: Gpu) -> Iterator[tuple[str, float, float]]:
    scene = small_scene()
    drawing = Drawing(gpu, scene, Options(SIZE, SIZE))
    drawing.run(Stages.SKIN | Stages.PROJECT)
    visible = drawing.array(Array.COUNTS, np.uint32) > 0
    records = drawing.array(Array.RECORDS, np.float32).reshape(-1, 8)[visible]
    bound = reference.bind(reference.skin(scene.head, *egg.controls(scene.head)), scene.head.faces, scene.gaussians)
    opacities = scene.gaussians.activated_opacities()
    degree = scene.gaussians.active_sh_degree
    splats = reference.project(bound, opacities, scene.gaussians.sh, degree, drawing.camera)
    match = ((records[:, None, :2] - splats.centres[None]) ** 2).sum(-1).argmin(1)
    conics = -records[:, [2, 3, 4]] / np.log2(np.e) * [2, 1, 2]
    colours = np.ascontiguousarray(records[:, 6:]).view(np.float16)[:, :3]
    yield "projection: largest error of centres, pixels", _largest(records[:, :2] - splats.centres[match]), 2e-3
    scale = _largest(splats.conics)
    yield "projection: largest error of conics, relative", _largest(conics - splats.conics[match]) / scale, 2e-3
    yield "projection: largest error of colours", _largest(colours - splats.colours[match]), 2e-3


def _sort(gpu: Gpu) -> Iterator[tuple[str, float, float]]:
    """Every pair is in one list, and each list is a stretch of its own."""
    drawing = Drawing(gpu, small_scene(), Options(SIZE, SIZE, avatars=3))
    status = drawing.run(Stages.SKIN | Stages.PROJECT | Stages.SORT)
    begin = drawing.array(Array.TILE_BEGIN, np.uint32).astype(int)
    counted = int(drawing.array(Array.COUNTS, np.uint32).sum())
    yield "sort: pairs that are missing or twice", float(abs(begin[-1] - counted) + abs(status.pairs - counted)), 0.0
    yield "sort: lists that overlap", float((np.diff(begin) < 0).sum()), 0.0


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())
