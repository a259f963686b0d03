"""Where results go: checked before any work is done, and never half-written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .errors import OutputError
from .frame import Frame


def write_video(path: str | Path, frames: Iterable[Frame]) -> int:
    """Writes frames with their sound to an mp4 file; returns how many. Picture i is shown with samples 640·i….

    Raises OutputError if the place cannot be written to or there is no frame; then no file is left behind.
    """
    from .video import VideoWriter  # loads FFmpeg, which a live avatar never needs

    check_output(path, ".mp4")
    writer, count = None, 0
    try:
        for frame in frames:
            if writer is None:
                height, width = frame.rgb.shape[:2]
                writer = VideoWriter(path, width, height)
            writer.write(frame.rgb, frame.audio)
            count += 1
        if writer is None:
            raise OutputError(f"{path}: there is no frame to write: pass audio of at least one sample")
        writer.close()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return count


def check_output(path: str | Path, suffix: str) -> Path:
    """`path` if a file with this suffix can be put there. Raises OutputError, saying why not."""
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise OutputError(f"{path} does not end in {suffix}: name the output like {path.with_suffix(suffix).name}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist: create it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"the folder {path.parent} cannot be written to: choose another or change its permissions")
    return path


def partial_name(path: Path) -> Path:
    """The name under which `path` is written until it is complete."""
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
