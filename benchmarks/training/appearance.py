"""Ablation: what an emotional residual of the Gaussians gains in PSNR on emotional frames that it was not trained on.

    python -m benchmarks.training.appearance [--work build/results] [--start FILE] [--emotions NAME ...]
        [--settle N] [--steps N] [--json FILE]

An avatar is adapted to a person's neutral scene, and its Gaussians are trained on with the pictures of that scene and
of the emotional ones of levels 2 and 3 until that gains little: else what a residual learns is the person. Then three
things are learned from these pictures, in the same order: the residual; a blind one, which hears the audio but is told
neither emotion nor displacement; and the Gaussians further, the same in every frame, with the same bounds and rates.
All are judged on the whole of level 1, which nobody was trained on, and on what
training left out of the others. The network is told the emotion. `driven` has GRMN's motion, `tracked` the true one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emotag.training.checkpoint import Checkpoint, load_checkpoint
from emotag.training.emotional_residual import EmotionalResidual, make_residual, wear
from emotag.training.emotional_residual_fit import FitOptions, Studio, fit
from emotag.training.grmn import Motion
from emotag.training.trainer.config import TrainConfig
from emotag.training.trainer.start import open_head

from .people import FIRST, adapt, make_scenes

_EVERY = 5  # frames between those that are judged, of the level that was not trained on
_ADAPTATION = {"steps": 500, "warmup": 150, "size": 256, "count": 20_000, "half_size": 0.0, "geometry": False}


class Blind(EmotionalResidual):
    """A residual that hears the audio; every frame is one of all emotions to it, and nothing is displaced."""

    def of_motion(self, motion: Motion, emotion: Tensor) -> Tensor:
        same = torch.full_like(emotion, 1 / (self.config.classes - 1))
        same[:, self.config.neutral] = 0
        return self.coefficients(torch.zeros_like(motion.residual_expression), motion.encoded_audio, same)


class TrainedOn(EmotionalResidual):
    """No residual: offsets that are the same in every frame, which is the Gaussians trained on."""

    def of_motion(self, motion: Motion, emotion: Tensor) -> Tensor:
        return torch.ones(len(emotion), self.config.rank)


KINDS: dict[str, type[EmotionalResidual]] = {"trained_on": TrainedOn, "blind": Blind, "residual": EmotionalResidual}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.appearance", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/results"), metavar="DIR")
    parser.add_argument("--start", type=Path, default=Path("training/assets/demo.pt"), metavar="FILE")
    parser.add_argument("--emotions", nargs="+", default=["happy"], metavar="NAME")
    parser.add_argument("--settle", type=int, default=800, metavar="N")
    parser.add_argument("--steps", type=int, default=FitOptions.steps, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = ablation(options.work, options.start, tuple(options.emotions), options.settle, options.steps, _say)
    print(json.dumps(found, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def ablation(
    work: Path,
    start: Path,
    emotions: tuple[str, ...],
    settle: int,
    steps: int,
    say: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Mean PSNR of the head, dB, by scene, motion and kind; `felt.pt` beside the avatar holds the residual."""
    scenes, avatar = work / "heldout", work / "appearance" / "neutral.pt"
    make_scenes(scenes, 1, 10.0, ("neutral",), (1,))
    make_scenes(scenes, 1, 6.0, emotions, (1, 2, 3))
    if not avatar.is_file():
        adapt(start, scenes / f"id{FIRST:03d}_neutral_00", avatar, replace(TrainConfig.adaptation(), **_ADAPTATION))
    checkpoint = load_checkpoint(avatar)
    head, own = open_head("anny", checkpoint.motion.config.expression), FitOptions(steps=steps)
    levels = {f"id{FIRST:03d}_{name}{level}_00": level for name in emotions for level in (1, 2, 3)}
    levels[f"id{FIRST:03d}_neutral_00"] = 0
    studios = {name: Studio(checkpoint, scenes / name, head, own.size) for name in levels}
    trained = [studios[name] for name, level in levels.items() if level != 1]
    say("settling")
    _settle(checkpoint, trained, list(studios.values()), replace(own, steps=settle))
    kinds: dict[str, EmotionalResidual | None] = {"settled": None}
    found: dict[str, Any] = {"settle": settle, "steps": steps, "processor_seconds": {}}
    for name, kind in KINDS.items():
        say(f"learning: {name}")
        began = time.process_time()
        kinds[name] = fit(checkpoint, trained, own, residual=_untrained(checkpoint, own, kind))
        found["processor_seconds"][name] = round(time.process_time() - began, 1)
    checkpoint.appearance = kinds["residual"]
    checkpoint.save(avatar.with_name("felt.pt"))
    for name, studio in studios.items():
        say(f"judging: {name}")
        every = range(0, len(studio.scene.pictures), _EVERY)
        found[name] = _judged(studio, list(every if levels[name] == 1 else studio.subject.test_indices), kinds)
    return found


def _settle(checkpoint: Checkpoint, trained: list[Studio], studios: list[Studio], options: FitOptions) -> None:
    """Train the avatar's Gaussians on, in the checkpoint and in the studios."""
    still = fit(checkpoint, trained, options, residual=_untrained(checkpoint, options, TrainedOn))
    with torch.no_grad():
        settled = wear(studios[0].gaussians, still.offsets(torch.ones(still.config.rank)))
    for name in ("means", "quats", "scales", "opacities", "sh"):
        checkpoint.avatar[f"gaussians.{name}"] = getattr(settled, name).numpy()
    for studio in studios:
        studio.gaussians = settled


def _untrained(checkpoint: Checkpoint, options: FitOptions, kind: type[EmotionalResidual]) -> EmotionalResidual:
    made = make_residual(checkpoint.avatar, checkpoint.motion.config, options.seed, options.rank)
    same = kind(made.config)
    same.load_state_dict(made.state_dict())
    return same


def _judged(studio: Studio, indices: list[int], kinds: dict[str, EmotionalResidual | None]) -> dict[str, Any]:
    """By motion: means by kind, and of the residual against the Gaussians that were trained on, the gain."""
    rows: dict[str, Any] = {"frames": len(indices)}
    for motion in ("driven", "tracked"):
        psnr = {name: np.array(studio.judge(indices, kind, motion == "tracked")) for name, kind in kinds.items()}
        rows[motion] = {name: round(float(values.mean()), 3) for name, values in psnr.items()}
        better = psnr["residual"] - psnr["trained_on"]
        rows[motion]["residual_over_trained_on"] = round(float(better.mean()), 3)
        rows[motion]["standard_error"] = round(float(better.std(ddof=1) / np.sqrt(len(better))), 3)
        rows[motion]["frames_better"] = round(float((better > 0).mean()), 3)
    return rows


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
