"""Every number of the training side, from nothing.

    python -m benchmarks.training [--work build/results] [--json FILE] [--learned FILE]
        [--real WAV PHONEMES]… [--phoneme-index FILE] [--speech WAV …] [--only PART,…]

Parts, each of which is kept in the folder of work and not measured twice (a folder is of one file of networks, and
says so where another is given):

    speech     the learned motion on voices that training never heard
    people     5 s of each of three people whom it never saw: adapted, and judged on the 5 s after
    ablation   the decoders without each of the paper's components
    real       the avatar's lips on recordings with phonemes (--real), and in pauses (--speech)

Without --learned the speech stage comes first: about two hours of one core. With it, some 40 minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from emotag.export.command import main as export
from emotag.training.demo.assemble import HEAD, assemble
from emotag.training.demo.learn import Learned, Recipe, learn, load_learned
from emotag.training.head import HeadModel
from emotag.training.trainer.config import TrainConfig

from .ablation import ablation
from .page import page
from .people import FIRST, judge_person, make_scenes
from .speech import recordings, unheard_voices

PARTS = ("speech", "people", "ablation", "real")
PEOPLE, SECONDS = 3, 10.0

Numbers = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for and write it; 0."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    head = HeadModel.load(HEAD)
    learned = _learned(options, head)
    start = options.work / "learned.pt" if options.learned is None else options.learned
    claim(options.work, start)
    heard = digest([*(path for pair in options.real for path in pair), *options.speech])
    parts: dict[str, Callable[[], Numbers]] = {
        "speech": lambda: unheard_voices(learned.encoder, learned.motion, learned.identity, head, options.corpus),
        "people": lambda: _people(options.work, start, head),
        "ablation": lambda: ablation(learned, head, options.corpus, options.work, start),
        "real": lambda: _real(options, head, learned),
    }
    found: Numbers = {"processor": _processor(), "threads": options.threads}
    for name in options.only.split(","):
        kept = f"real-{heard}.json" if name == "real" else f"{name}.json"
        found[name] = _once(options.work / kept, parts[name])
        print(json.dumps({name: found[name]}, indent=1), flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
        options.json.with_suffix(".md").write_text(page(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("build/results"), metavar="DIR")
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"), metavar="DIR")
    parser.add_argument("--learned", type=Path, metavar="FILE", help="what the speech stage has learned already")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,…")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--real", type=Path, nargs=2, action="append", default=[], metavar=("WAV", "PHONEMES"))
    parser.add_argument("--phoneme-index", type=Path, metavar="FILE", help="JSON of name → number for frame labels")
    parser.add_argument("--speech", type=Path, nargs="+", default=[], metavar="WAV")
    return parser


def _learned(options: argparse.Namespace, head: HeadModel) -> Learned:
    """The speech stage's networks: given, kept, or trained now."""
    path = options.learned or options.work / "learned.pt"
    if path.is_file():
        return load_learned(path)
    learned = learn(head, Recipe(), options.corpus, lambda said, share: print(f"{share:4.0%} {said}"), options.work)
    learned.save(path)
    return learned


def digest(files: Sequence[Path]) -> str:
    """16 hexadecimal digits of the content of files, in their order."""
    found = hashlib.sha256()
    for path in files:
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def claim(work: Path, learned: Path) -> None:
    """Write into the folder of work which networks it is of; stop if it is of others, whose numbers it keeps."""
    record, mine = work / "networks.txt", digest([learned])
    if not record.is_file():
        if any(work.glob("*.json")):
            print(f"{work}: does not say of which networks what it keeps is; taken for those of {learned}", flush=True)
        record.write_text(mine + "\n")
    elif record.read_text().strip() != mine:
        raise SystemExit(
            f"{work} keeps what other networks than {learned} reached: choose another --work, or delete it"
        )


def _once(path: Path, measure: Callable[[], Numbers]) -> Numbers:
    if path.is_file():
        kept: Numbers = json.loads(path.read_text())
        return kept
    found = measure()
    path.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _people(work: Path, start: Path, head: HeadModel) -> Numbers:
    scenes = work / "heldout"
    make_scenes(scenes, PEOPLE, SECONDS, ("neutral",), (1,))
    found: Numbers = {}
    for number in range(FIRST, FIRST + PEOPLE):
        name = f"id{number:03d}_neutral_00"
        measure = lambda name=name: judge_person(  # noqa: E731
            start, scenes / name, work / f"{name}.pt", head, TrainConfig.adaptation()
        )
        found[name] = _once(work / f"{name}.json", measure)
    found["mean"] = {key: sum(found[name][key] for name in found) / PEOPLE for key in next(iter(found.values()))}
    return found


def _real(options: argparse.Namespace, head: HeadModel, learned: Learned) -> Numbers:
    """Through a bundle of the demo's head, as a customer would have it."""
    bundle = options.work / "demo.emotag"
    if not bundle.is_dir():
        checkpoint = options.work / "demo.pt"
        assemble(learned, head).save(checkpoint)
        if export([str(checkpoint), "-o", str(bundle)]):
            raise SystemExit("the export failed; its message is above")
    return recordings(bundle, head, [tuple(pair) for pair in options.real], options.phoneme_index, options.speech)


def _processor() -> str:
    """The machine in a word."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
