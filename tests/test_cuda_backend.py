"""The backends' drawing with the real kernels, run on the host, behind a stand-in for the CUDA runtime."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import egg
import gpu_fake
import numpy as np
import reference

from emotag import plugins
from emotag.plugins import cuda
from emotag.runtime.backends import Driver
from emotag.runtime.backends.bound import Stream
from emotag.runtime.backends.canvas import Canvas, DeviceRenderer, DeviceScene

sys.path.append(str(Path(__file__).parent / "cuda_host"))
import emulated  # noqa: E402


class Plan:
    """A real plan whose launches go through the stand-in's streams, so that they are recorded and replayed."""

    def __init__(self, cudart: gpu_fake.Cudart, plan: cuda.Plan) -> None:
        self._cudart, self._plan = cudart, plan
        self.options, self.workspace_bytes, self.bind = plan.options, plan.workspace_bytes, plan.bind

    def run(self, buffers: cuda.Buffers, stream: int = 0) -> None:
        self._cudart.enqueue(stream, "draw", lambda: self._plan.run(buffers))

    def grown(self, status: cuda.Status) -> Plan:
        return Plan(self._cudart, self._plan.grown(status))


class Kernels:
    """The emulated library; plans begin with room for a hundred pairs."""

    def __init__(self, cudart: gpu_fake.Cudart) -> None:
        self._cudart, self._library = cudart, emulated.load()
        self.pack = self._library.pack

    def plan(self, blob: Any, options: cuda.Options) -> Plan:
        return Plan(self._cudart, self._library.plan(blob, replace(options, pairs=options.pairs or 100)))


def test_renderer_of_a_backend_draws_as_the_cpu_does() -> None:
    """Moving controls, changing backgrounds, an overflow in the first frame, recorded and replayed frames."""
    head = egg.head(12, 16, 8)
    gaussians = egg.gaussians(head, 600)
    scene = plugins.Scene(head, gaussians, egg.mouth(gaussians, 30))
    cudart = gpu_fake.Cudart()
    driver = Driver(0, cudart)
    stream, kernels = Stream(driver), Kernels(cudart)
    canvas = Canvas(driver, kernels, DeviceScene(driver, kernels, scene, stream.handle), 48, 40)
    renderer, on_cpu = DeviceRenderer(driver, canvas, stream), plugins.Renderer(scene, 1)
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (40, 48, 3), np.uint8)
    colours = [(0.1 * i, 0.5, 0.9) for i in range(4)]
    for i, background in enumerate([*colours, image, image, None, (0.0, 0.0, 0.0)]):
        audio = random.normal(0, 1, 256).astype(np.float32)
        frame = (*egg.controls(head, i), egg.camera(48, 40, turn=0.1 * i), audio, background)
        picture = renderer.draw(*frame)
        wanted = on_cpu.draw(*frame)
        assert picture.shape == wanted.shape
        assert reference.decibels(picture, wanted, 255) > 45
    assert any(line.startswith("launch") for line in cudart.log)  # some of them were replayed
