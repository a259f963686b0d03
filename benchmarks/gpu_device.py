"""A GPU as the benchmark uses it: memory, plans with their buffers, and clocks on the device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emotag import plugins
from emotag.plugins import cuda
from emotag.runtime.backends import Driver
from emotag.runtime.backends.driver import load_cuda_python
from emotag.runtime.backends.memory import Allocation

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import egg  # noqa: E402
import reference  # noqa: E402

__all__ = ["AUDIO_WIDTH", "Drawing", "Gpu", "egg", "reference", "scene_of"]

Work = Callable[[int], None]
"""Enqueues something on a stream."""
AUDIO_WIDTH = 256


class Gpu:
    """One GPU, one stream, the kernels."""

    def __init__(self, driver: Driver, library: cuda.Library, cudart: Any = None) -> None:
        """cudart: the module whose events are the clock; cuda-python's by default."""
        self.driver, self.library = driver, library
        self.stream = driver.create_stream()
        self._cudart = load_cuda_python() if cudart is None else cudart
        self._events = self._call("cudaEventCreate"), self._call("cudaEventCreate")

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._cudart, name)(*arguments)
        if int(status) != 0:
            raise RuntimeError(f"{name} failed with {status!r}")
        return values[0] if values else None

    def upload(self, array: np.ndarray) -> Allocation:
        """A copy of the array on the device."""
        memory = Allocation(self.driver, array.nbytes)
        self.driver.upload(memory.pointer, np.ascontiguousarray(array), self.stream)
        self.driver.synchronize(self.stream)
        return memory

    def read(self, pointer: int, shape: tuple[int, ...], kind: Any) -> np.ndarray:
        """An array copied back."""
        out = np.empty(shape, kind)
        self.driver.download(out, pointer, self.stream)
        self.driver.synchronize(self.stream)
        return out

    def milliseconds(self, work: Work, runs: int, together: int = 1) -> dict[str, float]:
        """Median and tenth percentile of device milliseconds of `work`, recorded in a CUDA graph, warmed.

        together: how often the graph holds it: for stages that are shorter than a launch.
        """
        work(self.stream)  # not recorded: kernels are loaded at their first use
        self.driver.synchronize(self.stream)
        self.driver.begin_capture(self.stream)
        for _ in range(together):
            work(self.stream)
        graph = self.driver.end_capture(self.stream)
        times = []
        for run in range(runs + 10):
            self._call("cudaEventRecord", self._events[0], self.stream)
            self.driver.launch(graph, self.stream)
            self._call("cudaEventRecord", self._events[1], self.stream)
            self.driver.synchronize(self.stream)
            if run >= 10:
                times.append(self._call("cudaEventElapsedTime", *self._events) / together)
        self.driver.destroy_graph(graph)
        return {"median": float(np.median(times)), "p10": float(np.percentile(times, 10))}


class Drawing:
    """A plan with its memory and the buffers of its frame. Avatar i shows `egg.controls(head, first + i)`."""

    def __init__(
        self,
        gpu: Gpu,
        scene: plugins.Scene,
        options: cuda.Options,
        image: np.ndarray | None = None,
        first: int = 0,
    ) -> None:
        self.gpu, self.scene = gpu, scene
        packed = gpu.library.pack(scene)
        self.blob = gpu.upload(packed)
        self.plan = gpu.library.plan(packed, options)
        self.avatars = range(first, first + options.avatars)
        self.camera = egg.camera(options.width, options.height)
        self.audio = np.random.default_rng(3).normal(0, 1, AUDIO_WIDTH).astype(np.float32)
        states = [egg.controls(scene.head, i) for i in self.avatars]
        self._memory = [
            gpu.upload(np.stack([cuda.controls(self.camera, pose, at, self.colour(0)) for _, pose, at in states])),
            gpu.upload(np.stack([expression for expression, _, _ in states])),
            gpu.upload(np.tile(self.audio, (options.avatars, 1))),
            gpu.upload(np.zeros(options.picture_bytes, np.uint8)),
            gpu.upload(np.zeros(cuda.STATUS_BYTES, np.uint8)),
            gpu.upload(np.zeros(1, np.uint8) if image is None else image),
        ]
        controls, expression, audio, picture, status, background = (memory.pointer for memory in self._memory)
        self.buffers = cuda.Buffers(controls, picture, status, expression, 0, audio if options.mouth_moves else 0)
        if image is not None:
            self.buffers = replace(self.buffers, background=background)
        self._give_workspace()

    @staticmethod
    def colour(_: int) -> tuple[float, float, float]:
        """The background's colour."""
        return (0.2, 0.5, 0.9)

    def _give_workspace(self) -> None:
        self.workspace = Allocation(self.gpu.driver, self.plan.workspace_bytes)
        self.plan.bind(self.blob.pointer, self.workspace.pointer, self.plan.workspace_bytes)

    def run(self, stages: cuda.Stages = cuda.Stages.ALL) -> cuda.Status:
        """Draws, waits, and says how it went."""
        self.plan.run(self.buffers, self.gpu.stream, stages)
        return cuda.Status.read(self.gpu.read(self.buffers.status, (cuda.STATUS_BYTES,), np.uint8))

    def grow(self, status: cuda.Status) -> None:
        """Makes room for the frame that did not fit."""
        self.plan = self.plan.grown(status)
        self._give_workspace()

    def work(self, stages: cuda.Stages = cuda.Stages.ALL) -> Work:
        """The stages as work that can be recorded. A frame that does not fit is grown for first."""
        status = self.run()
        while status.overflow:
            self.grow(status)
            status = self.run()
        return lambda stream: self.plan.run(self.buffers, stream, stages)

    def pictures(self) -> np.ndarray:
        """What the last frame drew."""
        kind = np.float32 if self.plan.options.pixels == "rgba32f" else np.uint8
        return self.gpu.read(self.buffers.picture, self.plan.options.picture_shape, kind)

    def array(self, which: cuda.Array, kind: Any) -> np.ndarray:
        """An array of the workspace, flat."""
        offset, size = self.plan.array(which)
        return self.gpu.read(self.workspace.pointer + offset, (size // np.dtype(kind).itemsize,), kind)

    def on_cpu(self, background: plugins.renderer.Background) -> list[np.ndarray]:
        """The avatars' pictures by the CPU's kernels."""
        renderer = plugins.Renderer(self.scene)
        audio = self.audio if self.plan.options.mouth_moves else None
        return [renderer.draw(*egg.controls(self.scene.head, i), self.camera, audio, background) for i in self.avatars]


def scene_of(count: int, mouth: int = 2000) -> plugins.Scene:
    """FLAME's size: about 5,000 vertices, 10,000 faces, 100 expressions; SH degree 3."""
    head = egg.head(71, 71, 100)
    gaussians = egg.gaussians(head, count, size=0.6 * (60_000 / count) ** 0.5)
    return plugins.Scene(head, gaussians, egg.mouth(gaussians, min(mouth, count // 4), audio=AUDIO_WIDTH))
