"""`emotag-train adapt`: an avatar of one person from seconds of video."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...runtime.errors import ControlError
from ..trainer.config import TrainConfig
from ..trainer.options import add_run, add_training, config_of, job_of
from .pretrain import perform_and_tell

HELP = "Make an avatar of one person from seconds of video, with a pretrained motion network."
_DEFAULTS = TrainConfig.adaptation()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `emotag-train adapt`."""
    parser.add_argument("start", type=Path, nargs="?", metavar="PRETRAINED", help="of `pretrain`, or any checkpoint")
    parser.add_argument("scene", type=Path, nargs="?", metavar="SCENE", help="the person's folder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the avatar's .pt to write")
    group = add_training(parser, _DEFAULTS)
    group.add_argument("--seconds", type=float, metavar="S", help="of the clip's beginning (default: 5)")
    group.add_argument("--all-motion", action="store_const", const=True,
                       help="train the whole motion network, not its AdaIN parameters alone")  # fmt: skip
    group.add_argument("--no-geometry", dest="geometry", action="store_const", const=False,
                       help="leave depth and normal maps unused")  # fmt: skip
    add_run(parser)
    about = parser.add_argument_group("the avatar")
    about.add_argument("--licence", default="unspecified", help="of the avatar, for the bundle's manifest")
    about.add_argument("--consent", default="unspecified", help="what the person agreed to, for the manifest")
    about.add_argument("--compact", action="store_true", help="leave out of the finished file what --resume needs")


def run(options: argparse.Namespace) -> int:
    """0 when the file is written."""
    config = config_of(options, _DEFAULTS)
    if options.resume is not None and options.start is not None:
        raise ControlError(f"PRETRAINED and SCENE with --resume: {options.resume} knows them; leave them out")
    if options.resume is None and options.scene is None:
        raise ControlError("give a pretrained checkpoint and a scene, or --resume FILE")
    scenes = () if options.scene is None else (options.scene,)
    about = {name: getattr(options, name) for name in ("licence", "consent", "compact")}
    perform_and_tell(job_of(options, config, scenes, start=options.start, **about))
    return 0
