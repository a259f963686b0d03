"""The encoder, int8 and floats, beside ONNX Runtime's of both: time of a step, and how far its tokens are off.

    python -m benchmarks.encoder [--checkpoint training/assets/demo.pt] [--threads 1] [--seconds 4]

Without a checkpoint the encoder has the base size and random weights. All contenders run in turn in one process, on the
same speech, each with a state of its own. Needs emotag[export].
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from emotag.export.audio_graph import AudioStep
from emotag.export.bundle import audio_spec
from emotag.export.encoder_tensors import write_encoder
from emotag.export.graphs import Graph, quantise, write_graph
from emotag.export.speech import load_speech
from emotag.export.synthetic import PRESETS, synthetic_checkpoint
from emotag.runtime.bench.machine import Machine
from emotag.runtime.encoder import StreamingEncoder
from emotag.runtime.graph_encoder import GraphEncoder
from emotag.runtime.graphs import Bound, BoundGraph
from emotag.runtime.graphs import Graph as Session
from emotag.runtime.native_encoder import NativeBound, NativeEncoder
from emotag.training.checkpoint import Checkpoint, load_checkpoint

Float = NDArray[np.float32]


@dataclass
class Contender:
    """One encoder with its state, and what was measured of it: milliseconds of processor time and elapsed."""

    encoder: StreamingEncoder
    tokens: list[Float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)

    def hear(self, chunk: Float) -> None:
        """One step."""
        start, thread = time.perf_counter(), time.thread_time()
        self.encoder.feed(chunk, lambda out: self.tokens.append(out.copy()))
        self.spent.append(1e3 * (time.thread_time() - thread))
        self.elapsed.append(1e3 * (time.perf_counter() - start))


def contenders(checkpoint: Checkpoint, speech: Float, threads: int, folder: Path) -> dict[str, Contender]:
    """By name, each opened with `threads`."""
    assert checkpoint.encoder is not None
    step = AudioStep(checkpoint.encoder).eval()
    states = {name: value.numpy() for name, value in step.initial_state().items()}
    plain, tensors = audio_spec(checkpoint), audio_spec(checkpoint, "int8")
    assert plain is not None and tensors is not None
    write_encoder(checkpoint.encoder, speech, folder / "audio.safetensors")
    native = NativeBound(NativeEncoder(folder / "audio.safetensors", tensors, threads))
    bound: dict[str, Bound] = {"EmoTaG, int8": native}
    write_graph(Graph("audio", step, "fp32"), folder / "fp32.onnx")
    if GraphEncoder.is_known(folder / "fp32.onnx"):
        bound["EmoTaG, fp32"] = NativeBound(NativeEncoder(folder / "fp32.onnx", plain, threads, states))
    bound["ONNX Runtime, fp32"] = BoundGraph(Session(folder / "fp32.onnx", threads), states)
    onnx.save(quantise(onnx.load(folder / "fp32.onnx")), folder / "int8.onnx")
    bound["ONNX Runtime, int8"] = BoundGraph(Session(folder / "int8.onnx", threads), states)
    return {name: Contender(StreamingEncoder(one, plain)) for name, one in bound.items()}


def measure(checkpoint: Checkpoint, speech: Float, threads: int) -> dict[str, Contender]:
    """Every contender on every chunk of the speech, in turn."""
    assert checkpoint.encoder is not None
    step = 320 * checkpoint.encoder.streaming.chunk
    with tempfile.TemporaryDirectory() as folder:
        found = contenders(checkpoint, speech, threads, Path(folder))
    for chunk in speech[: len(speech) // step * step].reshape(-1, step):
        for contender in found.values():
            contender.hear(chunk)
    return found


def deviation(wanted: Float, found: Float) -> float:
    """RMS of the difference, relative to the RMS of what is wanted."""
    return float(np.sqrt(np.mean((wanted - found) ** 2) / np.mean(wanted**2)))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    speech, _ = load_speech([])
    speech = speech[: int(16000 * options.seconds)]
    if options.checkpoint is None:
        checkpoint = synthetic_checkpoint(PRESETS["base"], speech)
    else:
        checkpoint = load_checkpoint(options.checkpoint)
    found = measure(checkpoint, speech, options.threads)
    wanted = np.concatenate(found["ONNX Runtime, fp32"].tokens)
    print(Machine.here().line())
    print(f"{options.threads} threads; ms a step: of the calling thread (lowest tenth, median), elapsed (median)")
    for name, one in found.items():
        low, middle, elapsed = np.quantile(one.spent, 0.1), np.median(one.spent), np.median(one.elapsed)
        off = deviation(wanted, np.concatenate(one.tokens))
        print(f"  {name:<20}{low:>8.2f}{middle:>8.2f}{elapsed:>8.2f}   tokens off by {100 * off:.2f}%")


if __name__ == "__main__":
    main()
