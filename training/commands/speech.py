"""`emotag-train speech`: hear and move, learned from speech without pictures."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ...runtime.errors import ControlError
from ..checkpoint import check_writable
from ..demo.assemble import HEAD
from ..demo.learn import Recipe, evaluate, learn
from ..head import HeadModel

HELP = "Learn an audio encoder and a motion network from speech without pictures: where pretrain starts."
_RECIPE = Recipe()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `emotag-train speech`."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="for `pretrain --start`")
    parser.add_argument("--work", type=Path, metavar="DIR", help="a run cut off goes on from here (default: FILE.work)")
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"), metavar="DIR", help="cache of the speech")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument(
        "--judge", type=int, default=50, metavar="N", help="clips of unheard voices to measure on; 0: none"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured")
    how = parser.add_argument_group("how much")
    counts = {
        "clips": (_RECIPE.corpus.count, "spoken by espeak-ng and flite"),
        "recorded": (_RECIPE.recorded.count, "spoken by festival's recorded voices"),
        "prompts": (_RECIPE.prompts.count, "of people's prompts"),
        "talkies": (_RECIPE.talkies.count, "of actors' lines"),
        "encoder-steps": (_RECIPE.encoder.steps, "the small encoder, from nothing"),
        "refine-steps": (_RECIPE.refine.steps, "it again, with the recorded voices"),
        "people-steps": (_RECIPE.people.steps, "it again, with the prompts"),
        "imitate-steps": (_RECIPE.imitate.steps, "the recogniser's convolutions, imitated"),
        "listen-steps": (_RECIPE.listen.steps, "the whole encoder, with everybody"),
        "again-steps": (_RECIPE.again.steps, "the same once more, with new heads"),
        "motion-steps": (_RECIPE.motion.steps, "the motion network"),
    }
    for name, (count, what) in counts.items():
        how.add_argument(f"--{name}", type=int, default=count, metavar="N", help=f"{what}; default: %(default)s")


def run(options: argparse.Namespace) -> int:
    """0 when the file is written."""
    if options.json is not None and not options.judge:
        raise ControlError(f"--json {options.json} with --judge 0: nothing is measured; leave one of them out")
    recipe = recipe_of(options)
    check_writable(options.output)
    torch.set_num_threads(options.threads)
    head = HeadModel.load(HEAD)
    work = options.work or options.output.with_name(f"{options.output.name}.work")
    with tqdm(total=1.0, disable=None, file=sys.stderr, bar_format="{desc} {percentage:3.0f}%|{bar}|") as bar:

        def progress(said: str, share: float) -> None:
            bar.set_description_str(said, refresh=False)
            bar.n = min(share, 1.0)
            bar.refresh()

        learned = learn(head, recipe, options.corpus, progress, work)
    learned.save(options.output)
    if options.judge:
        numbers = evaluate(head, learned.encoder, learned.motion, learned.identity, options.corpus, options.judge)
        print("\n".join(numbers.lines()))
        if options.json is not None:
            options.json.write_text(json.dumps(numbers.to_dict(), indent=1) + "\n")
    print(options.output)
    return 0


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The command line as a recipe. Raises `ControlError` for counts below 1."""
    if options.judge < 0:
        raise ControlError(f"--judge is {options.judge}; give 0 or more")
    for name in (
        "threads",
        "clips",
        "recorded",
        "prompts",
        "talkies",
        "encoder_steps",
        "refine_steps",
        "people_steps",
        "imitate_steps",
        "listen_steps",
        "again_steps",
        "motion_steps",
    ):
        if getattr(options, name) < 1:
            raise ControlError(f"--{name.replace('_', '-')} is {getattr(options, name)}; give 1 or more")
    return replace(
        _RECIPE,
        corpus=replace(_RECIPE.corpus, count=options.clips),
        recorded=replace(_RECIPE.recorded, count=options.recorded),
        prompts=replace(_RECIPE.prompts, count=options.prompts),
        talkies=replace(_RECIPE.talkies, count=options.talkies),
        encoder=replace(_RECIPE.encoder, steps=options.encoder_steps),
        refine=replace(_RECIPE.refine, steps=options.refine_steps),
        people=replace(_RECIPE.people, steps=options.people_steps),
        imitate=replace(_RECIPE.imitate, steps=options.imitate_steps),
        listen=replace(_RECIPE.listen, steps=options.listen_steps),
        again=replace(_RECIPE.again, steps=options.again_steps),
        motion=replace(_RECIPE.motion, steps=options.motion_steps),
    )
