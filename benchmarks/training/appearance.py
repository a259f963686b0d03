"""Ablation: what an emotional residual of the Gaussians gains in PSNR on emotional frames that it was not trained on.

    python -m benchmarks.training.appearance [--work build/appearance] [--start FILE] [--people N ...]
        [--emotions NAME ...] [--still-skin] [--settle N] [--steps N] [--json FILE]

For each person an avatar is adapted to a neutral scene, and its Gaussians are trained on for --settle steps with the
pictures of that scene and of the emotional ones of levels 2 and 3: else what a residual learns is the person. From
there three things learn for --steps from these pictures, in the same order, with the same bounds and rates: the
Gaussians alone, the same in every frame; Gaussians and a residual; Gaussians and a blind one, which hears the audio but
is told neither emotion nor displacement. All are judged on the whole of level 1, which nobody was trained on, and on
what training left out of the others, in the head and in the face (inside the landmarks, the brows raised by half of
their height above the mouth). The network is told the emotion. `driven` has GRMN's motion, `tracked` the true one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import Delaunay
from torch import Tensor

from emotag.training.checkpoint import Checkpoint, load_checkpoint
from emotag.training.emotional_residual import EmotionalResidual, ResidualConfig, make_residual, wear
from emotag.training.emotional_residual_fit import FitOptions, Studio, fit
from emotag.training.grmn import Motion
from emotag.training.metrics.image import psnr
from emotag.training.trainer.config import TrainConfig
from emotag.training.trainer.start import open_head

from .people import FIRST, adapt, make_scenes

_EVERY = 10  # frames between those that are judged, of the level that was not trained on
_SIZE = 256
_ADAPTATION = {"steps": 1000, "warmup": 250, "size": _SIZE, "count": 20_000, "half_size": 0.0, "geometry": False}
_RAISED = 0.5

REGIONS = ("head", "face")
Numbers = dict[str, Any]


class Together(EmotionalResidual):
    """A residual beside Gaussians that are trained on: `still` are offsets that are the same in every frame."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__(config)
        self.still = torch.nn.Parameter(torch.zeros_like(self.raw))

    def shift(self) -> Tensor:
        """[G,14] of the Gaussians, within the bounds."""
        moved: Tensor = (self.bounds * torch.tanh(self.still)).mean(0)
        return moved

    def offsets(self, coefficients: Tensor) -> Tensor:
        return super().offsets(coefficients) + self.shift()


class Blind(Together):
    """It hears the audio; every frame is one of all emotions to it, and nothing is displaced."""

    def of_motion(self, motion: Motion, emotion: Tensor) -> Tensor:
        same = torch.full_like(emotion, 1 / (self.config.classes - 1))
        same[:, self.config.neutral] = 0
        return self.coefficients(torch.zeros_like(motion.residual_expression), motion.encoded_audio, same)


class TrainedOn(Together):
    """The Gaussians alone."""

    def offsets(self, coefficients: Tensor) -> Tensor:
        return self.shift()


KINDS: dict[str, type[Together]] = {"trained_on": TrainedOn, "residual": Together, "blind": Blind}


@dataclass(frozen=True)
class Plan:
    """What is measured. still_skin: on people whose skin neither creases nor flushes. settle, steps: of training."""

    work: Path
    start: Path
    emotions: tuple[str, ...]
    still_skin: bool
    settle: int
    steps: int

    def __post_init__(self) -> None:
        if not self.emotions or "neutral" in self.emotions:
            raise SystemExit("--emotions: give some that are not neutral")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 0. With --json the file is written after every person."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.appearance", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("build/appearance"), metavar="DIR")
    parser.add_argument("--start", type=Path, default=Path("training/assets/demo.pt"), metavar="FILE")
    parser.add_argument("--people", type=int, nargs="+", default=[FIRST], metavar="N")
    parser.add_argument("--emotions", nargs="+", default=["angry", "happy"], metavar="NAME")
    parser.add_argument("--still-skin", action="store_true")
    parser.add_argument("--settle", type=int, default=500, metavar="N")
    parser.add_argument("--steps", type=int, default=FitOptions.steps, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    plan = Plan(options.work, options.start, tuple(options.emotions), options.still_skin, options.settle, options.steps)
    about = {
        "size": _SIZE,
        "adaptation": _ADAPTATION,
        "emotions": options.emotions,
        "settle": plan.settle,
        "steps": plan.steps,
        "skin": "still" if plan.still_skin else "creases and blood",
    }
    for person in options.people:
        numbers = ablation(plan, person, _say)
        found = _kept(options.json, about)  # read late: another process may measure another person
        found["people"][f"id{person:03d}"] = numbers
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


def _kept(path: Path | None, about: Numbers) -> Numbers:
    """The content of an earlier run's file, if it was made with the same settings; else nobody has been measured."""
    if path is not None and path.is_file():
        found: Numbers = json.loads(path.read_text())
        if {name: found.get(name) for name in about} == about:
            return found
    return {**about, "people": {}}


def ablation(plan: Plan, person: int, say: Callable[[str], None] = lambda what: None) -> Numbers:
    """Mean PSNR in dB by scene, motion, region and kind; `felt.pt` beside the avatar holds the residual."""
    scenes, avatar = plan.work / "heldout", plan.work / f"id{person:03d}" / "neutral.pt"
    same = {"first": person, "size": _SIZE, "maps": 0, "still_skin": plan.still_skin}
    make_scenes(scenes, 1, 5.0, ("neutral",), (1,), **same)
    make_scenes(scenes, 1, 4.0, plan.emotions, (1, 2, 3), **same)
    if not avatar.is_file():
        say(f"id{person:03d}: adapting")
        config = replace(TrainConfig.adaptation(), **_ADAPTATION)
        adapt(plan.start, scenes / f"id{person:03d}_neutral_00", avatar, config)
    checkpoint = load_checkpoint(avatar)
    head, own = open_head("anny", checkpoint.motion.config.expression), FitOptions(steps=plan.steps, size=_SIZE)
    levels = {f"id{person:03d}_{name}{level}_00": level for name in plan.emotions for level in (1, 2, 3)}
    levels[f"id{person:03d}_neutral_00"] = 0
    studios = {name: Studio(checkpoint, scenes / name, head, own.size) for name in levels}
    trained = [studios[name] for name, level in levels.items() if level != 1]
    settled = avatar.with_name(f"settled{plan.settle}.pt")
    if not settled.is_file():
        say("settling")
        _settle(checkpoint, trained, replace(own, steps=plan.settle, decay=0.0))
        checkpoint.save(settled)
    checkpoint = load_checkpoint(settled)
    for studio in studios.values():
        studio.take(checkpoint)
    found: Numbers = {"processor_seconds": {}}
    kinds = _learned(checkpoint, trained, own, found["processor_seconds"], say)
    _save(checkpoint, studios[next(iter(studios))], kinds["residual"], avatar.with_name("felt.pt"))
    for name, studio in studios.items():
        say(f"judging: {name}")
        every = range(0, len(studio.scene.pictures), _EVERY)
        found[name] = _judged(studio, list(every if levels[name] == 1 else studio.subject.test_indices), kinds)
    return found


def _learned(
    checkpoint: Checkpoint,
    trained: list[Studio],
    own: FitOptions,
    seconds: dict[str, float],
    say: Callable[[str], None],
) -> dict[str, Together | None]:
    kinds: dict[str, Together | None] = {"settled": None}
    for name, kind in KINDS.items():
        say(f"learning: {name}")
        began = time.process_time()
        kinds[name] = untrained = _untrained(checkpoint, own, kind)
        fit(checkpoint, trained, own, residual=untrained, also=[untrained.still])
        seconds[name] = round(time.process_time() - began, 1)
    return kinds


def _settle(checkpoint: Checkpoint, trained: list[Studio], options: FitOptions) -> None:
    """Train the avatar's Gaussians on, in the checkpoint."""
    alone = _untrained(checkpoint, options, TrainedOn)
    fit(checkpoint, trained, options, residual=alone, also=[alone.still])
    _shifted(checkpoint, trained[0], alone)


def _shifted(checkpoint: Checkpoint, studio: Studio, learned: Together) -> None:
    with torch.no_grad():
        gaussians = wear(studio.gaussians, learned.shift())
    for name in ("means", "quats", "scales", "opacities", "sh"):
        checkpoint.avatar[f"gaussians.{name}"] = getattr(gaussians, name).numpy()


def _save(checkpoint: Checkpoint, studio: Studio, learned: Together | None, path: Path) -> None:
    """The avatar with its residual, as a bundle is made of it."""
    assert learned is not None
    _shifted(checkpoint, studio, learned)
    checkpoint.appearance = EmotionalResidual(learned.config)
    state = {name: value for name, value in learned.state_dict().items() if name != "still"}
    checkpoint.appearance.load_state_dict(state)
    checkpoint.save(path)


def _untrained(checkpoint: Checkpoint, options: FitOptions, kind: type[Together]) -> Together:
    made = make_residual(checkpoint.avatar, checkpoint.motion.config, options.seed, options.rank)
    same = kind(made.config)
    same.load_state_dict(made.state_dict() | {"still": same.still.detach()})
    return same


def _judged(studio: Studio, indices: list[int], kinds: dict[str, Together | None]) -> Numbers:
    """By motion and region: means by kind, and the residual's gain over the Gaussians that were trained on."""
    rows: Numbers = {"frames": len(indices)}
    for motion in ("driven", "tracked"):
        by_kind = {name: _psnr(studio, indices, kind, motion == "tracked") for name, kind in kinds.items()}
        rows[motion] = {region: _compared({name: all_[region] for name, all_ in by_kind.items()}) for region in REGIONS}
    return rows


def _compared(values: dict[str, NDArray[np.float64]]) -> Numbers:
    found: Numbers = {name: round(float(one.mean()), 3) for name, one in values.items()}
    for other in ("trained_on", "blind"):
        better = values["residual"] - values[other]
        found[f"residual_over_{other}"] = round(float(better.mean()), 3)
        found[f"standard_error_{other}"] = round(float(better.std(ddof=1) / np.sqrt(len(better))), 3)
        found[f"frames_better_{other}"] = round(float((better > 0).mean()), 3)
    return found


@torch.no_grad()
def _psnr(
    studio: Studio, indices: list[int], residual: EmotionalResidual | None, tracked: bool
) -> dict[str, NDArray[np.float64]]:
    """dB over white, a number for each picture, by region."""
    white, found = torch.ones(3), []
    for index in indices:
        target = studio.subject.target(index, white, crop=True)
        picture = studio.draw(index, residual, white, True, tracked).rgb.clamp(0, 1)
        drawn, truth = (x.permute(1, 2, 0).numpy() for x in (picture, target.rgb))
        head = target.mask.numpy()
        found.append([psnr(drawn, truth, head), psnr(drawn, truth, head * face_of(studio, index))])
    return dict(zip(REGIONS, np.array(found).T, strict=True))


def face_of(studio: Studio, index: int) -> NDArray[np.bool_]:
    """(h, w) pixels of the head's box inside the landmarks of picture `index`, with half of the forehead."""
    camera, box = studio.subject.camera(index), studio.subject.frames.box(index)
    own = studio.scene.pictures[index]
    points = own.landmarks() * (camera.width / own.camera.width) - [box.left, box.top]
    brows = points[17:27]
    raised = brows + _RAISED * (brows.mean(axis=0) - points[48:60].mean(axis=0))
    rows, columns = np.mgrid[: box.height, : box.width]
    hull = Delaunay(np.concatenate([points, raised]))
    return np.asarray(hull.find_simplex(np.stack([columns, rows], axis=-1)) >= 0)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
