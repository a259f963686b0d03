"""What `emotag-export --engine` leaves in a bundle for GPUs: graphs made for engines, and engines that were built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..errors import BackendError, BundleError

INDEX = "engines/index.json"
INDEX_SCHEMA = 1
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class BuiltEngine:
    """An engine in the bundle. capabilities: "sm_80", …, of the GPUs it was built for; none means all."""

    graph: str
    file: str
    library: str  # "tensorrt" or "tensorrt-rtx"
    version: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True)
class EngineIndex:
    """Content of engines/index.json. graphs: ONNX file of each graph, which carries the precision.

    calibration: the speech that set the scales of int8.
    """

    precision: str
    graphs: Mapping[str, str]
    engines: tuple[BuiltEngine, ...]
    calibration: str = ""

    def to_json(self) -> str:
        content = {
            "schema": INDEX_SCHEMA,
            "precision": self.precision,
            "calibration": self.calibration,
            "graphs": dict(self.graphs),
            "engines": [{**vars(engine), "capabilities": list(engine.capabilities)} for engine in self.engines],
        }
        return json.dumps(content, indent=1) + "\n"


def read_index(bundle: Bundle) -> EngineIndex | None:
    """The bundle's engine files, None if it was exported with --engine none. Raises BundleError."""
    if INDEX not in bundle.manifest.files:
        return None
    try:
        return _parsed(json.loads(bundle.file(INDEX).read_text("utf-8")), set(bundle.manifest.files))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{INDEX} cannot be read ({error!r}): export the bundle again with --engine") from None


def _parsed(data: Any, listed: set[str]) -> EngineIndex:
    if data["schema"] != INDEX_SCHEMA:
        raise ValueError(f"schema {data['schema']!r}, expected {INDEX_SCHEMA}")
    index = EngineIndex(
        precision=str(data["precision"]),
        graphs={str(name): str(file) for name, file in data["graphs"].items()},
        engines=tuple(
            BuiltEngine(
                **{key: str(engine[key]) for key in ("graph", "file", "library", "version")},
                capabilities=tuple(map(str, engine["capabilities"])),
            )
            for engine in data["engines"]
        ),
        calibration=str(data.get("calibration", "")),
    )
    if index.precision not in PRECISIONS:
        raise ValueError(f"precision {index.precision!r}")
    unlisted = {*index.graphs.values(), *(engine.file for engine in index.engines)} - listed
    if unlisted:  # the manifest's hashes cover what is used, nothing else is
        raise ValueError(f"{min(unlisted)} is not in manifest.json")
    return index


def engine_source(bundle: Bundle, name: str) -> tuple[Path, str]:
    """The ONNX file that engines of a graph are built from, and its precision. Raises BackendError, BundleError.

    A bundle without engine files has fp32 graphs for it, unless they were quantised for the processor.
    """
    index = read_index(bundle)
    if index is not None and name in index.graphs:
        return bundle.file(index.graphs[name]), index.precision
    precision, audio = bundle.manifest.precision.get(name, "fp32"), bundle.manifest.audio
    file = audio.file if name == "audio" and audio is not None else f"{name}.onnx"
    if precision != "fp32" or not file.endswith(".onnx"):
        raise BackendError(
            f"{file} is quantised for the processor ({precision}) and {bundle.path.name} has no graph for a GPU: "
            "export it with --engine tensorrt or tensorrt-rtx, or use device='cpu'"
        )
    return bundle.file(file), precision
