"""Graphs as TensorRT engines. Not run on a GPU so far; the calls are tested with a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..bundle import Bundle
from ..engine_cache import EngineCache, EngineKey, StaleEngine, unpack_engine
from ..errors import BackendError
from ..graphs import Interface, Shapes, checked_shape
from .bound import Context, DeviceGraph
from .canvas import Kernels
from .device import DeviceBackend
from .driver import Driver
from .engine_build import EngineLibrary, EngineLog, build_engine, check_plan, engine_key, network_shapes
from .engine_files import engine_source, read_index
from .protocol import Pointers


class TensorRTGraph(DeviceGraph):
    """A deserialised engine; each avatar has an execution context of its own."""

    def __init__(self, library: EngineLibrary, engine: bytes, name: str) -> None:
        trt, self._log = library.module, EngineLog(library.module)
        self._runtime = trt.Runtime(self._log.logger)
        loaded = self._runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise StaleEngine(f"the engine of {name} does not load ({self._log.reason()})")
        self._engine = loaded
        inputs: Shapes = {}
        outputs: Shapes = {}
        for index in range(loaded.num_io_tensors):
            tensor = loaded.get_tensor_name(index)
            if loaded.get_tensor_dtype(tensor) != trt.float32:
                raise StaleEngine(f"the engine of {name}: {tensor} is not float32")
            into = inputs if loaded.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT else outputs
            into[tensor] = checked_shape(name, tensor, tuple(loaded.get_tensor_shape(tensor)))
        super().__init__(name, inputs, outputs)

    def context(self, pointers: Pointers) -> Context:
        context = self._engine.create_execution_context()
        if context is None:
            raise BackendError(
                f"the GPU has no room for one more avatar's {self.name} ({self._log.reason()}): run fewer avatars"
            )
        for name in (*self.inputs, *self.outputs):
            if not context.set_tensor_address(name, pointers[name]):
                raise BackendError(f"{self.name}: TensorRT refuses the address of {name} ({self._log.reason()})")
        return _EngineContext(self.name, context, self._log)


class _EngineContext:
    def __init__(self, name: str, context: Any, log: EngineLog) -> None:
        self._name, self._context, self._log = name, context, log

    def enqueue(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise BackendError(f"{self._name} failed on the GPU ({self._log.reason()}): see docs/gpu.md")


class TensorRTBackend(DeviceBackend):
    """TensorRT engines and the CUDA kernels. Engines come from the bundle, else from the cache, else are built."""

    def __init__(
        self, library: EngineLibrary, driver: Driver, kernels: Kernels, reason: str, cache: EngineCache | None = None
    ) -> None:
        super().__init__("tensorrt", driver, kernels, reason)
        self._library, self._cache = library, EngineCache() if cache is None else cache
        self.origins: dict[str, str] = {}
        """How each graph's engine was come by: "bundle", "cached", "built", "rebuilt: …"."""

    def prepare(self, bundle: Bundle, name: str, threads: int = 1) -> Interface:
        """The graph's engine. Raises BundleError, BackendError."""
        self.driver.select()
        path, self.info.precision = engine_source(bundle, name)
        refused = ""
        try:
            shipped = self._shipped(bundle, name)
            if shipped is not None:
                graph = TensorRTGraph(self._library, shipped, path.name)
                self.origins[name] = "bundle"
                return graph
        except StaleEngine as error:
            refused = f" (not the bundle's: {error})"
        graph, how = self._cached(path)
        self.origins[name] = how + refused
        return graph

    def _shipped(self, bundle: Bundle, name: str) -> bytes | None:
        """The bundle's engine of a graph, if it has one for this library. Raises StaleEngine if it does not fit."""
        index = read_index(bundle)
        if index is None:
            return None
        for built in index.engines:
            if built.graph == name and built.library == self._library.name:
                content = bundle.file(built.file).read_bytes()
                if self._library.name == "tensorrt":
                    return unpack_engine(content, self._key(bundle.file(index.graphs[name])), built.file)
                check_plan(content, self._library.version, self.driver.device.sm, built.file)
                return content
        return None

    def _key(self, path: Path) -> EngineKey:
        shapes = network_shapes(self._library, path)
        return engine_key(self._library, path, self.info.precision, self.driver.device.label, shapes)

    def _cached(self, path: Path) -> tuple[TensorRTGraph, str]:
        key = self._key(path)
        found = self._cache.get_or_build(key, lambda: self._build(path))
        try:
            return TensorRTGraph(self._library, found.engine, path.name), found.how
        except StaleEngine as error:
            if found.how != "cached":
                raise
            found.path.unlink(missing_ok=True)  # a driver update may do this: whole, of our key, and still refused
            again = self._cache.get_or_build(key, lambda: self._build(path))
            return TensorRTGraph(self._library, again.engine, path.name), f"rebuilt: {error}"

    def _build(self, path: Path) -> bytes:
        with tqdm(desc=f"engine of {path.name}", total=1.0, file=sys.stderr, leave=False, disable=None) as bar:

            def progress(phase: str, share: float) -> None:
                bar.set_postfix_str(phase)
                bar.n = share
                bar.refresh()

            # TensorRT for RTX finishes for the GPU at hand when the engine is loaded; full TensorRT builds for it.
            targets = (self.driver.device.sm,) if self._library.name == "tensorrt-rtx" else ()
            return build_engine(self._library, path, targets, progress)
