"""The bundle's `engines/` folder: graphs for GPUs, engines that need no GPU to build, and what was measured of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.backends.engine_build import EngineLibrary, build_engine, load_library
from ...runtime.backends.engine_files import BuiltEngine, EngineIndex
from ...runtime.errors import BackendError, ExportError
from .audit import layer_counts
from .precision import EnginePrecision, to_fp16, to_int8
from .tracks import Heard, compare, track

Float = NDArray[np.float32]
EngineName = Literal["none", "tensorrt", "tensorrt-rtx"]
ENGINES: tuple[EngineName, ...] = ("none", "tensorrt", "tensorrt-rtx")
FOLDER = "engines"
_LEFT_OUT = ("sm_75",)  # has no fp32 products in TensorRT for RTX
_CALIBRATION_CALLS = 64  # whose inputs set the int8 scales, spread over the speech


@dataclass(frozen=True)
class EngineOptions:
    """Engines of a bundle. capabilities: "sm_80", … that are built for; none means all that the library knows."""

    engine: EngineName = "none"
    precision: EnginePrecision = "fp16"
    capabilities: tuple[str, ...] = ()


def write_engines(
    graphs: Mapping[str, Callable[[Path], None]],
    folder: Path,
    heard: Heard,
    options: EngineOptions,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Writes `folder`/engines and returns the report's section "engines": parity, layers by precision, library.

    graphs: by name, what writes the fp32 ONNX file to a path. heard: calibrates int8, and parity is measured on it.
    TensorRT for RTX builds here; full TensorRT builds on the GPU that will run the engine, when the bundle is first
    loaded there. Raises ExportError if the library is missing or refuses a graph.
    """
    into = folder / FOLDER
    into.mkdir()
    files = {name: into / f"{name}.onnx" for name in graphs}
    for name, write in graphs.items():
        write(files[name])
    taken: dict[str, list[dict[str, Float]]] = {name: [] for name in files}
    wanted = track(heard, into, taken if options.precision == "int8" else None)
    for name, path in files.items():
        progress(f"{FOLDER}/{path.name} ({options.precision})")
        calls = taken[name]
        lower(path, options.precision, calls[:: max(1, len(calls) // _CALIBRATION_CALLS)])
    report: dict[str, Any] = {"engine": options.engine, "precision": options.precision}
    report["parity"] = compare(wanted, track(heard, into), options.precision)
    try:
        built = tuple(_build(files, options, progress, report))
    except BackendError as error:
        raise ExportError(f"--engine {options.engine}: {error}") from error
    index = EngineIndex(options.precision, {name: f"{FOLDER}/{path.name}" for name, path in files.items()}, built)
    (into / "index.json").write_text(index.to_json())
    return report


def lower(path: Path, precision: EnginePrecision, calls: list[dict[str, Float]]) -> None:
    """Rewrites an fp32 ONNX file in a precision. calls: inputs that calibrate int8."""
    if precision == "fp32":
        return
    model = onnx.load(path)
    onnx.save(to_fp16(model) if precision == "fp16" else to_int8(model, calls), path)


def _build(
    files: Mapping[str, Path], options: EngineOptions, progress: Callable[[str], None], report: dict[str, Any]
) -> Iterator[BuiltEngine]:
    full = options.engine == "tensorrt"
    if full and options.capabilities:
        raise BackendError("full TensorRT builds for the GPU at hand: leave --compute-capability out")
    library = load_library("tensorrt" if full else "tensorrt-rtx")
    report["library"] = f"{library.name} {library.version}"
    report["layers"] = {name: layer_counts(library, path) for name, path in files.items()}
    if full:
        return
    targets = options.capabilities or tuple(c for c in library.capabilities() if c not in _LEFT_OUT)
    for name, path in files.items():
        progress(f"{FOLDER}/{name}.engine")
        yield _build_one(library, name, path, targets)


def _build_one(library: EngineLibrary, name: str, path: Path, targets: tuple[str, ...]) -> BuiltEngine:
    engine = path.with_suffix(".engine")
    engine.write_bytes(build_engine(library, path, targets))
    return BuiltEngine(name, f"{FOLDER}/{engine.name}", library.name, library.version, targets)
