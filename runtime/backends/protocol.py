"""What every backend is: it prepares graphs once, binds them to the memory of an avatar, and draws.

`cpu` runs when it is called. `cuda` and `tensorrt` enqueue on a stream, which `DeviceBound` and `DeviceFrame` use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...plugins import Camera, Renderer, Scene
from ..bundle import Bundle
from ..errors import BackendError
from ..graph_encoder import GraphEncoder, graph_states
from ..graphs import Bound, BoundGraph, Float, Graph, Interface
from ..native_encoder import NativeBound, NativeEncoder

Pointers = Mapping[str, int]


class BackendInfo(str):
    """Name of the backend in use ("cpu", "cuda", "tensorrt"), and why it is that one.

    It is a `str`, so `avatar.backend == "cpu"` holds.
    """

    reason: str
    """Why this backend was chosen, as a sentence."""
    device: str
    """The processor or GPU."""
    precision: str
    """Of the graphs: "fp32", "fp16" or "int8"; "as exported" where ONNX Runtime runs what the bundle holds."""

    def __new__(cls, name: str, reason: str, device: str = "CPU", precision: str = "as exported") -> BackendInfo:
        info = super().__new__(cls, name)
        info.reason, info.device, info.precision = reason, device, precision
        return info

    def describe(self) -> str:
        """One line for people."""
        return f"{self} on {self.device}, {self.precision}: {self.reason}"


class Drawing(Protocol):
    """Draws the frames of one avatar: `plugins.Renderer`, or its counterpart on a device."""

    @property
    def milliseconds(self) -> list[float]: ...

    @property
    def cpu_timings(self) -> dict[str, float]: ...

    def draw(
        self,
        expression: Float,
        pose: Float,
        translation: Float,
        camera: Camera,
        encoded_audio: Float | None = None,
        background: Any = (1.0, 1.0, 1.0),
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]: ...


class Backend(Protocol):
    """Where graphs run and pictures are drawn. One for each `Model`; avatars on several threads share it."""

    info: BackendInfo

    def prepare(self, bundle: Bundle, name: str, threads: int = 1) -> Interface:
        """Loads a graph of the bundle ("audio" or "motion"), once for a model. Raises BundleError, BackendError.

        threads: of the processor, for a graph that runs there.
        """

    def bind(self, graph: Interface, states: Mapping[str, Float]) -> Bound:
        """Memory of one avatar for a graph that `prepare` returned. Raises BackendError."""

    def renderer(self, scene: Scene, threads: int, width: int, height: int) -> Drawing:
        """What draws one avatar's frames of that size. Raises BackendError, ControlError."""


class CpuBackend:
    """ONNX Runtime and the kernels on the processor; a known encoder has kernels of its own."""

    def __init__(self, reason: str) -> None:
        self.info = BackendInfo("cpu", reason)

    def prepare(self, bundle: Bundle, name: str, threads: int = 1) -> Interface:
        audio = bundle.manifest.audio
        if name == "audio" and audio is not None:
            if audio.encoder is not None:
                return NativeEncoder(bundle.file(audio.file), audio, threads)
            if GraphEncoder.is_known(bundle.file(audio.file)):
                states = graph_states(bundle.file("avatar.safetensors"))
                return NativeEncoder(bundle.file(audio.file), audio, threads, states)
        return Graph(bundle.file(f"{name}.onnx"), threads)

    def bind(self, graph: Interface, states: Mapping[str, Float]) -> Bound:
        if isinstance(graph, NativeEncoder):
            return NativeBound(graph)
        if not isinstance(graph, Graph):
            raise BackendError(f"{graph.name} was prepared by another backend: load the model again")
        return BoundGraph(graph, states)

    def renderer(self, scene: Scene, threads: int, width: int, height: int) -> Drawing:
        return Renderer(scene, threads=threads)
