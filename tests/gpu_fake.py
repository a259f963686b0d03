"""A GPU that is none: stand-ins for the CUDA runtime, TensorRT, ONNX Runtime CUDA and the kernels.

"Device" memory is host memory, so what the backends enqueue really happens, also from recorded graphs, and an avatar on
this GPU must show what it shows on the CPU. `log` has every call in its order.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from emotag.plugins import Camera, Renderer, Scene
from emotag.plugins.cuda import Buffers, Options, Status
from emotag.runtime.backends import Driver, Machine
from emotag.runtime.backends.engine_build import EngineLibrary

Work = Callable[[], None]


class Code(int):
    """A status as cuda-python gives it: a number with a name."""

    def __new__(cls, value: int, name: str) -> Code:
        code = super().__new__(cls, value)
        code.name = name
        return code


SUCCESS = Code(0, "cudaSuccess")
NO_MEMORY = Code(2, "cudaErrorMemoryAllocation")


def view(pointer: int, shape: tuple[int, ...], kind: type = np.float32) -> np.ndarray[Any, Any]:
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), kind).reshape(shape)


class Cudart:
    """`cuda.bindings.runtime`: device memory is host memory, streams run at once, graphs replay what was recorded."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaStreamNonBlocking = 1
    _KINDS = {1: "upload", 2: "download", 3: "copy"}

    def __init__(self, driver: int = 13040, devices: int = 1, memory: int = 1 << 30, name: bytes = b"Fake GPU") -> None:
        self.driver, self.devices, self.free_memory, self.name = driver, devices, memory, name
        self.log: list[str] = []
        self.blocks: dict[int, Any] = {}
        self.capturing: dict[int, list[tuple[str, Work]]] = {}
        self.streams = 100
        self.fail: dict[str, Code] = {}

    @contextmanager
    def recording(self) -> Iterator[list[str]]:
        """The calls made inside."""
        self.log.clear()
        yield self.log

    def enqueue(self, stream: int, what: str, work: Work) -> None:
        if stream in self.capturing:
            self.log.append(f"record {what}")
            self.capturing[stream].append((what, work))
        else:
            self.log.append(what)
            work()

    def _status(self, name: str) -> Code:
        return self.fail.get(name, SUCCESS)

    def cudaDriverGetVersion(self) -> Any:
        return SUCCESS, self.driver

    def cudaGetDeviceCount(self) -> Any:
        return SUCCESS, self.devices

    def cudaGetDeviceProperties(self, index: int) -> Any:
        return SUCCESS, SimpleNamespace(name=self.name + b"\0\0", major=8, minor=9, totalGlobalMem=self.free_memory)

    def cudaSetDevice(self, index: int) -> Any:
        return (self._status("cudaSetDevice"),)

    def _allocate(self, size: int, what: str) -> int:
        raw = np.full(size + 256, 0xCC, np.uint8)  # what was never written is not zero
        pointer = -(-raw.ctypes.data // 256) * 256
        self.blocks[pointer] = raw
        self.log.append(what)
        return pointer

    def cudaMalloc(self, size: int) -> Any:
        used = sum(len(block) for block in self.blocks.values())
        if used + size > self.free_memory:
            return NO_MEMORY, None
        return SUCCESS, self._allocate(size, "allocate")

    def cudaFree(self, pointer: int) -> Any:
        del self.blocks[pointer]
        return (SUCCESS,)

    def cudaMallocHost(self, size: int) -> Any:
        return SUCCESS, self._allocate(size, "allocate host")

    def cudaFreeHost(self, pointer: int) -> Any:
        del self.blocks[pointer]
        return (SUCCESS,)

    def cudaMemsetAsync(self, pointer: int, value: int, size: int, stream: int) -> Any:
        self.enqueue(stream, "fill", lambda: ctypes.memset(pointer, value, size) and None)
        return (SUCCESS,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> Any:
        self.enqueue(stream, f"{self._KINDS[kind]} {size}", lambda: ctypes.memmove(to, source, size) and None)
        return (SUCCESS,)

    def cudaMemcpy2DAsync(
        self, to: int, to_pitch: int, source: int, source_pitch: int, width: int, rows: int, kind: int, stream: int
    ) -> Any:
        def work() -> None:
            for row in range(rows):
                ctypes.memmove(to + row * to_pitch, source + row * source_pitch, width)

        self.enqueue(stream, f"{self._KINDS[kind]} rows {rows}x{width}", work)
        return (SUCCESS,)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        self.streams += 1
        return SUCCESS, self.streams

    def cudaStreamDestroy(self, stream: int) -> Any:
        return (SUCCESS,)

    def cudaStreamSynchronize(self, stream: int) -> Any:
        assert stream not in self.capturing, "waiting for a stream that is recording"
        self.log.append("wait")
        return (self._status("cudaStreamSynchronize"),)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> Any:
        self.log.append("begin")
        self.capturing[stream] = []
        return (SUCCESS,)

    def cudaStreamEndCapture(self, stream: int) -> Any:
        self.log.append("end")
        return SUCCESS, self.capturing.pop(stream)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        return self._status("cudaGraphInstantiate"), list(graph)

    def cudaGraphDestroy(self, graph: Any) -> Any:
        return (SUCCESS,)

    def cudaGraphExecDestroy(self, graph: Any) -> Any:
        self.log.append("destroy graph")
        return (SUCCESS,)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> Any:
        self.log.append(f"launch {len(graph)}")
        for _, work in graph:
            work()
        return (SUCCESS,)


class Kernels:
    """`plugins.cuda.Library`, drawing with the CPU's kernels. `room` pairs fit before a frame overflows."""

    def __init__(self, cudart: Cudart, room: int = 1 << 20) -> None:
        self.cudart, self.room, self.scenes = cudart, room, {}
        self.plans: list[Options] = []

    def pack(self, scene: Scene) -> Any:
        self.scenes[len(self.scenes)] = scene
        return np.array([len(self.scenes) - 1], np.uint8)

    def plan(self, blob: Any, options: Options) -> Plan:
        self.plans.append(options)
        return Plan(self, self.scenes[int(blob[0])], replace(options, pairs=options.pairs or self.room))


class Plan:
    def __init__(self, kernels: Kernels, scene: Scene, options: Options) -> None:
        self._kernels, self._scene, self.options = kernels, scene, options
        self.workspace_bytes = 64 * options.pairs % (1 << 20) + 256
        self._renderer = Renderer(scene, threads=1)
        self._bound = False

    def bind(self, blob: int, workspace: int, workspace_bytes: int) -> None:
        assert workspace_bytes >= self.workspace_bytes and not blob % 256 and not workspace % 256
        self._kernels.cudart.log.append("bind workspace")
        self._bound = True

    def grown(self, status: Status) -> Plan:
        return Plan(self._kernels, self._scene, replace(self.options, pairs=status.pairs * 2))

    def run(self, buffers: Buffers, stream: int = 0) -> None:
        assert self._bound
        self._kernels.cudart.enqueue(stream, "draw", lambda: self._draw(buffers))

    def _draw(self, buffers: Buffers) -> None:
        options, needed = self.options, 3000
        status = view(buffers.status, (8,), np.uint32)
        status[:] = needed, 0, options.pairs, 0, int(needed > options.pairs), 0, 0, 0
        if needed > options.pairs:
            return
        shape = options.picture_shape[1:]
        controls = view(buffers.controls, (40,))
        matrix = np.eye(4)
        matrix[:3] = controls[:12].reshape(3, 4)
        pose = controls[16:31].reshape(5, 3).copy()
        if buffers.jaw:
            pose[2] = view(buffers.jaw, (3,))
        mouth = self._scene.mouth
        audio = view(buffers.encoded_audio, (mouth.audio_size,)) if mouth and options.mouth_moves else None
        background: Any = None
        if options.background == "colour":
            background = controls[34:37].copy()
        elif options.background == "image_u8":
            background = view(buffers.background, (options.height, options.width, 3), np.uint8)
        expression = view(buffers.expression, (self._scene.head.expressions,))
        camera = Camera(matrix, *map(float, controls[12:16]), options.width, options.height)
        picture = view(buffers.picture, shape, np.uint8)
        self._renderer.draw(expression, pose, controls[31:34], camera, audio, background, out=picture)


class _Severity:
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class ILogger:
    Severity = _Severity

    def __init__(self) -> None: ...

    def log(self, severity: int, message: str) -> None: ...


class TensorRT:
    """The Python module of TensorRT for RTX. An "engine" is its plan header with the ONNX file behind it."""

    ILogger = ILogger
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    ProfilingVerbosity = SimpleNamespace(DETAILED=1)
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    ComputeCapability = SimpleNamespace(SM80=1, SM89=3)
    LayerType = SimpleNamespace(DEQUANTIZE="dequantize", MATRIX_MULTIPLY="product")
    float32, float16 = "float32", "float16"

    class IProgressMonitor:
        def __init__(self) -> None: ...

    def __init__(self, cudart: Cudart, version: str = "1.7.1.116") -> None:
        self.cudart, self.__version__ = cudart, version
        self.builds = 0
        self.broken = False  # every engine is refused
        self.cannot_build = False

    def Builder(self, logger: Any) -> Any:
        return _Builder(self, logger)

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        return _Parser(network, logger)

    def Runtime(self, logger: Any) -> Any:
        return _Runtime(self, logger)


def plan_header(size: int, version: str, bits: int) -> bytes:
    """The first 64 bytes of an engine of TensorRT for RTX, as real ones have them."""
    head = bytearray(64)
    head[:4] = head[28:32] = b"vtrt"
    head[16:24] = size.to_bytes(8, "little")
    head[24:28] = bytes(int(part) for part in version.split("."))
    head[32:36] = bits.to_bytes(4, "little")
    return bytes(head)


class _Builder:
    def __init__(self, trt: TensorRT, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int) -> Any:
        assert flags == 1 << TensorRT.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return SimpleNamespace(content=b"")

    def create_builder_config(self) -> Any:
        config = SimpleNamespace(capabilities=[])
        config.set_compute_capability = lambda member, index: config.capabilities.append(member) or True
        return config

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        if self._trt.cannot_build:
            self._logger.log(_Severity.ERROR, "no implementation for node mm")
            return None
        self._trt.builds += 1
        if hasattr(config, "progress_monitor"):
            config.progress_monitor.phase_start("Building", None, 2)
            assert config.progress_monitor.step_complete("Building", 1)
            config.progress_monitor.phase_finish("Building")
        bits = sum(1 << member for member in config.capabilities)
        return plan_header(64 + len(network.content), self._trt.__version__, bits) + network.content


class _Parser:
    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self.num_errors = network, 0

    def parse_from_file(self, path: str) -> bool:
        with open(path, "rb") as file:
            content = self._network.content = file.read()
        inputs = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_inputs()
        self._network.num_inputs, self._network.num_layers = len(inputs), 0
        self._network.get_input = lambda i: SimpleNamespace(name=inputs[i].name, shape=inputs[i].shape)
        return True


class _Runtime:
    def __init__(self, trt: TensorRT, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, engine: bytes) -> Any:
        if self._trt.broken:
            self._logger.log(_Severity.ERROR, "the engine plan file is not compatible")
            return None
        return _Engine(self._trt, engine[64:])


class _Engine:
    def __init__(self, trt: TensorRT, content: bytes) -> None:
        self._trt = trt
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.inputs = {value.name: value.shape for value in self.session.get_inputs()}
        self.outputs = {value.name: value.shape for value in self.session.get_outputs()}
        self._names = [*self.inputs, *self.outputs]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self.inputs else "out"

    def get_tensor_shape(self, name: str) -> list[int]:
        return (self.inputs | self.outputs)[name]

    def create_execution_context(self) -> Any:
        return _Context(self._trt.cudart, self)


class _Context:
    def __init__(self, cudart: Cudart, engine: _Engine) -> None:
        self._cudart, self._engine, self._addresses = cudart, engine, {}

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        assert not pointer % 256, f"{name} is not aligned"
        self._cudart.log.append(f"address {name}")
        self._addresses[name] = pointer
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._cudart.enqueue(stream, "audio" if "samples" in self._engine.inputs else "motion", self._run)
        return True

    def _run(self) -> None:
        engine = self._engine
        feeds = {name: view(self._addresses[name], tuple(shape)) for name, shape in engine.inputs.items()}
        for (name, shape), value in zip(engine.outputs.items(), engine.session.run(None, feeds), strict=True):
            view(self._addresses[name], tuple(shape))[...] = value


class Onnx:
    """onnxruntime with a CUDA provider: sessions run on the CPU, on "device" memory."""

    SessionOptions, GraphOptimizationLevel = onnxruntime.SessionOptions, onnxruntime.GraphOptimizationLevel
    RunOptions = onnxruntime.RunOptions

    def __init__(self, cudart: Cudart, provider: str = "CUDAExecutionProvider") -> None:
        self._cudart, self._provider = cudart, provider
        self.provider_options: list[Any] = []

    def get_available_providers(self) -> list[str]:
        return [self._provider, "CPUExecutionProvider"]

    def InferenceSession(self, path: str, options: Any, providers: Any) -> Any:
        self.provider_options += providers
        return _Session(self._cudart, path, self._provider)


class _Session:
    def __init__(self, cudart: Cudart, path: str, provider: str) -> None:
        self._cudart, self._provider = cudart, provider
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs

    def get_providers(self) -> list[str]:
        return [self._provider, "CPUExecutionProvider"]

    def io_binding(self) -> Any:
        binding = SimpleNamespace(inputs={}, outputs={})
        binding.bind_input = lambda n, kind, index, dtype, shape, pointer: binding.inputs.update({n: (pointer, shape)})
        binding.bind_output = lambda n, kind, index, dtype, shape, pointer: binding.outputs.update(
            {n: (pointer, shape)}
        )
        return binding

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        assert options.get_run_config_entry("gpu_graph_id")
        self._cudart.log.append("audio" if "samples" in binding.inputs else "motion")
        values = self._session.run(None, {name: view(*bound) for name, bound in binding.inputs.items()})
        for value, found in zip(self._session.get_outputs(), values, strict=True):
            view(*binding.outputs[value.name])[...] = found


def machine(cudart: Cudart, kernels: Kernels | None = None, trt: Any = None, onnx: Any = onnxruntime) -> Machine:
    """A machine with this GPU. trt: the TensorRT module, an error to raise, or None for a stand-in."""

    def engines() -> EngineLibrary:
        if isinstance(trt, Exception):
            raise trt
        return EngineLibrary("tensorrt-rtx", trt or TensorRT(cudart))

    found = kernels or Kernels(cudart)
    return Machine(lambda index: Driver(index, cudart), lambda: found, engines, onnx)
