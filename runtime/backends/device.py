"""What the two GPU backends share: memory for graphs, drawing, whole frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from threading import Lock

from ...plugins import Scene
from ..bundle import Bundle
from ..errors import BackendError
from ..graphs import Bound, Float, Interface
from .bound import DeviceBound, DeviceGraph, Stream
from .canvas import Canvas, DeviceRenderer, DeviceScene, Kernels
from .driver import Driver
from .frame import WholeFrame
from .protocol import BackendInfo, Drawing


class DeviceBackend(ABC):
    """A GPU: graphs by `prepare` of the subclass, drawing by the CUDA kernels."""

    def __init__(self, name: str, driver: Driver, kernels: Kernels, reason: str) -> None:
        self.driver, self._kernels = driver, kernels
        self.info = BackendInfo(name, reason, device=f"{driver.device.name} (cuda:{driver.device.index})")
        self._lock = Lock()
        self._scenes: dict[int, DeviceScene] = {}

    @abstractmethod
    def prepare(self, bundle: Bundle, name: str, threads: int = 1) -> Interface:
        """Loads a graph of the bundle. Raises BundleError, BackendError."""

    def bind(self, graph: Interface, states: Mapping[str, Float]) -> Bound:
        """Memory of one avatar for a graph. Raises BackendError."""
        if not isinstance(graph, DeviceGraph):
            raise BackendError(f"{graph.name} was prepared by another backend: load the model again")
        self.driver.select()
        return DeviceBound(self.driver, graph, states, self._graph_stream())

    def renderer(self, scene: Scene, threads: int, width: int, height: int) -> Drawing:
        """What draws one avatar. `threads` are the processor's, and of no meaning here."""
        self.driver.select()
        stream = Stream(self.driver)
        with self._lock:
            if id(scene) not in self._scenes:
                self._scenes[id(scene)] = DeviceScene(self.driver, self._kernels, scene, stream.handle)
        canvas = Canvas(self.driver, self._kernels, self._scenes[id(scene)], width, height)
        return DeviceRenderer(self.driver, canvas, stream)

    def _graph_stream(self) -> Stream:
        return Stream(self.driver)


def whole_frame(encoder: Bound | None, motion: Bound, renderer: Drawing) -> WholeFrame | None:
    """A whole frame as one CUDA graph, where all of its parts are on a GPU and can be recorded; else None."""
    if not isinstance(encoder, DeviceBound) or not isinstance(motion, DeviceBound):
        return None
    if not isinstance(renderer, DeviceRenderer) or not (encoder.capturable and motion.capturable):
        return None
    return WholeFrame(renderer.driver, encoder, motion, renderer.canvas)
