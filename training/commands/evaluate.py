"""`emotag-train eval`: how good a prediction is, as JSON and as a page with pictures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..metrics.clips import Clip, open_clip
from ..metrics.control import Judges, measure_control
from ..metrics.control_page import control_page, control_table
from ..metrics.errors import MetricError
from ..metrics.evaluate import SETTINGS, Entry, evaluate, summarise, write_report
from ..metrics.idle import measure_idle
from ..metrics.judge import Case, Value
from ..metrics.lpips import NETWORKS
from ..metrics.mesh import load_head, load_landmark_vertices, with_mesh
from ..metrics.motion import HEAD_HEIGHT
from ..metrics.phonemes import read_phonemes
from ..safe_pickle import read_bytes
from ..scenes import Scene, open_scene
from ..scenes.listing import is_scene

HELP = "Measure a prediction against a scene, a video or phonemes; write metrics.json and metrics.html."
_PHONEMES = "phonemes.json"  # of a scene
_PATHS = ("predicted", "avatar", "truth", "phonemes", "phoneme_index", "audio", "head", "landmark_vertices", "syncnet")
_CASE = ("setting", "level", "split", "start", "phoneme_rate", "offset", "tolerance", "head_height")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write the report into")
    parser.add_argument(
        "--predicted", type=Path,
        help="a video, a folder of numbered pictures, an .npz of tracks (emotag-render --dump), or a folder of those",
    )  # fmt: skip
    parser.add_argument(
        "--avatar", type=Path, metavar="FILE", help="a .pt of `adapt` instead, driven by the scene --truth"
    )
    parser.add_argument("--truth", type=Path, help="a scene, or anything that --predicted takes")
    parser.add_argument("--suite", type=Path, help="JSON with several cases, whose keys are the options here")
    parser.add_argument("--split", choices=("all", "train", "test"), default="all", help="frames of a scene to judge")
    parser.add_argument(
        "--start", type=int, default=0, help="row of the truth that the prediction's frame 0 belongs to"
    )
    parser.add_argument("--every", type=int, default=1, help="judge the pictures of every so many frames")
    parser.add_argument("--setting", choices=SETTINGS, default=SETTINGS[0], help="which of the paper's settings it is")
    parser.add_argument("--level", type=float, help="the emotion's intensity that was asked for, such as 1, 2 or 3")
    parser.add_argument("--title", default="EmoTaG metrics")
    _add_lips(parser.add_argument_group("lips"))
    control = parser.add_argument_group("emotion control of a bundle")
    control.add_argument("--control", type=Path, metavar="BUNDLE", help="measure what asking for an emotion does")
    control.add_argument("--speech", type=Path, help="what it says meanwhile: at least 4 s")
    control.add_argument("--judge-python", type=Path, help="the Python of an environment with mediapipe")
    control.add_argument("--face-landmarker", type=Path, metavar="FILE", help="face_landmarker.task")
    control.add_argument("--fer-python", type=Path, help="the Python of an environment with fer (docs/controls.md)")
    silence = parser.add_argument_group("silence")
    silence.add_argument("--idle", type=Path, metavar="BUNDLE", help="measure what it does in 60 s of a quiet room")
    judges = parser.add_argument_group("judges that you bring")
    judges.add_argument("--lpips-weights", type=Path, nargs="+", default=[], metavar="FILE", help="see docs/metrics.md")
    judges.add_argument("--lpips-net", choices=NETWORKS, default="alex")
    judges.add_argument("--syncnet", type=Path, metavar="FILE", help="syncnet_v2.model")
    judges.add_argument("--audio", type=Path, help="the sound, if neither clip has it")


def _add_lips(group: Any) -> None:
    group.add_argument("--phonemes", type=Path, help=f"JSON of phonemes (default: the scene's {_PHONEMES})")
    group.add_argument("--phoneme-index", type=Path, help="JSON of name → number, for frame labels that are numbers")
    group.add_argument(
        "--phoneme-rate", type=float, help="frames a second of frame labels (default: by the file's name)"
    )
    group.add_argument("--offset", default="0", metavar="MS", help="by how much the lips are late; 'auto' finds it")
    group.add_argument("--tolerance", type=float, default=40.0, metavar="MS", help="of a closure (default: 40)")
    group.add_argument("--head", type=Path, help="the head, to take lips and landmarks from its mesh")
    group.add_argument("--landmark-vertices", type=Path, help=".npy of 68 vertices, for heads other than Anny's")
    group.add_argument(
        "--head-height", type=float, default=HEAD_HEIGHT, metavar="M", help="metres (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Writes the report and prints the table."""
    if options.control is not None:
        return _control(options)
    if options.idle is not None:
        return _idle(options)
    entries = _suite(options) if options.suite is not None else [_entry(options)]
    results = []
    with tqdm(total=None, unit=" frames", file=sys.stderr) as bar:
        for entry in entries:
            bar.set_description_str(entry.name)
            weights, every = options.lpips_weights, max(options.every, 1)
            results.append(evaluate(entry, options.lpips_net, weights, every, lambda: _tick(bar)))
    write_report(options.output, options.title, results)
    for setting, values in summarise(results).items():
        print(f"{setting}:")
        print("\n".join(_line(name, value) for name, value in values.items()))
    print(f"{options.output}: metrics.json, metrics.html")
    return 0


def _control(options: argparse.Namespace) -> int:
    if options.speech is None:
        raise MetricError("--control needs --speech, the sound that is spoken meanwhile")
    judges = Judges(options.judge_python, options.face_landmarker, options.fer_python)
    if (judges.landmarker is None) != (judges.task is None):
        raise MetricError("--judge-python and --face-landmarker go together: pass both, or none")
    options.output.mkdir(parents=True, exist_ok=True)
    with tqdm(total=None, unit=" classes", file=sys.stderr) as bar:

        def show(what: str) -> None:
            bar.set_description_str(what)
            bar.update()

        report = measure_control(options.control, options.speech, judges, show)
    report.save(options.output / "control.json")
    table = control_table(report)
    (options.output / "control.txt").write_text(table + "\n")
    (options.output / "control.html").write_text(control_page(report, f"Emotion control of {options.control.name}"))
    print(table)
    print(f"{options.output}: control.json, control.txt, control.html")
    return 0


def _idle(options: argparse.Namespace) -> int:
    options.output.mkdir(parents=True, exist_ok=True)
    report = measure_idle(options.idle, head_height=options.head_height)
    report.save(options.output / "idle.json")
    print(report.table())
    print(f"{options.output}: idle.json")
    return 0


def _tick(bar: Any) -> None:
    """One frame more."""
    bar.update()


def _line(name: str, value: Value) -> str:
    if value.value is None:
        return f"  {name:<28} –        {value.why}"
    return f"  {name:<28} {value.value:<8.4g} {value.unit}"


def _suite(options: argparse.Namespace) -> list[Entry]:
    """Cases of a suite: each is the options given here with its own over them; paths are relative to the file."""
    try:
        cases = json.loads(read_bytes(options.suite))["cases"]
        if not isinstance(cases, list) or not cases:
            raise ValueError("it has no cases")
        merged = []
        for number, case in enumerate(cases):
            known = {str(name).replace("-", "_"): value for name, value in case.items()}
            unknown = sorted(set(known) - {*_PATHS, *_CASE, "name"})
            if unknown:
                raise ValueError(f"case {number} has the unknown key {unknown[0]!r}")
            known |= {name: options.suite.parent / known[name] for name in _PATHS if known.get(name) is not None}
            merged.append((known.pop("name", f"case {number}"), argparse.Namespace(**vars(options) | known)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MetricError(f"{options.suite}: not a suite of cases ({error}); see docs/metrics.md") from error
    return [_entry(case, name) for name, case in merged]


def _entry(options: argparse.Namespace, name: str | None = None) -> Entry:
    if (options.predicted is None) == (options.avatar is None):
        raise MetricError("pass --predicted, --avatar or --suite, one of them")
    if options.setting not in SETTINGS:
        raise MetricError(f"setting {options.setting!r}: choose from {', '.join(SETTINGS)}")
    scene = open_scene(options.truth) if options.truth is not None and is_scene(options.truth) else None
    predicted = _driven(options, scene) if options.predicted is None else open_clip(options.predicted)
    truth = None if options.truth is None else open_clip(options.truth)
    if options.head is not None:
        predicted = _with_mesh(options, predicted, scene)
    case = Case(
        predicted=predicted,
        truth=truth,
        rows=_rows(options, truth),
        start=options.start,
        phonemes=_phonemes(options),
        lip_offset=_offset(options.offset),
        lip_tolerance=float(options.tolerance),
        syncnet=options.syncnet,
        sound=options.audio,
        head_height=float(options.head_height),
    )
    return Entry(name or predicted.name, case, options.setting, options.level)


def _driven(options: argparse.Namespace, scene: Scene | None) -> Clip:
    """The avatar as the scene drives it."""
    if scene is None or options.start:
        raise MetricError("--avatar needs a scene as --truth, from its first frame on: leave --start out")
    from ..metrics.drive import driven_clip  # brings the trainer along, so only where it is asked for

    return driven_clip(options.avatar, scene)


def _with_mesh(options: argparse.Namespace, predicted: Clip, scene: Scene | None) -> Clip:
    head = load_head(options.head)
    return with_mesh(predicted, head, load_landmark_vertices(options.landmark_vertices, head), scene, options.start)


def _rows(options: argparse.Namespace, truth: Clip | None) -> tuple[int, ...]:
    """Frames of the prediction in the split that is asked for; all if none is."""
    if options.split == "all":
        return ()
    chosen = None if truth is None else (truth.test_rows if options.split == "test" else truth.train_rows)
    if chosen is None:
        raise MetricError(f"--split {options.split} needs a scene as --truth")
    rows = tuple(row - options.start for row in chosen if row >= options.start)
    if not rows:
        raise MetricError(f"--split {options.split}: the scene has no such frames from row {options.start} on")
    return rows


def _phonemes(options: argparse.Namespace) -> Any:
    path = options.phonemes
    if path is None and options.truth is not None and (options.truth / _PHONEMES).is_file():
        path = options.truth / _PHONEMES
    return None if path is None else read_phonemes(path, options.phoneme_index, options.phoneme_rate)


def _offset(text: Any) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except (TypeError, ValueError):
        raise MetricError(f"--offset {text}: give milliseconds or 'auto'") from None
