"""What else could make these frames on this machine, measured in the same minutes.

    python -m benchmarks.peers [-o benchmarks/results/peers.json]

Processor time of one thread, milliseconds a frame, medians; contenders take turns, so that all see the same weather.
The base size with random weights: Wav2Vec2-base, the released GRMN, 60,000 Gaussians at 512x512. The peers are

* PyTorch eager: the same networks as modules, one thread, float32, `inference_mode`. The encoder as the streaming step
  with the same state; GRMN once with all eight windows of a frame, as the released code computes it, and once with one.
* Encoding a sliding window: Hugging Face's Wav2Vec2 on the newest half second, again for every frame, as live systems
  do that have no streaming encoder (PyTorch eager).
* A plain C++ renderer: our renderer's own source without vector intrinsics (`isa="plain"`: scalar C++ at -O3 for
  baseline x86-64, where the compiler may use SSE2). Same algorithm, same pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bundles import median_of, synthetic
from emotag.export.audio_graph import AudioStep
from emotag.runtime import Model
from emotag.runtime.bench.machine import Machine
from emotag.runtime.bench.probe import Probe
from emotag.training.grmn import GRMN, GRMNConfig
from emotag.training.wav2vec2 import StreamingConfig, StreamingWav2Vec2

ROUNDS, CALLS = 12, 3
WINDOW = 8000  # samples: half a second
OURS = {"encoder": "EmoTaG, int8", "motion": "EmoTaG, int8", "drawing": "EmoTaG"}
Call = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """One way to do a stage. `before` is called before each frame and not timed."""

    call: Call
    before: Call = lambda: None


def contenders(bundle: Path) -> dict[str, dict[str, Contender]]:
    """By stage: name of the contender to what makes one frame of it."""
    model = Model.load(bundle, "cpu", threads=1)
    probe, plain = Probe(model), Probe(model, isa="plain")
    for _ in range(12):  # the first frames of an utterance have no motion yet
        probe.frame()
    encoder = StreamingWav2Vec2.from_config({}, StreamingConfig(2, 8, 100)).eval()
    return {
        "encoder": {OURS["encoder"]: Contender(probe.encode), **_eager_encoders(encoder)},
        "motion": {
            OURS["motion"]: Contender(probe.move, before=probe.encode),
            **_eager_motion(GRMN(GRMNConfig()).eval()),
        },
        "drawing": {
            OURS["drawing"]: Contender(probe.draw),
            "plain C++ (no vector intrinsics)": Contender(plain.draw),
        },
    }


def _eager_encoders(encoder: StreamingWav2Vec2) -> dict[str, Contender]:
    step = AudioStep(encoder).eval()
    inputs, window = step.example_inputs(), torch.randn(1, WINDOW)
    return {
        "PyTorch eager, the streaming step": Contender(lambda: step(*inputs)),
        "PyTorch eager, 0.5 s again every frame": Contender(lambda: encoder.model(window)),
    }


def _eager_motion(grmn: GRMN) -> dict[str, Contender]:
    config = grmn.config
    windows, aus = torch.randn(config.smoothing, config.window, config.hidden), torch.zeros(1, 6)
    known, modulation = torch.zeros(config.smoothing - 1, config.width), grmn.modulation(torch.zeros(config.identity))
    return {
        "PyTorch eager, eight windows a frame": Contender(lambda: grmn.decode(grmn.encode(windows), aus, modulation)),
        "PyTorch eager, one window a frame": Contender(
            lambda: grmn.decode(torch.cat([known, grmn.encode(windows[:1])]), aus, modulation)
        ),
    }


def measure(bundle: Path) -> dict[str, dict[str, float]]:
    """Milliseconds by stage and contender."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    with torch.inference_mode():
        stages = contenders(bundle)
        for _ in range(ROUNDS):
            for stage, calls in stages.items():
                for name, contender in calls.items():
                    times = found.setdefault(stage, {}).setdefault(name, [])
                    times += [_timed(contender) for _ in range(CALLS + 1)][1:]  # the first fetches its weights
    return {stage: {name: median_of(times) for name, times in rows.items()} for stage, rows in found.items()}


def _timed(contender: Contender) -> float:
    contender.before()
    start = time.thread_time_ns()
    contender.call()
    return 1e-6 * (time.thread_time_ns() - start)


def ratios(medians: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """How many times the cost of ours each contender's is."""
    return {stage: {name: ms / rows[OURS[stage]] for name, ms in rows.items()} for stage, rows in medians.items()}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/peers.json"))
    options = parser.parse_args()
    medians = measure(synthetic("base"))
    times = ratios(medians)
    machine = Machine.here()
    print(machine.line())
    for stage, rows in medians.items():
        print(stage)
        for name, ms in rows.items():
            print(f"  {name:<42}{ms:>9.2f} ms {times[stage][name]:>7.1f}x")
    content = {
        "machine": vars(machine),
        "ms": medians,
        "ratio": times,
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
