"""The options that pretraining and adaptation share on the command line."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...runtime.errors import ControlError
from .config import COMPONENTS, WEIGHTS, TrainConfig, parse_without
from .job import Job

__all__ = ["add_run", "add_training", "config_of", "job_of"]

_RUN = ("cache", "log", "save_every", "minutes", "devices", "accelerator")


def add_training(parser: argparse.ArgumentParser, defaults: TrainConfig) -> Any:
    """What decides the result; kept in the checkpoint, so not to be given again with --resume."""
    group = parser.add_argument_group("training")

    def number(name: str, kind: type, what: str, metavar: str = "N") -> None:
        value = getattr(defaults, name.replace("-", "_"))
        group.add_argument(f"--{name}", type=kind, metavar=metavar, help=f"{what} (default: {value})")

    number("steps", int, "iterations with pictures")
    number("warmup", int, "frames of every person that the appearance learns alone, on a still cloud")
    number("blend", float, "share of the steps over which the still cloud turns into the driven one", "SHARE")
    number("batch", int, "frames a step and process")
    number("size", int, "pixels of the longer side; pictures that are smaller stay so", "PIXELS")
    number("half-size", float, "share of the steps at half that size: four times as quick", "SHARE")
    number("count", int, "Gaussians a person")
    number("rate", float, "learning rate of the networks", "RATE")
    number("grid-rate", float, "learning rate of the mouth's grid", "RATE")
    number("decay", float, "factor on the rates at the end", "F")
    number("ema", float, "of the motion network's weights that are exported, 0: none", "F")
    number("seed", int, "of everything random")
    group.add_argument(
        "--still", choices=("canonical", "tracked"),
        help=f"what the warm-up draws: no expression, or the tracked one (default: {defaults.still})",
    )  # fmt: skip
    group.add_argument(
        "--weights",
        choices=WEIGHTS,
        help=f"of the losses: the released code's or the paper's (default: {defaults.weights})",
    )
    group.add_argument(
        "--no-densify", dest="densify", action="store_const", const=False,
        help="let no Gaussian multiply or vanish",
    )  # fmt: skip
    group.add_argument(
        "--without", type=parse_without, metavar="A,B", help=f"ablation: leave out any of {', '.join(COMPONENTS)}"
    )
    return group


def add_run(parser: argparse.ArgumentParser) -> None:
    """What does not change the result (but --minutes)."""
    group = parser.add_argument_group("the run")
    group.add_argument("--head", default="anny", help="'anny', a head's .npz, or FLAME's .pkl (default: %(default)s)")
    group.add_argument("--resume", type=Path, metavar="FILE", help="go on with a run that was cut off")
    group.add_argument("--save-every", type=int, default=500, metavar="N", help="steps (default: %(default)s)")
    group.add_argument("--minutes", type=float, metavar="M", help="end after so long, with the schedule run through")
    group.add_argument("--log", type=Path, metavar="DIR", help="curves and pictures for TensorBoard")
    group.add_argument("--cache", type=Path, metavar="DIR", help="of audio tokens (default: tokens/ in every scene)")
    group.add_argument("--devices", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    group.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")


def config_of(options: argparse.Namespace, defaults: TrainConfig) -> TrainConfig:
    """The configuration of the command line.

    Raises:
        ControlError: a value is out of range, or an option that the resumed file decides is given.
    """
    given = {
        field.name: getattr(options, field.name)
        for field in fields(TrainConfig)
        if getattr(options, field.name, None) is not None
    }
    if options.resume is not None and given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ControlError(f"{names} with --resume: {options.resume} decides that; leave it out, or start a new run")
    return replace(defaults, **given)


def job_of(options: argparse.Namespace, config: TrainConfig, scenes: tuple[Path, ...], **more: Any) -> Job:
    """The job of the command line. Raises ControlError for numbers out of range."""
    if options.save_every < 1:
        raise ControlError(f"--save-every {options.save_every}: give 1 or more")
    if options.minutes is not None and options.minutes <= 0:
        raise ControlError(f"--minutes {options.minutes}: give more than 0")
    run = {name: getattr(options, name) for name in _RUN}
    return Job(config, scenes, options.output, head=options.head, resume=options.resume, **run, **more)
