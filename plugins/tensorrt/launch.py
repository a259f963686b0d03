"""A plugin's run: the CUDA kernels on TensorRT's tensors and stream. Not run on a GPU so far."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from ..cuda import Buffers, Library, Options, Stages
from ..cuda.binding import CONTROL_FLOATS, STATUS_BYTES
from ..errors import BackendError
from .nodes import SKINNING, NodeAttributes

_POSE, _TRANSLATION = 16, 31  # floats of the controls


class Launcher:
    """Scene, plan and memory of one plugin in one execution context. Memory is made here, never in a frame."""

    def __init__(self, library: Library, node: str, attributes: NodeAttributes, cudart: Any = None) -> None:
        """cudart: the module that allocates and copies, `cuda.bindings.runtime` by default. Raises BackendError."""
        self._cudart = _cudart() if cudart is None else cudart
        self._memory: list[int] = []
        weakref.finalize(self, _release, self._cudart, self._memory).atexit = False
        self._skins = node == SKINNING
        blob = np.frombuffer(attributes.scene, np.uint8)
        moves = attributes.mouth_moves and not self._skins
        options = Options(width=attributes.width or 1, height=attributes.height or 1, mouth_moves=moves)
        self._plan = library.plan(blob, options)
        self._blob = self._allocate(blob.nbytes)
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpy", self._blob, blob.ctypes.data, blob.nbytes, kind)
        workspace = self._allocate(self._plan.workspace_bytes)
        self._plan.bind(self._blob, workspace, self._plan.workspace_bytes)
        self._controls, self._status = self._allocate(4 * CONTROL_FLOATS), self._allocate(STATUS_BYTES)
        self._vertices = self._allocate(12 * attributes.vertices)
        self._vertex_bytes = 12 * attributes.vertices

    def run(self, inputs: list[int], outputs: list[int], stream: int) -> None:
        """inputs, outputs: device addresses in the node's order. Raises BackendError, ControlError."""
        if self._skins:
            self._skin(inputs, outputs[0], stream)
        else:
            self._draw(inputs, outputs[0], outputs[1], stream)

    def _skin(self, inputs: list[int], vertices: int, stream: int) -> None:
        expression, pose, translation = inputs[:3]
        self._copy(self._controls + 4 * _POSE, pose, 60, stream)
        self._copy(self._controls + 4 * _TRANSLATION, translation, 12, stream)
        buffers = Buffers(self._controls, vertices, self._status, expression=expression, vertices=vertices)
        self._plan.run(buffers, stream, Stages.SKIN)

    def _draw(self, inputs: list[int], picture: int, status: int, stream: int) -> None:
        """Skinning runs for the audio's share of the mouth network; its vertices give way to the node's input."""
        vertices, audio, controls = inputs
        buffers = Buffers(
            controls, picture, status, expression=self._vertices, encoded_audio=audio, vertices=self._vertices
        )
        self._plan.run(buffers, stream, Stages.SKIN)
        self._copy(self._vertices, vertices, self._vertex_bytes, stream)
        self._plan.run(buffers, stream, Stages.ALL ^ Stages.SKIN)

    def _copy(self, to: int, source: int, size: int, stream: int) -> None:
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpyAsync", to, source, size, kind, stream)

    def _allocate(self, size: int) -> int:
        self._memory.append(int(self._call("cudaMalloc", max(size, 256))))
        return self._memory[-1]

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._cudart, name)(*arguments)
        if int(status):
            raise BackendError(f"{name} failed with {getattr(status, 'name', status)}: see docs/gpu.md")
        return values[0] if values else None


def _release(cudart: Any, memory: list[int]) -> None:
    for pointer in memory:
        cudart.cudaFree(pointer)


def _cudart() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(f"cuda-python is not installed ({error}): pip install 'emotag[gpu]'") from None
    return runtime
