"""Phoneme tracks of a clip: timed segments, or one label a frame."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..corpus.phonemes import SILENCE, Segment
from ..safe_pickle import read_bytes
from .errors import MetricError

__all__ = ["read_phonemes"]

_SILENT = frozenset({"", "SIL", "SP", "SPN", "NSN", "PAU", "BRTH", "_"})
_RATE_IN_NAME = re.compile(r"(\d+(?:\.\d+)?)\s*fps", re.IGNORECASE)


def read_phonemes(path: Path, index: Path | None = None, rate: float | None = None) -> list[Segment]:
    """The segments of a JSON phoneme file, in seconds of its audio; ARPAbet names without stress digits.

    Args:
        path: a list of `{"phoneme", "start", "end"}` or `[phoneme, start, end]` (also under the key "segments"), or a
            list of one label a frame, names or the numbers of `index`.
        index: JSON of name → number, for frame labels that are numbers.
        rate: frames a second of frame labels; taken from the file's name (`…30fps.json`) if None.

    Raises:
        MetricError: not such a file, numbers without their index, or frame labels whose rate nobody says.
    """
    content = _json(path)
    if isinstance(content, dict):
        content = content.get("segments", content.get("phonemes"))
    if not isinstance(content, list) or not content:
        raise MetricError(f"{path}: not a phoneme track: give segments with start and end, or one label a frame")
    if all(isinstance(item, str | int) and not isinstance(item, bool) for item in content):
        return _from_frames(content, _frame_rate(path, rate), _names(index), path)
    try:
        return _checked([_segment(item) for item in content], path)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MetricError(f"{path}: a segment is not a phoneme with start and end in seconds ({error})") from error


def _segment(item: Any) -> Segment:
    name, start, end = (item["phoneme"], item["start"], item["end"]) if isinstance(item, dict) else item
    return Segment(_name(str(name)), float(start), float(end))


def _checked(segments: Sequence[Segment], path: Path) -> list[Segment]:
    ordered = sorted(segments, key=lambda segment: segment.start)
    for segment in ordered:
        if not 0 <= segment.start <= segment.end < float("inf"):
            raise MetricError(f"{path}: {segment.phoneme} from {segment.start} to {segment.end} s is no segment")
    return ordered


def _name(name: str) -> str:
    plain = name.strip().upper().rstrip("0123456789")
    return SILENCE if plain in _SILENT else plain


def _from_frames(labels: list[Any], rate: float, names: dict[int, str], path: Path) -> list[Segment]:
    segments, frame = [], 0
    for label, run in groupby(labels):
        count = len(list(run))
        if isinstance(label, int) and label not in names:
            raise MetricError(f"{path}: label {label} has no name: pass the index that maps names to numbers")
        name = names[label] if isinstance(label, int) else label
        segments.append(Segment(_name(name), frame / rate, (frame + count) / rate))
        frame += count
    return segments


def _frame_rate(path: Path, rate: float | None) -> float:
    found = _RATE_IN_NAME.search(path.name)
    stated = rate if rate is not None else (float(found.group(1)) if found else None)
    if stated is None or not stated > 0:
        raise MetricError(f"{path}: one label a frame, but nobody says how many frames a second: pass --phoneme-rate")
    return stated


def _names(index: Path | None) -> dict[int, str]:
    if index is None:
        return {}
    content = _json(index)
    if not isinstance(content, dict) or not all(isinstance(number, int) for number in content.values()):
        raise MetricError(f"{index}: not an index of phonemes: it should map names to numbers")
    return {number: name for name, number in content.items()}


def _json(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise MetricError(f"{path}: not JSON ({error}): give a phoneme track") from error
