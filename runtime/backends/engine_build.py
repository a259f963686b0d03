"""Engines from ONNX files, by TensorRT or TensorRT for RTX: found, parsed, built and checked.

Networks are strongly typed: the ONNX file carries the precision, no builder flag changes it.
"""

from __future__ import annotations

import hashlib
import importlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..engine_cache import EngineKey, StaleEngine
from ..errors import BackendError

LibraryName = Literal["tensorrt", "tensorrt-rtx"]
Progress = Callable[[str, float], None]
# Of TensorRT for RTX the bindings are a wheel, and all that the other package adds is a name.
_MODULES: dict[LibraryName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_INSTALL: dict[LibraryName, str] = {"tensorrt": "pip install tensorrt", "tensorrt-rtx": "pip install 'emotag[gpu]'"}
FLAGS = ("strongly_typed",)

# The plan header of TensorRT for RTX: magic, size of the file at 16, version at 24, capabilities as bits at 32.
_PLAN_MAGIC = b"vtrt"
_PLAN_BITS = {"sm_75": 0, "sm_80": 1, "sm_86": 2, "sm_89": 3, "sm_120": 4, "sm_121": 5}


@dataclass(frozen=True)
class EngineLibrary:
    """An installed TensorRT. `module` is its Python module."""

    name: LibraryName
    module: Any

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that engines can be built for without such a GPU; none for full TensorRT."""
        members = getattr(self.module, "ComputeCapability", None)
        names = [] if members is None else [n for n in dir(members) if n.startswith("SM") and n[2:].isdigit()]
        return tuple(f"sm_{n[2:]}" for n in sorted(names, key=lambda n: int(n[2:])))


def load_library(name: LibraryName) -> EngineLibrary:
    """Raises BackendError if it is not installed or does not load."""
    reason = ""
    for module_name in _MODULES[name]:
        try:
            module = importlib.import_module(module_name)
            if hasattr(module, "Builder"):
                return EngineLibrary(name, module)
            reason = f"{module_name} has no Builder"
        except (ImportError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise BackendError(f"{name} is not installed ({reason}): {_INSTALL[name]}")


class EngineLog:
    """Collects what TensorRT says; errors become part of the exception, nothing goes to the customer's terminal."""

    def __init__(self, module: Any) -> None:
        lines: list[str] = []
        severe = (module.ILogger.Severity.INTERNAL_ERROR, module.ILogger.Severity.ERROR)

        class Logger(module.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in severe:
                    lines.append(message)

        self.lines, self.logger = lines, Logger()

    def reason(self) -> str:
        """The first error, which names the cause; later ones follow from it."""
        return self.lines[0].strip() if self.lines else "TensorRT gave no reason"


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def engine_key(
    library: EngineLibrary, path: Path, precision: str, device: str, shapes: dict[str, tuple[int, ...]]
) -> EngineKey:
    """The key of an engine built from an ONNX file. device: of the GPU, or the capabilities built for."""
    return EngineKey(file_digest(path), library.name, library.version, device, precision, shapes, FLAGS)


def parse_network(library: EngineLibrary, path: Path, log: EngineLog) -> tuple[Any, Any, Any]:
    """Builder, network and parser of an ONNX file; keep all three while the network is used. Raises BackendError."""
    trt = library.module
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(path)):
        problems = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        reason = problems[0] if problems else log.reason()
        raise BackendError(f"{library.name} cannot read {path.name} ({reason}): export the bundle again with --engine")
    return builder, network, parser


def network_shapes(library: EngineLibrary, path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every input of an ONNX file, as TensorRT reads it. Raises BackendError."""
    log = EngineLog(library.module)
    builder, network, parser = parse_network(library, path, log)
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in tensors}
    del tensors, network, parser, builder
    return shapes


def build_engine(
    library: EngineLibrary, path: Path, capabilities: Sequence[str] = (), progress: Progress | None = None
) -> bytes:
    """Builds the engine of an ONNX file.

    capabilities: "sm_80", … of the GPUs it is for, without needing one (TensorRT for RTX only); none is the GPU at
    hand, or with TensorRT for RTX all that it knows. progress is told a phase and its share, 0…1.
    Raises BackendError with what TensorRT said.
    """
    trt, log = library.module, EngineLog(library.module)
    builder, network, parser = parse_network(library, path, log)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _target(library, config, capabilities)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    del parser  # it owned weights that the network used until here
    if plan is None:
        raise BackendError(f"{library.name} cannot build {path.name} ({log.reason()}): see docs/gpu.md")
    return bytes(plan)


def _target(library: EngineLibrary, config: Any, capabilities: Sequence[str]) -> None:
    if not capabilities:
        return
    known = library.capabilities()
    unknown = [name for name in capabilities if name not in known]
    if unknown:
        choices = ", ".join(known) or "only the GPU at hand"
        raise BackendError(
            f"{library.name} {library.version} does not build for {', '.join(unknown)}: choose from {choices}; "
            "for other GPUs use --engine tensorrt on one of them"
        )
    config.num_compute_capabilities = len(capabilities)
    for index, name in enumerate(capabilities):
        member = getattr(library.module.ComputeCapability, name.replace("sm_", "SM"))
        if not config.set_compute_capability(member, index):
            raise BackendError(f"{library.name} {library.version} refuses {name}: leave it out")


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = max(num_steps, 1)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, min((step + 1) / self._steps.get(phase_name, 1), 1.0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            progress(phase_name, 1.0)

    return Monitor()


def check_plan(engine: bytes, version: str, sm: str, name: str) -> None:
    """Checks the header of a TensorRT for RTX engine, which the library itself misses in part.

    Raises StaleEngine, saying what is wrong: not an engine, truncated, of another version, or not for GPU `sm`.
    """
    if len(engine) < 64 or engine[:4] != _PLAN_MAGIC or engine[28:32] != _PLAN_MAGIC:
        raise StaleEngine(f"{name} is not an engine of TensorRT for RTX")
    (size,) = struct.unpack_from("<Q", engine, 16)
    if size != len(engine):
        raise StaleEngine(f"{name} is truncated: {len(engine)} bytes instead of {size}")
    built = ".".join(str(part) for part in engine[24:28])
    if built != version:
        raise StaleEngine(f"{name} was built by TensorRT for RTX {built}, installed is {version}")
    (bits,) = struct.unpack_from("<I", engine, 32)
    if sm not in _PLAN_BITS or not bits >> _PLAN_BITS[sm] & 1:
        targets = ", ".join(n for n, bit in _PLAN_BITS.items() if bits >> bit & 1)
        raise StaleEngine(f"{name} was built for {targets or 'no GPU'}, this one is {sm}")
