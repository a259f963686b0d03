"""The bundle's `engines/` folder: graphs for GPUs, engines, and what was measured of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.backends import Driver
from ...runtime.backends.engine_build import (
    EngineLibrary,
    LibraryName,
    build_engine,
    engine_key,
    load_library,
    network_shapes,
)
from ...runtime.backends.engine_files import BuiltEngine, EngineIndex
from ...runtime.engine_cache import pack_engine
from ...runtime.errors import BackendError, ExportError
from .audit import layer_counts
from .precision import ENGINE_PRECISIONS, EnginePrecision, to_fp16, to_int8
from .tracks import Heard, calibration_calls, compare, track

Float = NDArray[np.float32]
EngineName = Literal["none", "tensorrt", "tensorrt-rtx"]
ENGINES: tuple[EngineName, ...] = ("none", "tensorrt", "tensorrt-rtx")
FOLDER = "engines"
_LEFT_OUT = ("sm_75",)  # has no fp32 products in TensorRT for RTX


@dataclass(frozen=True)
class EngineOptions:
    """Engines of a bundle.

    capabilities: "sm_80", … that are built for; none means all that the library knows. calibration: speech at 16 kHz
    [N] that sets the scales of int8, and what to call it; none is the speech that parity is measured on.
    """

    engine: EngineName = "none"
    precision: EnginePrecision = "fp16"
    capabilities: tuple[str, ...] = ()
    calibration: Float | None = None
    calibration_name: str = ""


@dataclass(frozen=True)
class Tools:
    """Where TensorRT and the GPU come from; tests put stand-ins here."""

    library: Callable[[LibraryName], EngineLibrary] = load_library
    driver: Callable[[], Driver] = Driver


def write_engines(
    graphs: Mapping[str, Callable[[Path], None]],
    folder: Path,
    heard: Heard,
    options: EngineOptions,
    progress: Callable[[str], None],
    tools: Tools | None = None,
) -> dict[str, Any]:
    """Writes `folder`/engines and returns the report's section "engines": parity, layers by precision, library.

    graphs: by name, what writes the fp32 ONNX file to a path. heard: parity of every precision is measured on its
    speech, its calibration sets the scales of int8. TensorRT for RTX needs no GPU, full TensorRT builds for the one at
    hand. Raises ExportError if the library or the GPU is missing or refuses a graph.
    """
    into = folder / FOLDER
    into.mkdir(parents=True)
    files = {name: into / f"{name}.onnx" for name in graphs}
    for name, write in graphs.items():
        write(files[name])
    report: dict[str, Any] = {"engine": options.engine, "precision": options.precision}
    report["calibration"] = heard.calibration_name
    report["parity"] = _lower(files, heard, options.precision, progress)
    try:
        built = tuple(_build(files, options, progress, report, tools or Tools()))
    except BackendError as error:
        raise ExportError(f"--engine {options.engine}: {str(error).removesuffix(_ON_CPU)}") from error
    named = {name: f"{FOLDER}/{path.name}" for name, path in files.items()}
    index = EngineIndex(options.precision, named, built, heard.calibration_name)
    (into / "index.json").write_text(index.to_json())
    return report


_ON_CPU = ", or use device='cpu'"


def _lower(
    files: Mapping[str, Path], heard: Heard, chosen: EnginePrecision, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Measures fp16, int8 and the chosen precision against fp32, and leaves the files in the chosen one."""
    folder = next(iter(files.values())).parent
    full = {name: onnx.load(path) for name, path in files.items()}
    wanted = track(heard, folder)
    calls = calibration_calls(replace(heard, speech=heard.calibration), folder)
    parity: dict[str, Any] = {}
    for precision in sorted({"fp16", "int8", chosen} - {chosen}) + [chosen]:
        assert precision in ENGINE_PRECISIONS
        progress(f"{FOLDER} in {precision}")
        for name, path in files.items():
            onnx.save(lowered(full[name], precision, calls[name]), path)
        parity[precision] = compare(wanted, track(heard, folder), precision)
    return parity


def lowered(model: onnx.ModelProto, precision: EnginePrecision, calls: list[dict[str, Float]]) -> onnx.ModelProto:
    """An fp32 graph in a precision. calls: inputs that calibrate int8."""
    if precision == "fp32":
        return model
    return to_fp16(model) if precision == "fp16" else to_int8(model, calls)


def _build(
    files: Mapping[str, Path],
    options: EngineOptions,
    progress: Callable[[str], None],
    report: dict[str, Any],
    tools: Tools,
) -> Iterator[BuiltEngine]:
    full = options.engine == "tensorrt"
    if full and options.capabilities:
        raise BackendError("full TensorRT builds for the GPU at hand: leave --compute-capability out")
    driver = _gpu(tools) if full else None  # a driver is asked for first: without one, libraries crash
    library = tools.library("tensorrt" if full else "tensorrt-rtx")
    report["library"] = f"{library.name} {library.version}"
    report["layers"] = {name: layer_counts(library, path) for name, path in files.items()}
    targets = options.capabilities or tuple(c for c in library.capabilities() if c not in _LEFT_OUT)
    for name, path in files.items():
        progress(f"{FOLDER}/{name}.engine")
        if driver is not None:
            yield _build_here(library, name, path, options.precision, driver)
        else:
            yield _build_ahead(library, name, path, targets)


def _gpu(tools: Tools) -> Driver:
    try:
        return tools.driver()
    except BackendError as error:
        raise BackendError(
            f"{str(error).removesuffix(_ON_CPU)}; full TensorRT builds on the GPU that will run the engine. Without "
            "one use --engine tensorrt-rtx: what it leaves, full TensorRT builds from at the first load"
        ) from error


def _build_ahead(library: EngineLibrary, name: str, path: Path, targets: tuple[str, ...]) -> BuiltEngine:
    engine = path.with_suffix(".engine")
    engine.write_bytes(build_engine(library, path, targets))
    return BuiltEngine(name, f"{FOLDER}/{engine.name}", library.name, library.version, targets)


def _build_here(
    library: EngineLibrary, name: str, path: Path, precision: EnginePrecision, driver: Driver
) -> BuiltEngine:
    """Full TensorRT's engines say nothing of themselves that can be read: they go behind the cache's header."""
    key = engine_key(library, path, precision, driver.device.label, network_shapes(library, path))
    engine = path.with_suffix(".engine")
    engine.write_bytes(pack_engine(key, build_engine(library, path)))
    return BuiltEngine(name, f"{FOLDER}/{engine.name}", library.name, library.version, (driver.device.sm,))
