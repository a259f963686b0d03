"""`emotag-train pretrain`: one motion network for many people, from their scenes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...runtime.errors import ControlError
from ..trainer.config import TrainConfig
from ..trainer.job import Interrupted, Job, perform
from ..trainer.options import add_run, add_training, config_of, job_of
from ..trainer.start import NETWORKS
from .check import parse_streaming

HELP = "Learn one motion network and everybody's Gaussians from the scenes of many people."
_DEFAULTS = TrainConfig()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `emotag-train pretrain`."""
    parser.add_argument("scenes", type=Path, nargs="*", metavar="SCENE", help="folders; with --resume the same again")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .pt to write")
    begin = parser.add_argument_group("what it starts from")
    begin.add_argument("--start", type=Path, metavar="FILE", help="a checkpoint with encoder and motion network")
    begin.add_argument("--encoder", metavar="NAME", help="a Wav2Vec2's name or folder, for a new motion network")
    begin.add_argument("--streaming", metavar="C,R,L", help="of --encoder, in 20 ms tokens (default: 2,2,100)")
    begin.add_argument("--network", choices=NETWORKS, help="windows of a new network (default: live, 160 ms ahead)")
    begin.add_argument("--mouth", action="store_true", help="give a network of --start a mouth head if it has none")
    group = add_training(parser, _DEFAULTS)
    group.add_argument("--motion-only", dest="motion_steps", type=int, metavar="N",
                       help="iterations of the motion alone before, without pictures (default: 0)")  # fmt: skip
    group.add_argument("--crops", type=int, metavar="N", help="clips in each of them (default: 8)")
    group.add_argument("--crop-frames", type=int, metavar="N", help="frames of each clip (default: 32)")
    group.add_argument("--motion-rate", type=float, metavar="RATE", help="learning rate in them (default: 0.0005)")
    group.add_argument("--seconds", type=float, metavar="S", help="of every scene (default: all)")
    add_run(parser)


def run(options: argparse.Namespace) -> int:
    """0 when the file is written."""
    perform_and_tell(_job(options))
    return 0


def perform_and_tell(job: Job) -> None:
    """Train, and say what to do with the file, also where the run was cut off."""
    try:
        perform(job)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        raise
    print(job.output)


def _job(options: argparse.Namespace) -> Job:
    config = config_of(options, _DEFAULTS)
    if options.mouth and options.start is None:
        raise ControlError("--mouth belongs to --start: a new network has a mouth head, a resumed one what it had")
    if options.resume is not None:
        for name in ("start", "encoder", "streaming", "network"):
            if getattr(options, name) is not None:
                raise ControlError(f"--{name} with --resume: {options.resume} holds the networks; leave it out")
        return job_of(options, config, tuple(options.scenes))
    if not options.scenes:
        raise ControlError("no scene to learn from: name the folders of one or more")
    if (options.start is None) == (options.encoder is None):
        raise ControlError("give either --start FILE, or --encoder NAME for a new motion network")
    for name in ("streaming", "network"):
        if getattr(options, name) is not None and options.encoder is None:
            raise ControlError(f"--{name} belongs to --encoder: the start checkpoint has its own")
    return job_of(
        options,
        config,
        tuple(options.scenes),
        start=options.start,
        mouth=options.mouth,
        encoder=options.encoder,
        streaming=parse_streaming(options.streaming or "2,2,100"),
        network=options.network or "live",
    )
