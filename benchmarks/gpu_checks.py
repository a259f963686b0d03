"""Is what the GPU draws right: every kernel and whole frames against the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from emotag import plugins
from emotag.plugins.cuda import Array, Options, Stages

from .gpu_device import Drawing, Gpu, egg
from .gpu_stages import stage_errors

LEAST_DECIBELS = 45.0


@dataclass(frozen=True)
class Check:
    """One comparison. `value` must be at least the bar if `more` is better, else at most."""

    name: str
    value: float
    bar: float
    more: bool = False

    @property
    def passed(self) -> bool:
        return self.value >= self.bar if self.more else self.value <= self.bar

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {"name": self.name, "value": self.value, "bar": self.bar, "passed": self.passed}


def decibels(a: np.ndarray, b: np.ndarray, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio; 200 for equal pictures, which JSON can hold."""
    error = np.square(a.astype(np.float64) - b.astype(np.float64)).mean()
    return 200.0 if error == 0 else float(10 * np.log10(peak**2 / error))


def run_checks(gpu: Gpu, scene: plugins.Scene, size: int) -> list[Check]:
    """All of them."""
    parts: list[Callable[[Gpu, plugins.Scene, int], Iterator[Check]]] = [
        check_skin, check_bind, check_stages, check_pictures, check_avatars, check_overflow, check_repeats,
    ]  # fmt: skip
    return [check for part in parts for check in part(gpu, scene, size)]


def check_skin(gpu: Gpu, scene: plugins.Scene, size: int) -> Iterator[Check]:
    """Vertices, metres."""
    drawing = Drawing(gpu, scene, Options(size, size, avatars=5))
    drawing.run()
    vertices = drawing.array(Array.VERTICES, np.float32).reshape(5, -1, 4)[..., :3]
    wanted = np.stack([plugins.skin(scene.head, *egg.controls(scene.head, i)) for i in drawing.avatars])
    yield Check("skin: largest error, metres", float(np.abs(vertices - wanted).max()), 1e-6)


def bound_arrays(drawing: Drawing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World means, quaternions and scales of the Gaussians, by the GPU."""
    count, gpu = len(drawing.scene.gaussians), drawing.gpu
    memory = [gpu.upload(np.zeros((count, width), np.float32)) for width in (3, 4, 3)]
    drawing.run(Stages.SKIN)
    means, quats, scales = (one.pointer for one in memory)
    drawing.plan.bound(drawing.buffers, means, quats, scales, gpu.stream)
    return (
        gpu.read(means, (count, 3), np.float32),
        gpu.read(quats, (count, 4), np.float32),
        gpu.read(scales, (count, 3), np.float32),
    )


def check_bind(gpu: Gpu, scene: plugins.Scene, size: int) -> Iterator[Check]:
    """Gaussians in the world."""
    means, quats, scales = bound_arrays(Drawing(gpu, scene, Options(size, size)))
    vertices = plugins.skin(scene.head, *egg.controls(scene.head))
    wanted = plugins.bind(vertices, scene.head.faces, scene.gaussians)
    yield Check("bind: largest error of means, metres", float(np.abs(means - wanted.means).max()), 2e-6)
    yield Check("bind: 1 - |q·q'|", float(1 - np.abs((quats * wanted.quats).sum(axis=1)).min()), 1e-5)
    yield Check("bind: largest relative error of scales", float(np.abs(scales / wanted.scales - 1).max()), 1e-4)


def check_stages(gpu: Gpu, scene: plugins.Scene, size: int) -> Iterator[Check]:
    """Mouth, projection and sort, on a scene of their own."""
    for name, value, bar in stage_errors(gpu):
        yield Check(name, value, bar)


def check_pictures(gpu: Gpu, scene: plugins.Scene, size: int) -> Iterator[Check]:
    """Whole frames: pixel formats, backgrounds, the mouth, odd sizes."""
    odd = (size * 2 // 3 + 1, size // 2 + 3)
    for width, height in ((size, size), odd, (16, 16), (1, 1)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        cases: list[tuple[str, Options, Any]] = [
            ("rgb8 over a colour", Options(width, height, mouth_moves=True), Drawing.colour(0)),
            ("rgb8, mouth still", Options(width, height), Drawing.colour(0)),
            ("rgb8 over an image", Options(width, height, background="image_u8"), image),
            ("rgba8", Options(width, height, pixels="rgba8", background=None), None),
        ]
        for name, options, background in cases:
            drawing = Drawing(gpu, scene, options, image if background is image else None)
            drawing.work()
            bar = LEAST_DECIBELS if width > 16 else 40.0  # one level in one of a few pixels counts
            value = decibels(drawing.pictures()[0], drawing.on_cpu(background)[0])
            yield Check(f"frame {width}x{height} {name}: dB against the CPU", value, bar, more=True)


def check_avatars(gpu: Gpu, scene: plugins.Scene, size: int) -> Iterator[Check]:
    """Several avatars in one plan."""
    drawing = Drawing(gpu, scene, Options(size, size, avatars=5, mouth_moves=True))
    drawing.work()
    pairs = zip(drawing.pictures(), drawing.on_cpu(Drawing.colour(0)), strict=True)
    least = min(decibels(mine, wanted) for mine, wanted in pairs)
    yield Check("five avatars at once: least dB against the CPU", least, LEAST_DECIBELS, more=True)


def check_overflow(gpu: Gpu, scene: plugins.Scene, size: int) -> Iterator[Check]:
    """Too little room is reported, leaves the picture alone, and is enough once grown."""
    drawing = Drawing(gpu, scene, Options(size, size, pairs=100))
    status = drawing.run()
    yield Check("overflow: reported", float(status.overflow), 1.0, more=True)
    yield Check("overflow: bytes written to the picture", float(np.count_nonzero(drawing.pictures())), 0.0)
    drawing.grow(status)
    yield Check("overflow: again after growing", float(drawing.run().overflow), 0.0)


def check_repeats(gpu: Gpu, scene: plugins.Scene, size: int) -> Iterator[Check]:
    """The same frame comes out the same, bit for bit, also from a graph."""
    drawing = Drawing(gpu, scene, Options(size, size, mouth_moves=True))
    work = drawing.work()
    first = drawing.pictures()
    different = 0
    for _ in range(20):
        drawing.run()
        different += int((drawing.pictures() != first).any())
    gpu.milliseconds(work, 5)
    different += int((drawing.pictures() != first).any())
    yield Check("repeats: frames that differ, of 21", float(different), 0.0)
