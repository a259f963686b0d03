"""Graphs run on speech by the runtime itself: for calibration, and to see what a precision costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.encoder import StreamingEncoder
from ...runtime.graphs import BoundGraph, Graph
from ...runtime.manifest import FRAME_SAMPLES, FRAME_TOKENS, TOKEN_SAMPLES, AudioSpec, MotionSpec
from ...runtime.motion import Motion, MotionNetwork

Float = NDArray[np.float32]
FP16_BOUND = 1e-2  # relative RMS of fp16's expression and jaw against fp32's
INT8_BOUND = 0.10  # the same of int8's
INT8_JAW_CORRELATION = 0.995
_MOST_FRAMES = 250  # ten seconds say what a precision costs
CALIBRATION_FRAMES = 1500  # a minute sets the scales
_CALIBRATION_CALLS = 96  # that are kept, spread over the speech: a call of a large encoder holds megabytes


@dataclass(frozen=True)
class Heard:
    """What the graphs are run on, 16 kHz [N]: parity on `speech`, and int8 is calibrated on `calibration`.

    tokens [N, H] stand in for the encoder where there is none. states: initial states by graph, then by input.
    """

    audio: AudioSpec | None
    motion: MotionSpec
    states: Mapping[str, Mapping[str, Float]]
    speech: Float
    calibration: Float
    calibration_name: str = ""
    tokens: Float | None = None


class Recorded(BoundGraph):
    """A bound graph that keeps a copy of what every `stride`-th call was given."""

    def __init__(
        self, path: Path, states: Mapping[str, Float], taken: list[dict[str, Float]] | None, stride: int
    ) -> None:
        super().__init__(Graph(path), states)
        self._taken, self._stride, self._calls = taken, stride, 0

    def run(self) -> None:
        self._calls += 1
        if self._taken is not None and self._calls % self._stride == 0:
            given = self.inputs | self._sets[self._phase]
            self._taken.append({name: value.copy() for name, value in given.items()})
        super().run()


def track(heard: Heard, folder: Path) -> dict[str, Float]:
    """Expression [F, E] and jaw [F, 3] that the folder's audio.onnx and motion.onnx make of the speech, without AUs."""
    rows = [(made.expression.copy(), made.jaw.copy()) for made in _frames(heard, folder, _MOST_FRAMES, {})]
    return {"expression": np.stack([row[0] for row in rows]), "jaw": np.stack([row[1] for row in rows])}


def calibration_calls(heard: Heard, folder: Path) -> dict[str, list[dict[str, Float]]]:
    """Inputs of calls of each graph on the speech."""
    taken: dict[str, list[dict[str, Float]]] = {"audio": [], "motion": []}
    for _ in _frames(heard, folder, CALIBRATION_FRAMES, taken):
        pass
    return taken


def _frames(heard: Heard, folder: Path, most: int, taken: Mapping[str, list[dict[str, Float]]]) -> Iterator[Motion]:
    stride = max(1, min(most, len(heard.speech) // FRAME_SAMPLES) // _CALIBRATION_CALLS)
    bound = Recorded(folder / "motion.onnx", heard.states["motion"], taken.get("motion"), stride)
    network = MotionNetwork(bound, heard.audio, heard.motion, heard.states["motion"])
    aus = np.zeros(len(heard.motion.aus), np.float32)
    frame = 0
    for tokens in _tokens(heard, folder, taken.get("audio"), stride):
        network.history.append(tokens)
        while FRAME_TOKENS * frame + heard.motion.window_future <= network.history.count:
            yield network.hear(frame, aus)
            frame += 1
        if frame >= most:
            return


def _tokens(heard: Heard, folder: Path, taken: list[dict[str, Float]] | None, stride: int) -> Iterator[Float]:
    if heard.audio is None:
        assert heard.tokens is not None, "without an encoder there are recorded tokens"
        yield from heard.tokens.reshape(-1, FRAME_TOKENS, heard.tokens.shape[1])
        return
    encoder = StreamingEncoder(Recorded(folder / "audio.onnx", heard.states["audio"], taken, stride), heard.audio)
    chunk = TOKEN_SAMPLES * heard.audio.chunk_tokens
    made: list[Float] = []
    for block in heard.speech[: len(heard.speech) // chunk * chunk].reshape(-1, chunk):
        encoder.feed(block, lambda tokens: made.append(tokens.copy()))
        yield from made
        made.clear()


def compare(wanted: Mapping[str, Float], found: Mapping[str, Float], precision: str) -> dict[str, Any]:
    """The report's numbers and checks: relative RMS of expression and jaw, and the jaw's correlation for int8."""
    errors = {name: relative_rms(wanted[name], found[name]) for name in wanted}
    bound = {"fp32": 1e-4, "fp16": FP16_BOUND, "int8": INT8_BOUND}[precision]
    checks = [_check(f"engine {precision}: {name}, relative RMS", value, bound) for name, value in errors.items()]
    together = correlation(wanted["jaw"][:, 0], found["jaw"][:, 0])
    if precision == "int8":
        checks.append(_check("engine int8: jaw correlation", together, INT8_JAW_CORRELATION, at_least=True))
    return {"frames": len(wanted["jaw"]), "relative_rms": errors, "jaw_correlation": together, "checks": checks}


def _check(name: str, value: float, bound: float, at_least: bool = False) -> dict[str, Any]:
    passed = value >= bound if at_least else value <= bound
    return {"name": name, "value": value, "bound": bound, "at_least": at_least, "passed": bool(passed)}


def relative_rms(wanted: Float, found: Float) -> float:
    """RMS of the difference, relative to the RMS of what is wanted."""
    gap = wanted.astype(np.float64) - found
    return float(np.sqrt(np.mean(gap**2)) / max(np.sqrt(np.mean(wanted.astype(np.float64) ** 2)), 1e-6))


def correlation(a: Float, b: Float) -> float:
    """Pearson correlation; 1 if both stand still."""
    still = [bool(values.std() < 1e-9) for values in (a, b)]
    return float(all(still)) if any(still) else float(np.corrcoef(a, b)[0, 1])
