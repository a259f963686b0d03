"""Writes an avatar bundle: every file under a temporary name, verified, then renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from ..runtime.bundle import read_manifest
from ..runtime.errors import EmotagError, ExportError, OutputError
from ..runtime.manifest import (
    ACTION_UNITS,
    ENCODER_SCHEMA,
    FRAME_RATE,
    SAMPLE_RATE,
    AudioSpec,
    MotionSpec,
    lookahead_frames,
)
from ..runtime.model import Model
from ..training.checkpoint import Arrays, Checkpoint
from ..training.emotional_residual import EmotionalResidual
from . import parity
from .appearance_graph import appearance_section, write_appearance
from .encoder_tensors import encoder_spec, write_encoder
from .engines import EngineOptions, write_engines
from .engines.tracks import Heard
from .graphs import Graph, Precision, graphs_of, write_graph
from .preview import write_preview

Float = NDArray[np.float32]

_INT32 = ("head.faces", "head.parents", "gaussians.face_index", "mouth.index", "mouth.grid.offsets")
_FLOAT64 = ("view",)


@dataclass(frozen=True)
class ExportOptions:
    """How a checkpoint is exported. `speech` is 16 kHz mono; parity is measured on it."""

    speech: Float
    speech_name: str
    audio: Precision = "fp32"
    motion: Precision = "fp32"
    name: str | None = None
    engines: EngineOptions = EngineOptions()
    appearance: bool = True  # the emotional residual of the Gaussians, where the checkpoint has one
    refuse: bool = True  # a bundle that misses a bound; only synthetic benchmark bundles are exempt


def write_bundle(
    checkpoint: Checkpoint,
    output: Path,
    options: ExportOptions,
    progress: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """Export `checkpoint` to the bundle folder `output` and return its parity report.

    An older bundle of that name is replaced, only after the new one is whole. `progress` is told each stage.

    Raises:
        ExportError: a graph misses its parity bound, or `output` exists and is not a bundle.
        OutputError: the folder cannot be written.
        CheckpointError: the checkpoint's parts disagree.
    """
    checkpoint.validate()
    if output.exists() and not _is_bundle(output):
        raise ExportError(f"{output} exists and is not a bundle: choose another name, or remove it first")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    except OSError as error:
        raise OutputError(f"cannot write {output} ({error.strerror}): choose a folder you may write to") from error
    try:
        report = _fill(checkpoint, folder, options, progress, output)
        _publish(folder)
        _replace(folder, output)
    except OSError as error:
        raise OutputError(
            f"cannot write {output} ({error.strerror}): free some space or choose another place"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _fill(
    checkpoint: Checkpoint, folder: Path, options: ExportOptions, progress: Callable[[str], None], output: Path
) -> dict[str, Any]:
    graphs = graphs_of(checkpoint, options.audio, options.motion)
    for graph in graphs:
        progress(f"{graph.file} ({graph.precision})")
        if graph.native and checkpoint.encoder is not None:
            write_encoder(checkpoint.encoder, options.speech, folder / graph.file)
        else:
            write_graph(graph, folder / graph.file)
    audio, motion = audio_spec(checkpoint, options.audio), motion_spec(checkpoint)
    report = parity.measure(checkpoint, graphs, folder, audio, motion, options.speech, progress)
    report["speech"] = options.speech_name
    if options.engines.engine != "none":
        report["engines"] = made = _write_engines(checkpoint, graphs, folder, audio, motion, options, progress)
        for precision, parity_of in made["parity"].items():
            found = parity_of.pop("checks")  # only the precision that is shipped is bound to
            report["checks"] += found if precision == options.engines.precision else []
    residual = _residual(checkpoint, options)
    if residual is not None:
        progress("appearance.onnx")
        report["checks"] += [check.to_dict() for check in write_appearance(residual, folder)]
    failed = [check for check in report["checks"] if not check["passed"]]
    if failed and options.refuse:
        listed = "; ".join(f"{c['name']} is {c['value']:.3g}, bound {c['bound']:.3g}" for c in failed)
        raise ExportError(f"the bundle misses its parity bound ({listed}): export that graph in fp32")
    progress("tensors")
    tensors = avatar_tensors(checkpoint, graphs)
    save_file(tensors, folder / "avatar.safetensors")
    save_file(_typed(checkpoint.cues), folder / "cues.safetensors")
    progress("preview")
    write_preview(checkpoint, folder / "preview.png")
    report["bytes"] = {name: path.stat().st_size for name, path in _files(folder).items()}
    (folder / "report.json").write_text(_json(report))
    manifest = build_manifest(checkpoint, options, audio, motion, options.name or output.name.removesuffix(".emotag"))
    manifest["files"] = {name: _entry(path) for name, path in _files(folder).items()}
    (folder / "manifest.json").write_text(_json(manifest))
    progress("opening")
    _check_opens(folder, output)
    return report


def _write_engines(
    checkpoint: Checkpoint,
    graphs: list[Graph],
    folder: Path,
    audio: AudioSpec | None,
    motion: MotionSpec,
    options: ExportOptions,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    states = {graph.name: {n: v.numpy() for n, v in graph.module.initial_state().items()} for graph in graphs}
    tokens = parity.recorded_tokens(checkpoint) if audio is None else None
    writers = {graph.name: partial(write_graph, Graph(graph.name, graph.module, "fp32")) for graph in graphs}
    calibration, name = options.engines.calibration, options.engines.calibration_name
    if calibration is None:
        calibration, name = options.speech, options.speech_name
    heard = Heard(audio, motion, states, options.speech, calibration, name, tokens)
    return write_engines(writers, folder, heard, options.engines, progress)


def _files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its name with forward slashes."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _publish(folder: Path) -> None:
    """Give folder and files the usual modes: temporary folders and safetensors are made private."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _is_bundle(folder: Path) -> bool:
    """Whether a folder may be replaced: its manifest is a bundle's. What else is there is not ours to remove."""
    try:
        read_manifest(folder)
    except EmotagError:
        return False
    return True


def _check_opens(folder: Path, output: Path) -> None:
    """Load the finished bundle as a customer will, so that nothing is handed over that the runtime refuses."""
    try:
        Model.load(folder, "cpu", threads=1)
    except EmotagError as error:
        reason = str(error).replace(str(folder), str(output))
        raise ExportError(f"the runtime refuses the exported bundle ({reason}): mend the checkpoint") from error


def _replace(folder: Path, output: Path) -> None:
    """Rename `folder` to `output`; an older bundle steps aside first and is removed only when the new one stands."""
    if not output.exists():
        os.rename(folder, output)
        return
    old = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.old."))
    os.rename(output, old / output.name)
    try:
        os.rename(folder, output)
    except BaseException:  # Ctrl-C too: the old bundle comes back
        os.rename(old / output.name, output)
        os.rmdir(old)
        raise
    shutil.rmtree(old, ignore_errors=True)


def audio_spec(checkpoint: Checkpoint, precision: Precision = "fp32") -> AudioSpec | None:
    """The streaming definition of the checkpoint's encoder, None without one. An int8 encoder is tensors, no graph."""
    encoder = checkpoint.encoder
    if encoder is None:
        return None
    streaming = encoder.streaming
    return AudioSpec(
        chunk_tokens=streaming.chunk,
        lookahead_tokens=streaming.lookahead,
        context_tokens=streaming.context,
        hidden_size=encoder.hidden,
        mean=float(encoder.sample_mean),
        scale=float(encoder.sample_scale),
        encoder=encoder_spec(encoder) if precision == "int8" else None,
    )


def motion_spec(checkpoint: Checkpoint) -> MotionSpec:
    """Windows, smoothing and classes of the checkpoint's motion network."""
    config = checkpoint.motion.config
    return MotionSpec(
        window_past=config.window_past,
        window_future=config.window_future,
        smooth_past=config.smooth_past,
        smooth_future=config.smooth_future,
        aus=ACTION_UNITS,
        emotions=config.conditions,
        steerable=config.steerable,
    )


def build_manifest(
    checkpoint: Checkpoint, options: ExportOptions, audio: AudioSpec | None, motion: MotionSpec, name: str
) -> dict[str, Any]:
    """Content of manifest.json (docs/bundle.md), without its files."""
    info = checkpoint.info
    precision = {"motion": options.motion} | ({} if audio is None else {"audio": options.audio})
    content = {
        "schema": 1 if audio is None or audio.encoder is None else ENCODER_SCHEMA,
        "name": name,
        "checkpoint": {"kind": checkpoint.kind, **_source(checkpoint.source)},
        "frame_rate": FRAME_RATE,
        "width": info.width,
        "height": info.height,
        "background": list(info.background),
        "audio": None if audio is None else _audio_section(audio),
        "motion": vars(motion),
        "lookahead_frames": lookahead_frames(audio, motion),
        "gaussians": {"active_sh_degree": info.active_sh_degree, "scale_activation": info.scale_activation},
        "expression_names": list(info.expression_names),
        "precision": precision,
        "licence": info.licence,
        "consent": info.consent,
        "notes": list(info.notes),
    }
    engines = options.engines
    if engines.engine != "none":
        calibration = engines.calibration_name or options.speech_name
        content["engines"] = {"library": engines.engine, "precision": engines.precision, "calibration": calibration}
    residual = _residual(checkpoint, options)
    return content if residual is None else content | {"appearance": appearance_section(residual)}


def _audio_section(audio: AudioSpec) -> dict[str, Any]:
    section = {"sample_rate": SAMPLE_RATE, **asdict(audio)}
    return {name: value for name, value in section.items() if value is not None}


def _residual(checkpoint: Checkpoint, options: ExportOptions) -> EmotionalResidual | None:
    """The emotional residual that the bundle gets."""
    return checkpoint.appearance if options.appearance else None


def avatar_tensors(checkpoint: Checkpoint, graphs: list[Graph]) -> Arrays:
    """Content of avatar.safetensors: head, Gaussians, mouth head, initial states."""
    tensors = dict(checkpoint.avatar)
    if "mouth.index" in tensors:
        tensors |= mouth_tensors(checkpoint)
    for graph in graphs:
        for name, value in graph.module.initial_state().items():
            tensors[f"state.{graph.name}.{name}"] = value.numpy()
    return _typed(tensors)


def mouth_tensors(checkpoint: Checkpoint) -> Arrays:
    """The mouth head's grid and weights, named as docs/bundle.md names them."""
    mouth = checkpoint.motion.mouth()
    tensors: Arrays = {
        "mouth.bound": np.array([mouth.config.bound], np.float32),
        "mouth.grid.offsets": np.array(mouth.config.offsets(), np.int32),
        "mouth.head.weight": mouth.head.weight.detach().numpy(),
        "mouth.head.bias": mouth.head.bias.detach().numpy(),
    }
    for name, plane in (("xy", mouth.xy), ("yz", mouth.yz), ("xz", mouth.xz)):
        tensors[f"mouth.grid.{name}"] = plane.embeddings.detach().numpy()
    for index, layer in enumerate(mouth.mlp.net):
        assert isinstance(layer, nn.Linear)
        tensors[f"mouth.mlp.{index}"] = layer.weight.detach().numpy()
    return tensors


def _typed(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    typed: Arrays = {}
    for name, array in arrays.items():
        kind = np.int32 if name in _INT32 else np.float64 if name in _FLOAT64 else np.float32
        typed[name] = np.ascontiguousarray(array, kind)
    return typed


def _source(source: str) -> dict[str, str]:
    path = Path(source)
    if not source or not path.is_file():
        return {"source": path.name, "sha256": ""}
    return {"source": path.name, "sha256": _digest(path)}


def _entry(path: Path) -> dict[str, object]:
    return {"sha256": _digest(path), "bytes": path.stat().st_size}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
