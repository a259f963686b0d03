"""The CUDA runtime through cuda-python: memory, streams, copies, graphs. Every error has a name and a cure.

cuda-python is imported here and nowhere else; it can be imported without a driver, and then says that there is none.
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError

LEAST_DRIVER = 13000  # CUDA version that the driver must know: that of the cuda-python and TensorRT wheels
_OUT_OF_MEMORY = 2


class OutOfDeviceMemory(BackendError):
    """The GPU has no room for what is to be loaded."""


@dataclass(frozen=True)
class Device:
    """One GPU as the driver describes it."""

    index: int
    name: str
    capability: tuple[int, int]
    memory: int  # bytes
    driver: int  # CUDA version of the driver, 13000 for 13.0

    @property
    def sm(self) -> str:
        """Compute capability as compilers write it: "sm_90"."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    @property
    def label(self) -> str:
        """What engines are keyed by: name and compute capability."""
        return f"{self.name} {self.sm}"


def load_cuda_python() -> Any:
    """The module `cuda.bindings.runtime`. Raises BackendError if it is not installed."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(f"cuda-python is not installed ({error}): pip install 'emotag[gpu]'") from None
    return runtime


def version_text(version: int) -> str:
    """13040 to "13.4"."""
    return f"{version // 1000}.{version % 1000 // 10}"


class Driver:
    """One GPU. Pointers and streams are integers; all sizes are bytes. Methods raise BackendError."""

    def __init__(self, index: int = 0, cudart: Any = None) -> None:
        """cudart: the module to call, cuda-python's by default."""
        self._cudart = load_cuda_python() if cudart is None else cudart
        self._check_driver()
        count = self._call("cudaGetDeviceCount")
        if not 0 <= index < count:
            has = f"{count} GPU{'s' if count != 1 else ''}, numbered from 0"
            raise BackendError(f"there is no GPU {index}: this machine has {has}; use device='cuda:0' or 'cpu'")
        self.device = self._describe(index)
        self.select()

    def _check_driver(self) -> None:
        version = self._call("cudaDriverGetVersion")
        if not version:
            raise BackendError("no NVIDIA driver was found: install one, or use device='cpu'")
        if version < LEAST_DRIVER:
            raise BackendError(
                f"the NVIDIA driver is too old: it knows CUDA {version_text(version)}, {version_text(LEAST_DRIVER)} is "
                "needed: install driver 580 or later, or use device='cpu'"
            )

    def _describe(self, index: int) -> Device:
        found = self._call("cudaGetDeviceProperties", index)
        name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
        version = self._call("cudaDriverGetVersion")
        return Device(index, name.strip("\0"), (found.major, found.minor), int(found.totalGlobalMem), version)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Calls a function of the CUDA runtime; returns what it returns beside the status."""
        status, *values = getattr(self._cudart, name)(*arguments)
        if int(status) != 0:
            raise self._error(name, status)
        return values[0] if len(values) == 1 else values

    def _error(self, name: str, status: Any) -> BackendError:
        label = getattr(status, "name", str(status))
        if int(status) == _OUT_OF_MEMORY:
            return OutOfDeviceMemory(
                f"{name}: the GPU is out of memory ({label}): close other programs on it, run fewer avatars, or use "
                "device='cpu'"
            )
        return BackendError(f"{name} failed with {label}: see docs/gpu.md, or use device='cpu'")

    def select(self) -> None:
        """Makes this the calling thread's GPU: each thread has one of its own."""
        self._call("cudaSetDevice", self.device.index)

    # Memory

    def allocate(self, size: int) -> int:
        return int(self._call("cudaMalloc", size))

    def free(self, pointer: int) -> None:
        self._call("cudaFree", pointer)

    def allocate_host(self, size: int) -> NDArray[np.uint8]:
        """Page-locked memory, which copies need in order not to wait; it is freed with the last view of it."""
        pointer = int(self._call("cudaMallocHost", size))
        memory = (ctypes.c_uint8 * size).from_address(pointer)
        weakref.finalize(memory, self._call, "cudaFreeHost", pointer).atexit = False
        return np.ctypeslib.as_array(memory)

    def fill(self, pointer: int, value: int, size: int, stream: int) -> None:
        self._call("cudaMemsetAsync", pointer, value, size, stream)

    def upload(self, to: int, source: NDArray[Any], stream: int) -> None:
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", to, source.ctypes.data, source.nbytes, kind, stream)

    def download(self, to: NDArray[Any], source: int, stream: int) -> None:
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", to.ctypes.data, source, to.nbytes, kind, stream)

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        """Within the GPU."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpyAsync", to, source, size, kind, stream)

    def copy_rows(
        self, to: int, to_pitch: int, source: int, source_pitch: int, width: int, rows: int, stream: int
    ) -> None:
        """Within the GPU: `rows` rows of `width` bytes, a pitch apart on each side."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpy2DAsync", to, to_pitch, source, source_pitch, width, rows, kind, stream)

    # Streams and graphs

    def create_stream(self) -> int:
        return int(self._call("cudaStreamCreateWithFlags", self._cudart.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def begin_capture(self, stream: int) -> None:
        """What this thread enqueues on `stream` from now on is recorded instead of run."""
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> Any:
        """The recorded work, ready to launch."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        self._call("cudaGraphExecDestroy", graph)
