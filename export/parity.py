"""The parity report: what the shipped graphs compute against PyTorch, on speech, through the runtime's own runners."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime.encoder import StreamingEncoder
from ..runtime.errors import ExportError
from ..runtime.graph_encoder import GraphEncoder
from ..runtime.graphs import Bound, BoundGraph
from ..runtime.graphs import Graph as Session
from ..runtime.manifest import AudioSpec, MotionSpec
from ..runtime.motion import MotionNetwork
from ..runtime.native_encoder import NativeBound, NativeEncoder
from ..training.checkpoint import Checkpoint
from ..training.grmn import Motion, token_windows
from ..training.released_audio import released_windows, whole_file_tokens
from ..training.wav2vec2 import StreamingWav2Vec2
from .audio_graph import AudioStep
from .graphs import Graph

Float = NDArray[np.float32]

GRAPH_BOUND = 1e-4  # fp32 graph against PyTorch, and streaming against offline, relative to the RMS where above 1
INT8_MOTION_BOUND = 0.10  # relative RMS of an int8 graph's expression and jaw
INT8_JAW_CORRELATION = 0.995


@dataclass(frozen=True)
class Difference:
    """Of two arrays: largest and mean absolute difference, and the RMS of the first."""

    max: float
    mean: float
    rms: float

    @staticmethod
    def of(wanted: Float, found: Float) -> Difference:
        """Compare two arrays of one shape."""
        gap = np.abs(wanted.astype(np.float64) - found)
        return Difference(float(gap.max()), float(gap.mean()), float(np.sqrt(np.mean(wanted.astype(np.float64) ** 2))))

    @property
    def relative(self) -> float:
        """Largest difference, relative to the RMS where that is above 1."""
        return self.max / max(1.0, self.rms)


@dataclass(frozen=True)
class Check:
    """One measured value and the bound it must keep. `at_least` turns the bound round."""

    name: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the bound is kept; NaN never is."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def to_dict(self) -> dict[str, object]:
        """As it stands in report.json."""
        return {**asdict(self), "passed": self.passed}


def measure(
    checkpoint: Checkpoint,
    graphs: list[Graph],
    folder: Path,
    audio_spec: AudioSpec | None,
    motion_spec: MotionSpec,
    speech: Float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Run every exported graph in ONNX Runtime on `speech` [N] (16 kHz) and compare it with PyTorch.

    Returns the content of report.json: `checks` with their bounds, `audio`, `motion`, `end_to_end`, and `timings_ms`
    a frame: the audio graph as the processor runs it and, if that is by our kernels, in ONNX Runtime (`audio_onnx`).
    """
    with _one_thread():
        return _measure(checkpoint, graphs, folder, audio_spec, motion_spec, speech, progress)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps are small: threads that wait for each other in every product take minutes on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(
    checkpoint: Checkpoint,
    graphs: list[Graph],
    folder: Path,
    audio_spec: AudioSpec | None,
    motion_spec: MotionSpec,
    speech: Float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    by_name = {graph.name: graph for graph in graphs}
    report: dict[str, Any] = {"seconds_of_speech": round(len(speech) / 16000, 2)}
    checks: list[Check] = []
    timings: dict[str, float] = {}
    encoder = checkpoint.encoder
    if encoder is not None and audio_spec is not None:
        progress("audio parity")
        offline, streamed = _audio(by_name["audio"], encoder, folder, audio_spec, speech, report, checks, timings)
        if checkpoint.kind == "released":
            progress("streaming against whole-file features")
            report["whole_file"] = whole_file_deviation(checkpoint, encoder, speech, offline)
    else:
        offline = streamed = recorded_tokens(checkpoint)
    progress("motion parity")
    runs = _MotionRuns(by_name["motion"], checkpoint, folder, audio_spec, motion_spec)
    _motion(runs, offline, streamed, report, checks, timings)
    report["timings_ms"] = {name: round(value, 3) for name, value in timings.items()}
    report["checks"] = [check.to_dict() for check in checks]
    return report


def recorded_tokens(checkpoint: Checkpoint) -> Float:
    """Token sequence [2T, H] inside a released checkpoint's recorded windows: each frame's own two tokens."""
    past, future = checkpoint.motion.config.window_past, checkpoint.motion.config.smooth_future
    if len(checkpoint.cues["windows"]) <= future:
        raise ExportError(f"the recorded clip has no more than {future} frames: use a longer scene")
    windows: Float = checkpoint.cues["windows"]
    return windows[:, past : past + 2].reshape(-1, windows.shape[-1])


@torch.no_grad()
def whole_file_deviation(
    checkpoint: Checkpoint, encoder: StreamingWav2Vec2, speech: Float, streamed: Float
) -> dict[str, Any]:
    """What streaming costs a released network, which was trained on features of the whole file at once.

    Tokens, expression and jaw of both on the same speech: absolute differences, and their RMS relative to the
    whole-file result's.
    """
    tokens = whole_file_tokens(encoder.model, speech)
    count = min(len(tokens), len(streamed)) // 2 * 2
    frames = count // 2 - checkpoint.motion.config.smooth_future
    aus = torch.from_numpy(_aus(checkpoint, count // 2))
    recorded = torch.from_numpy(released_windows(tokens[:count]))
    wanted = checkpoint.motion(recorded, aus, checkpoint.identity)
    found = reference_motion(checkpoint, streamed[:count])
    result: dict[str, Any] = {"tokens": _relative(tokens[:count], streamed[:count])}
    for name in ("expression", "jaw"):
        result[name] = _relative(getattr(wanted, name)[:frames].numpy(), found[name][:frames])
    return result


def _relative(wanted: Float, found: Float) -> dict[str, float]:
    gap = Difference.of(wanted, found)
    error = float(np.sqrt(np.mean((wanted - found) ** 2)))
    return {**asdict(gap), "relative_rms": error / max(gap.rms, 1e-6)}


def _audio(
    graph: Graph,
    encoder: StreamingWav2Vec2,
    folder: Path,
    spec: AudioSpec,
    speech: Float,
    report: dict[str, Any],
    checks: list[Check],
    timings: dict[str, float],
) -> tuple[Float, Float]:
    assert isinstance(graph.module, AudioStep)
    step = 320 * spec.chunk_tokens
    audio = np.pad(speech, (0, -len(speech) % step))
    offline = encoder.extract(audio)
    stepped = _stepped(graph.module, encoder, audio)
    path = folder / graph.file
    states = {name: value.numpy() for name, value in graph.module.initial_state().items()}
    streamed, timings["audio"] = _streamed(_bound(path, spec, states, graph.native), spec, audio)
    count = len(stepped)
    definition = Difference.of(offline[:count], stepped)
    exported = Difference.of(stepped, streamed)
    checks.append(Check("audio: streaming against offline, max", definition.relative, GRAPH_BOUND))
    if graph.precision == "fp32":
        checks.append(Check("audio: ONNX against PyTorch, max", exported.relative, GRAPH_BOUND))
    report["audio"] = {
        "precision": graph.precision,
        "tokens": count,
        "streaming_against_offline": asdict(definition),
        "onnx_against_pytorch": asdict(exported),
    }
    if not graph.native and GraphEncoder.is_known(path):  # the processor takes its weights, a GPU runs it
        timings["audio_onnx"] = timings["audio"]
        streamed, timings["audio"] = _streamed(NativeBound(NativeEncoder(path, spec, 1, states)), spec, audio)
        kernels = Difference.of(stepped, streamed)
        checks.append(Check("audio: kernels against PyTorch, max", kernels.relative, GRAPH_BOUND))
        report["audio"]["kernels_against_pytorch"] = asdict(kernels)
    return offline[:count], streamed


def _bound(path: Path, spec: AudioSpec, states: Mapping[str, Float], native: bool) -> Bound:
    return NativeBound(NativeEncoder(path, spec)) if native else BoundGraph(Session(path), states)


@torch.no_grad()
def _stepped(module: AudioStep, encoder: StreamingWav2Vec2, audio: Float) -> Float:
    """Tokens by the step module in PyTorch, chunk by chunk."""
    names, outputs = module.input_names(), module.output_names()
    values = dict(zip(names, module.example_inputs(), strict=True))
    c, length, lag = module.streaming.chunk, module.streaming.context, module.streaming.lag
    tokens = []
    for k, chunk in enumerate(torch.from_numpy(audio).reshape(-1, 320 * c)):
        values["samples"] = encoder.normalise(chunk)
        out = dict(zip(outputs, module(*(values[name] for name in names)), strict=True))
        slot = (k - lag) * c % length
        for name in names:
            if f"{name}_next" in out:
                values[name] = out[f"{name}_next"]
            elif f"{name}_new" in out and k >= lag:
                values[name][:, slot : slot + c] = out[f"{name}_new"][:, :c]
        if k >= lag:
            values["mask"][slot : slot + c] = 0
            tokens.append(out["tokens"])
    return torch.cat(tokens).numpy()


def _streamed(bound: Bound, spec: AudioSpec, audio: Float) -> tuple[Float, float]:
    """Tokens by the shipped file through the runtime, and the CPU time of a step in ms."""
    runner = StreamingEncoder(bound, spec)
    tokens: list[Float] = []
    times = []
    for chunk in audio.reshape(-1, 320 * spec.chunk_tokens):
        start = time.process_time()
        runner.feed(chunk, lambda out: tokens.append(out.copy()))
        times.append(time.process_time() - start)
    return np.concatenate(tokens), 1e3 * float(np.median(times))


@dataclass(frozen=True)
class _MotionRuns:
    """The shipped motion graph, run by the runtime over a token sequence."""

    graph: Graph
    checkpoint: Checkpoint
    folder: Path
    audio: AudioSpec | None
    spec: MotionSpec

    def run(self, tokens: Float) -> tuple[dict[str, Float], float]:
        """Motion of every frame as `reference_motion` gives it, and the CPU time of a frame in ms."""
        config = self.checkpoint.motion.config
        states = {name: value.numpy() for name, value in self.graph.module.initial_state().items()}
        windows = token_windows(torch.from_numpy(tokens), config.window_past, config.window_future).numpy()
        runner = MotionNetwork(
            BoundGraph(Session(self.folder / self.graph.file), states), self.audio, self.spec, states
        )
        aus = _aus(self.checkpoint, len(windows))
        rows, times = [], []
        for f, window in enumerate(windows):
            start = time.process_time()
            motion = runner.recorded(window, aus[max(0, f - config.smooth_future)])
            times.append(time.process_time() - start)
            if f >= config.smooth_future:
                rows.append(motion.copy())
        found = {name: np.stack([getattr(row, name) for row in rows]) for name in Motion._fields}
        return found, 1e3 * float(np.median(times))


def _motion(
    runs: _MotionRuns,
    offline: Float,
    streamed: Float,
    report: dict[str, Any],
    checks: list[Check],
    timings: dict[str, float],
) -> None:
    precision = runs.graph.precision
    wanted = reference_motion(runs.checkpoint, offline)
    same, timings["motion"] = runs.run(offline)
    whole, _ = runs.run(streamed)
    exported = {name: Difference.of(wanted[name], same[name]) for name in wanted}
    report["motion"] = {
        "precision": precision,
        "frames": len(wanted["jaw"]),
        "onnx_against_pytorch": {name: asdict(gap) for name, gap in exported.items()},
    }
    if precision == "fp32":
        checks += [
            Check(f"motion: ONNX against PyTorch, {n}, max", gap.relative, GRAPH_BOUND) for n, gap in exported.items()
        ]
    report["end_to_end"] = end = _end_to_end(wanted, whole)
    if "int8" in (precision, report.get("audio", {}).get("precision")):
        correlation = end["jaw_correlation"]
        checks.append(Check("int8 against fp32: jaw correlation", correlation, INT8_JAW_CORRELATION, at_least=True))
        for name in ("expression", "jaw"):
            relative = end[name]["relative_rms"]
            checks.append(Check(f"int8 against fp32: {name}, relative RMS", relative, INT8_MOTION_BOUND))


def _end_to_end(wanted: dict[str, Float], found: dict[str, Float]) -> dict[str, Any]:
    """What the shipped pair of graphs makes of the audio, against PyTorch's offline definition of both."""
    result: dict[str, Any] = {"jaw_correlation": _correlation(wanted["jaw"][:, 0], found["jaw"][:, 0])}
    for name in ("expression", "jaw"):
        result[name] = _relative(wanted[name], found[name])
    return result


@torch.no_grad()
def reference_motion(checkpoint: Checkpoint, tokens: Float) -> dict[str, Float]:
    """PyTorch's motion of the frames whose windows all lie inside the clip or before it."""
    config = checkpoint.motion.config
    windows = token_windows(torch.from_numpy(tokens), config.window_past, config.window_future)
    motion = checkpoint.motion(windows, torch.from_numpy(_aus(checkpoint, len(windows))), checkpoint.identity)
    count = len(windows) - config.smooth_future
    return {name: getattr(motion, name)[:count].numpy() for name in Motion._fields}


def _aus(checkpoint: Checkpoint, frames: int) -> Float:
    """Action units of the recorded track, repeated to `frames`."""
    aus: Float = checkpoint.cues["aus"]
    return aus[np.arange(frames) % len(aus)]


def _correlation(a: Float, b: Float) -> float:
    """Pearson correlation; 1 if both stand still."""
    still = [bool(track.std() < 1e-9) for track in (a, b)]
    if any(still):
        return float(all(still))
    return float(np.corrcoef(a, b)[0, 1])
