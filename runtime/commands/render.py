"""`emotag-render`: speech, or the recorded clip, to a video."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..avatar import Avatar
from ..dump import Dump
from ..frame import Frame
from ..model import Model
from ..output import check_output, partial_name, write_video
from ..sheet import CELL, grid, sheet
from ..sound import with_sound
from .guard import guarded
from .image import read_background, write_png


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0, 1 after a line that says what is wrong, 2 for usage, 130 for Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_usage(parser, options)
    return guarded(lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emotag-render", description="Make an avatar speak, as a video.")
    parser.add_argument("bundle", type=Path, help="the .emotag folder")
    parser.add_argument("audio", type=Path, nargs="?", help="mono speech: wav, flac, mp3, …")
    parser.add_argument("-o", "--output", type=Path, help="the video to write, such as out.mp4")
    parser.add_argument("--size", type=_size, metavar="WxH", help="size of the picture (default: the bundle's)")
    parser.add_argument(
        "--background", metavar="COLOUR", help="#rrggbb, or a picture file (default: the bundle's colour)"
    )
    parser.add_argument("--threads", type=int, default=0, help="threads that draw (default: one for each core)")
    parser.add_argument(
        "--no-appearance", dest="appearance", action="store_false",
        help="leave the Gaussians as they are where the bundle has an emotional residual of them",
    )  # fmt: skip
    parser.add_argument("--downmix", action="store_true", help="average the channels of stereo audio")
    parser.add_argument("--stats", type=Path, metavar="FILE", help="also write the frame times as JSON")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE",
        help="write a picture of all emotions and views of one moment; with -o, the video shows them side by side",
    )  # fmt: skip
    recorded = parser.add_argument_group("the recorded clip of a released checkpoint")
    recorded.add_argument(
        "--cued", action="store_true",
        help="play the recorded features and cues; audio, if given, is only the video's sound",
    )  # fmt: skip
    recorded.add_argument("--dump", type=Path, metavar="FILE", help="write the clip's motion and geometry as .npz")
    recorded.add_argument(
        "--dump-frames", type=_numbers, metavar="N,N,…",
        help="frames whose geometry and picture are dumped (default: first, middle, last)",
    )  # fmt: skip
    return parser


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.audio is None and not options.cued:
        parser.error("give an audio file, or --cued for the recorded clip")
    if options.sheet is not None:
        _check_sheet(parser, options)
    elif options.output is None and options.dump is None:
        parser.error("give -o out.mp4" + (" or --dump file.npz" if options.cued else ""))
    if options.dump is not None and not options.cued:
        parser.error("--dump needs --cued")
    if options.dump_frames is not None and options.dump is None:
        parser.error("--dump-frames needs --dump")


def _check_sheet(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for name in ("cued", "background", "stats"):
        if getattr(options, name):
            parser.error(f"--{name} does not go with --sheet")
    if options.size is not None and options.size[0] != options.size[1]:
        parser.error("the cells of a --sheet are square: give --size such as 192x192")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512x512") from None


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 0,12,23") from None


def _run(options: argparse.Namespace) -> int:
    for path, suffix in ((options.output, ".mp4"), (options.dump, ".npz"), (options.stats, ".json")):
        if path is not None:
            check_output(path, suffix)
    if options.sheet is not None:
        return _sheet(options)
    width, height = options.size or (None, None)
    appearance = None if options.appearance else False
    avatar = Avatar(options.bundle, threads=options.threads, width=width, height=height, appearance=appearance)
    if options.background is not None:
        avatar.background = read_background(options.background, avatar.width, avatar.height)
    dump = None if options.dump is None else Dump(avatar, options.dump_frames)
    frames = _frames(avatar, options)
    if dump is not None:
        frames = dump.watch(frames)
    if options.output is not None:
        count = write_video(options.output, frames)
        print(f"{options.output}: {count} frames, {count / 25:.2f} s")
    else:
        for _ in frames:
            pass
    if dump is not None:
        dump.save(Path(options.dump))
        print(f"{options.dump}: geometry of frames {', '.join(map(str, dump.frames))}")
    _report(avatar, options.stats)
    return 0


def _sheet(options: argparse.Namespace) -> int:
    check_output(options.sheet, ".png")
    model = Model.load(options.bundle, threads=options.threads, appearance=options.appearance)
    size = options.size[0] if options.size else CELL
    write_png(options.sheet, sheet(model, options.audio, size, options.downmix))
    print(f"{options.sheet}: classes at levels 1 to 3, views from -60° to +60°")
    if options.output is not None:
        count = write_video(options.output, grid(model, options.audio, size, options.downmix))
        print(f"{options.output}: {count} frames, {count / 25:.2f} s")
    return 0


def _frames(avatar: Avatar, options: argparse.Namespace) -> Iterator[Frame]:
    if not options.cued:
        return avatar.render(options.audio, downmix=options.downmix)
    frames = avatar.cued()
    return frames if options.audio is None else with_sound(frames, options.audio, options.downmix)


def _report(avatar: Avatar, path: Path | None) -> None:
    stats = avatar.stats()
    print(stats.table())
    if path is not None:
        content: dict[str, Any] = {**asdict(stats), "fps": stats.fps, "size": [avatar.width, avatar.height]}
        partial = partial_name(path)
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
