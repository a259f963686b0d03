"""`emotag-train synth`: a corpus of scenes of people who do not exist, with exact truth."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from ...runtime.errors import ControlError
from ..corpus import ESPEAK, FLITE, HELD_OUT, Voice
from ..synth.corpus import CorpusOptions, make_corpus, plan
from ..synth.encode import FORMATS
from ..synth.scene_files import LAYOUTS
from ..synth.sheet import save_sheet
from ..synth.takes import EMOTION_NAMES, training_voices

HELP = "Make a corpus of synthetic scenes: people, voices, emotions and exact truth, from a seed."

_DEFAULTS = CorpusOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `emotag-train synth`."""
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the scenes; a run goes on in it")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="draw the identities as one PNG to look at")
    what = parser.add_argument_group("what")
    what.add_argument("--identities", type=int, default=_DEFAULTS.identities, metavar="N", help="default: %(default)s")
    what.add_argument("--first", type=int, default=0, metavar="N", help="number of the first identity (default: 0)")
    what.add_argument(
        "--seconds", type=float, default=_DEFAULTS.seconds, metavar="S", help="a clip's length (default: 5)"
    )
    what.add_argument(
        "--clips", type=int, default=1, metavar="N", help="of each identity, emotion and level (default: 1)"
    )
    what.add_argument("--emotions", default="all", metavar="A,B", help=f"of {', '.join(EMOTION_NAMES)} (default: all)")
    what.add_argument("--levels", default="1,2,3", metavar="1,2", help="intensities of the emotions (default: 1,2,3)")
    what.add_argument("--languages", default=",".join(ESPEAK), metavar="en,de", help="default: %(default)s")
    what.add_argument(
        "--voices", default="training", metavar="NAMES",
        help="'training' (default), 'held-out', or names such as slt or gmw/en-US+m3, with commas",
    )  # fmt: skip
    what.add_argument("--seed", type=int, default=0, help="another seed, another corpus (default: 0)")
    how = parser.add_argument_group("how")
    how.add_argument("--size", type=int, default=_DEFAULTS.size, metavar="PIXELS", help="default: %(default)s")
    how.add_argument("--layout", choices=LAYOUTS, default="vhap", help="default: %(default)s (the other needs pickles)")
    how.add_argument("--pictures", choices=FORMATS, default="jpg", help="default: %(default)s; png is without loss")
    how.add_argument("--maps", type=int, default=_DEFAULTS.maps, metavar="K",
                     help="depth and normals of every K-th frame, 0: none (default: %(default)s)")  # fmt: skip
    how.add_argument("--supersample", type=int, default=2, metavar="N", help="samples a pixel and axis (default: 2)")
    how.add_argument("--still-skin", action="store_true", help="no creases, no blushes: pictures as they once were")
    how.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """0 when everything asked for is there."""
    if options.output is None and options.sheet is None:
        raise ControlError("nothing to make: give -o DIR for scenes, --sheet FILE for a picture of the identities")
    corpus = corpus_options(options)
    quiet = None if sys.stderr.isatty() else True
    if options.sheet is not None:
        save_sheet(options.sheet, corpus, progress=quiet is None)
    if options.output is not None:
        made = 0
        with tqdm(total=len(plan(corpus)), unit="scene", disable=quiet) as bar:
            for take, new in make_corpus(options.output, corpus, options.jobs):
                made += new
                bar.set_postfix_str(take.name, refresh=False)
                bar.update()
        print(f"{options.output}: {len(plan(corpus))} scenes, {made} of them made now")
    return 0


def corpus_options(options: argparse.Namespace) -> CorpusOptions:
    """The command line as options. Raises `ControlError` for names and numbers that are none."""
    languages = _names(options.languages)
    unknown = [language for language in languages if language not in ESPEAK]
    if unknown:
        raise ControlError(f"no language {', '.join(unknown)}; there are {', '.join(ESPEAK)}")
    try:
        levels = tuple(int(level) for level in _names(options.levels))
    except ValueError:
        raise ControlError(f"--levels {options.levels}: give numbers with commas, such as 1,3") from None
    same = ("identities", "first", "seconds", "clips", "seed", "size", "layout", "pictures", "maps", "supersample",
            "still_skin")  # fmt: skip
    return CorpusOptions(
        emotions=EMOTION_NAMES if options.emotions == "all" else _names(options.emotions),
        levels=levels,
        voices=_voices(options.voices, languages),
        **{name: getattr(options, name) for name in same},
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _voices(text: str, languages: tuple[str, ...]) -> tuple[Voice, ...]:
    if text == "training":
        return training_voices(languages)
    if text == "held-out":
        return tuple(voice for voice in HELD_OUT if voice.language in languages)
    known = {voice.name: voice for voice in (*FLITE, *HELD_OUT, *(v for pool in ESPEAK.values() for v in pool))}
    unknown = [name for name in _names(text) if name not in known]
    if unknown:
        raise ControlError(f"no voice {', '.join(unknown)}; training/corpus/voices.py lists them")
    return tuple(known[name] for name in _names(text))
