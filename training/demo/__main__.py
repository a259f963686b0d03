"""`python -m emotag.training.demo`: train the demo checkpoint from nothing, or print how good one is."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ...runtime.errors import EmotagError
from ..checkpoint import check_writable, load_checkpoint
from ..head import HeadModel
from .assemble import HEAD, assemble
from .learn import HELD_OUT_CLIPS, Recipe, evaluate, learn, load_learned
from .measure import Measures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, or 1 after one line that says what is wrong."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        _evaluate(options) if options.evaluate else _train(options)
    except EmotagError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; the same command goes on from the folder of work", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emotag.training.demo", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-o", "--output", type=Path, help="train from nothing and write this checkpoint")
    what.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help="only print the numbers of a checkpoint")
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"), help="cache of the speech")
    parser.add_argument(
        "--learned", type=Path, metavar="FILE", help="learned motion: reused if it exists, else written"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="a run cut off goes on from here (default: OUTPUT.work)"
    )
    parser.add_argument("--clips", type=int, default=HELD_OUT_CLIPS.count, help="held-out clips to measure on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    return parser


def _train(options: argparse.Namespace) -> None:
    begin = time.monotonic()

    def progress(stage: str, share: float) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {share:4.0%}  {stage}", flush=True)

    check_writable(options.output)
    head = HeadModel.load(HEAD)
    reuse = options.learned is not None and options.learned.exists()
    work = options.work or options.output.with_name(f"{options.output.name}.work")
    learned = load_learned(options.learned) if reuse else learn(head, Recipe(), options.corpus, progress, work)
    if options.learned is not None and not reuse:
        learned.save(options.learned)
    assemble(learned, head).save(options.output)
    numbers = evaluate(head, learned.encoder, learned.motion, learned.identity, options.corpus, options.clips)
    _report(numbers, options.json)


def _evaluate(options: argparse.Namespace) -> None:
    checkpoint = load_checkpoint(options.evaluate)
    assert checkpoint.encoder is not None  # a checkpoint of ours has one
    numbers = evaluate(
        HeadModel.load(HEAD),
        checkpoint.encoder,
        checkpoint.motion,
        checkpoint.identity,
        options.corpus,
        options.clips,
    )
    _report(numbers, options.json)


def _report(numbers: Measures, path: Path | None) -> None:
    print("\n".join(numbers.lines()))
    if path is not None:
        path.write_text(json.dumps(numbers.to_dict(), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
