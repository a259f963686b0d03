"""Graphs in ONNX Runtime's CUDA provider. Not run on a GPU so far; the calls are tested with a stand-in."""

from __future__ import annotations

import itertools
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from ..bundle import Bundle
from ..errors import BackendError
from ..graphs import Interface, session_shapes
from .bound import Context, DeviceGraph, Stream
from .canvas import Kernels
from .device import DeviceBackend
from .driver import Driver
from .engine_files import engine_source
from .protocol import Pointers

PROVIDER = "CUDAExecutionProvider"
_graph_ids = itertools.count(1)


class OnnxCudaGraph(DeviceGraph):
    """One session, which records a CUDA graph for each binding: addresses stay the same, so it may."""

    capturable = False

    def __init__(self, ort: Any, path: Path, driver: Driver, stream: Stream) -> None:
        self._ort, self._device = ort, driver.device.index
        self.guard = RLock()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        provider = {
            "device_id": str(self._device),
            "user_compute_stream": str(stream.handle),
            "enable_cuda_graph": "1",
            "do_copy_in_default_stream": "0",
        }
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[(PROVIDER, provider)])
        except Exception as error:  # ONNX Runtime raises a dozen classes that share no base
            reason = str(error).splitlines()[0]
            raise BackendError(f"ONNX Runtime cannot run {path.name} on the GPU ({reason}): see docs/gpu.md") from None
        if PROVIDER not in self._session.get_providers():  # it falls back to the processor without a word
            raise BackendError(
                f"ONNX Runtime left {path.name} to the processor: its CUDA provider could not be loaded; "
                "see docs/gpu.md, or use device='cpu'"
            )
        super().__init__(path.name, *session_shapes(path.name, self._session))

    def context(self, pointers: Pointers) -> Context:
        binding = self._session.io_binding()
        for name, shape in self.inputs.items():
            binding.bind_input(name, "cuda", self._device, np.float32, shape, pointers[name])
        for name, shape in self.outputs.items():
            binding.bind_output(name, "cuda", self._device, np.float32, shape, pointers[name])
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(next(_graph_ids)))
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return _OnnxContext(self.name, self._session, binding, options)


class _OnnxContext:
    def __init__(self, name: str, session: Any, binding: Any, options: Any) -> None:
        self._name, self._session, self._binding, self._options = name, session, binding, options

    def enqueue(self, stream: int) -> None:
        """On the session's own stream, which is the one that its memory's owner uses."""
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # as above
            raise BackendError(f"{self._name} failed on the GPU ({str(error).splitlines()[0]})") from None


class OnnxCudaBackend(DeviceBackend):
    """ONNX Runtime CUDA and the CUDA kernels. All sessions of a model share one stream."""

    def __init__(self, ort: Any, driver: Driver, kernels: Kernels, reason: str) -> None:
        if PROVIDER not in ort.get_available_providers():
            raise BackendError(
                "this ONNX Runtime has no CUDA provider: pip install onnxruntime-gpu in place of onnxruntime, "
                "or use device='cpu'"
            )
        super().__init__("cuda", driver, kernels, reason)
        self._ort, self._stream = ort, Stream(driver)

    def prepare(self, bundle: Bundle, name: str, threads: int = 1) -> Interface:
        """The graph that was made for GPUs, else the bundle's own. Raises BundleError, BackendError."""
        path, self.info.precision = engine_source(bundle, name)
        return OnnxCudaGraph(self._ort, path, self.driver, self._stream)

    def _graph_stream(self) -> Stream:
        return self._stream
