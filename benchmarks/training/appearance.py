"""Ablation: what an emotional residual of the Gaussians gains in PSNR on emotional frames that it was not trained on.

    python -m benchmarks.training.appearance [--work build/results] [--start FILE] [--steps N] [--json FILE]

An avatar is adapted to a person's neutral scene, the residual is trained on the happy scenes of levels 2 and 3, and
judged on the whole of level 1 and on what training left out of the others. The network is told the emotion. `driven`
has GRMN's motion, `tracked` the true one. The control is the same avatar without the residual, on the same frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotag.training.checkpoint import load_checkpoint
from emotag.training.emotional_residual_fit import FitOptions, Studio, fit
from emotag.training.trainer.config import TrainConfig
from emotag.training.trainer.start import open_head

from .people import FIRST, adapt, make_scenes

_EVERY = 5  # frames between those that are judged, of the level that was not trained on
_ADAPTATION = {"steps": 500, "warmup": 150, "size": 256, "count": 20_000, "half_size": 0.0, "geometry": False}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.appearance", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/results"), metavar="DIR")
    parser.add_argument("--start", type=Path, default=Path("training/assets/demo.pt"), metavar="FILE")
    parser.add_argument("--steps", type=int, default=FitOptions.steps, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = ablation(options.work, options.start, options.steps)
    print(json.dumps(found, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def ablation(work: Path, start: Path, steps: int) -> dict[str, Any]:
    """Mean PSNR of the head, dB, without and with the residual, by scene and motion."""
    scenes, avatar = work / "heldout", work / "appearance" / "neutral.pt"
    make_scenes(scenes, 1, 10.0, ("neutral",), (1,))
    make_scenes(scenes, 1, 6.0, ("happy",), (1, 2, 3))
    if not avatar.is_file():
        adapt(start, scenes / f"id{FIRST:03d}_neutral_00", avatar, replace(TrainConfig.adaptation(), **_ADAPTATION))
    checkpoint = load_checkpoint(avatar)
    head, own = open_head("anny", checkpoint.motion.config.expression), FitOptions(steps=steps)
    names = [f"id{FIRST:03d}_happy{level}_00" for level in (1, 2, 3)]
    studios = {name: Studio(checkpoint, scenes / name, head, own.size) for name in names}
    began = time.process_time()
    residual = fit(checkpoint, [studios[name] for name in names[1:]], own)
    found: dict[str, Any] = {"steps": steps, "processor_seconds": round(time.process_time() - began, 1)}
    for name, studio in studios.items():
        subject = studio.subject
        indices = range(0, len(studio.scene.pictures), _EVERY) if name == names[0] else subject.test_indices
        rows: dict[str, Any] = {"frames": len(indices)}
        for motion in ("driven", "tracked"):
            without = studio.judge(list(indices), None, motion == "tracked")
            worn = studio.judge(list(indices), residual, motion == "tracked")
            gain = np.subtract(worn, without)
            rows[motion] = {
                "without": round(float(np.mean(without)), 3),
                "with": round(float(np.mean(worn)), 3),
                "gain": round(float(gain.mean()), 3),
                "frames_better": round(float((gain > 0).mean()), 3),
            }
        found[name] = rows
    return found


if __name__ == "__main__":
    sys.exit(main())
