"""`emotag-train check`: what a scene has, what it lacks, and how to make that."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...runtime.errors import CheckpointError
from ..scenes.check import MISSING, OK, Finding, SceneReport, check_scene
from ..scenes.sound import find_sound
from ..scenes.tokens import load_encoder, make_tokens
from ..wav2vec2 import StreamingConfig

HELP = "Say what is in a scene, what is missing or disagrees, and how to make it."
_MARKS = {OK: "ok     ", MISSING: "MISSING", "problem": "WRONG  ", "note": "note   "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `emotag-train check`."""
    parser.add_argument("scene", type=Path, help="a scene in the released layout, or a VHAP or GaussianAvatars dataset")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    make = parser.add_argument_group("making audio features")
    make.add_argument("--make-features", action="store_true", help="encode the scene's sound before the check")
    make.add_argument("--encoder", metavar="NAME", help="a Hugging Face Wav2Vec2 name, or a folder that holds one")
    make.add_argument(
        "--streaming", default="2,2,100", metavar="C,R,L",
        help="chunk, look-ahead and context in 20 ms tokens (default: %(default)s)",
    )  # fmt: skip
    make.add_argument(
        "--calibration", type=Path, metavar="FILE",
        help="speech that the encoder's statistics are taken from, the same for all scenes (default: the sample)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """0 if training can start, 1 if something required is missing or wrong."""
    if options.make_features:
        _make_features(options)
    report = check_scene(options.scene)
    print(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) if options.json else "\n".join(_lines(report)))
    return 0 if report.complete else 1


def _make_features(options: argparse.Namespace) -> None:
    if options.encoder is None:
        raise CheckpointError("--make-features needs --encoder, such as facebook/wav2vec2-base-960h or a folder")
    sound = find_sound(options.scene)
    if sound is None:
        raise CheckpointError(f"{options.scene}: has no sound to encode; put it there as aud.wav, 16 kHz mono")
    encoder = load_encoder(options.encoder, parse_streaming(options.streaming), options.calibration)
    make_tokens(options.scene, sound, options.encoder, encoder)


def parse_streaming(text: str) -> StreamingConfig:
    """`c,r,L` as a streaming definition. Raises CheckpointError."""
    try:
        chunk, lookahead, context = (int(part) for part in text.split(","))
    except ValueError:
        raise CheckpointError(f"--streaming {text}: give three whole numbers C,R,L such as 2,2,100") from None
    return StreamingConfig(chunk, lookahead, context)


def _lines(report: SceneReport) -> list[str]:
    lines = [f"{report.folder}: {report.layout} layout"]
    for finding in report.findings:
        lines += _finding_lines(finding)
    required = sum(f.status == MISSING and f.required for f in report.findings)
    wrong = sum(f.status == "problem" for f in report.findings)
    optional = sum(f.status == MISSING and not f.required for f in report.findings)
    verdict = "complete: training can start" if report.complete else f"{required} required missing, {wrong} wrong"
    return [*lines, f"{verdict}; {optional} optional missing"]


def _finding_lines(finding: Finding) -> list[str]:
    optional = " (optional)" if finding.status == MISSING and not finding.required else ""
    lines = [f"  {_MARKS[finding.status]} {finding.item}{optional}: {finding.found}"]
    return [*lines, f"          → {finding.cure}"] if finding.cure else lines
