"""What a scene's own files say about frames a second: never assumed, always with the file that says it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from ...runtime.errors import CheckpointError
from ...runtime.manifest import FRAME_RATE
from .sound import Sound

__all__ = ["FaceTrack", "RateEvidence", "frame_rates", "read_face_track"]

_VIDEOS = ("*.mp4", "*.mov", "*.avi", "*.mkv", "*.webm")
_CLOSE = 0.005  # relative: 25 and 24.95 are one rate, 25 and 24 are not
_SLACK = 3.0  # frames by which sound and pictures of one clip may end apart
_LEAST_CONFIDENCE = 0.5  # of OpenFace, below which a face is not believed


@dataclass(frozen=True)
class RateEvidence:
    """One file's word on the frame rate."""

    source: str
    rate: float  # frames a second
    agrees: bool  # with the 25 that everything here is made for


@dataclass(frozen=True)
class FaceTrack:
    """What OpenFace's CSV says beside the AUs."""

    rate: float | None  # frames a second, by its timestamps
    lost: tuple[int, ...]  # rows (from 0) without a face that it is sure of


def frame_rates(
    folder: Path, top: dict[str, Any], rows: int, sound: Sound | None, face: FaceTrack | None
) -> tuple[RateEvidence, ...]:
    """Every source's frame rate: `transforms.json`, videos of the folder, OpenFace's times, pictures against sound."""
    found = []
    for name in ("fps", "frame_rate"):
        if isinstance(top.get(name), int | float) and top[name] > 0:
            found.append(_stated(f"transforms.json ({name})", float(top[name])))
    for pattern in _VIDEOS:
        for path in sorted(folder.glob(pattern)):
            rate = video_rate(path)
            if rate is not None:
                found.append(_stated(path.name, rate))
    if face is not None and face.rate is not None:
        found.append(_stated("au_features.csv (timestamp)", face.rate))
    if sound is not None and sound.seconds > 0:
        fits = abs(rows - FRAME_RATE * sound.seconds) <= _SLACK
        source = f"{rows} frames over {sound.seconds:.2f} s of {sound.path.name}"
        found.append(RateEvidence(source, rows / sound.seconds, fits))
    return tuple(found)


def _stated(source: str, rate: float) -> RateEvidence:
    return RateEvidence(source, rate, abs(rate / FRAME_RATE - 1) <= _CLOSE)


def video_rate(path: Path) -> float | None:
    """Frames a second of a video's header; None if it has none."""
    try:
        with av.open(str(path)) as file:
            rate = file.streams.video[0].average_rate if file.streams.video else None
    except (av.FFmpegError, OSError):
        return None
    return None if not rate else float(rate)


def read_face_track(path: Path) -> FaceTrack:
    """Times and lost faces of an OpenFace CSV; columns that it has not tell nothing. Raises CheckpointError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines()) if line]
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(f"{path}: not a readable CSV ({error}); run OpenFace again.") from error
    columns = {name: _column(lines, name) for name in ("timestamp", "confidence", "success")}
    rate = None
    if columns["timestamp"] is not None and len(columns["timestamp"]) > 1:
        step = (columns["timestamp"][-1] - columns["timestamp"][0]) / (len(columns["timestamp"]) - 1)
        rate = float(1 / step) if step > 0 else None
    lost = np.zeros(max(len(lines) - 1, 0), bool)
    if columns["success"] is not None:
        lost |= columns["success"] < 1
    if columns["confidence"] is not None:
        lost |= columns["confidence"] < _LEAST_CONFIDENCE
    return FaceTrack(rate, tuple(int(row) for row in np.flatnonzero(lost)))


def _column(lines: list[list[str]], name: str) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    if not lines or name not in lines[0]:
        return None
    index = lines[0].index(name)
    try:
        return np.array([float(line[index]) for line in lines[1:]], dtype=np.float64)
    except (ValueError, IndexError):
        return None  # load_action_units says which line is incomplete
