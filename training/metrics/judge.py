"""The table of metrics: each takes a prediction and a truth and gives values, or says why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import EmotagError
from ..corpus.phonemes import Segment
from ..scenes import read_speech
from .clips import Clip
from .errors import MetricError
from .face import (
    LOWER_AUS,
    UPPER_AUS,
    action_unit_error,
    emotion_accuracy,
    intensity,
    sign_agreement,
    valence_arousal_rmse,
)
from .landmarks import lmd
from .lips import LipReport, find_offset, lip_report
from .motion import HEAD_HEIGHT, jaw_agreement, pose_motion
from .syncnet import load_syncnet, sync_scores

__all__ = ["METRICS", "Case", "Value", "judge"]


@dataclass(frozen=True)
class Value:
    """One number of the report, or the reason why there is none."""

    value: float | None
    unit: str = ""
    why: str = ""
    frames: int = 0  # that it was measured on; 0 where that means nothing


@dataclass(frozen=True, eq=False)
class Case:
    """One prediction, what it is held against, and what the user brought to judge it."""

    predicted: Clip
    truth: Clip | None = None
    rows: tuple[int, ...] = ()  # frames of the prediction that are judged; all if empty
    start: int = 0  # row of the truth that the prediction's frame 0 belongs to
    phonemes: Sequence[Segment] | None = None
    lip_offset: float | None = None  # ms; None finds it, 0 corrects nothing
    lip_tolerance: float = 40.0  # ms
    syncnet: Path | None = None
    sound: Path | None = None
    head_height: float = HEAD_HEIGHT
    reports: dict[str, LipReport] = field(default_factory=dict)  # filled, so that clips can be pooled

    def against(self) -> Clip:
        """The truth. Raises MetricError if there is none."""
        if self.truth is None:
            raise MetricError("no truth was given: pass --truth")
        return self.truth

    def pair(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """A track of both, of the frames that are judged. Raises MetricError if either has not got it."""
        return self.cut(self.predicted.track(name), self.against().track(name))

    def cut(self, predicted: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The frames that are judged, of a track of each."""
        count = min(len(predicted), len(truth) - self.start)
        rows = np.array([row for row in self.rows if row < count] if self.rows else range(count), dtype=np.int64)
        if len(rows) == 0:
            raise MetricError("prediction and truth have no frame in common: check --start and --split")
        return predicted[rows], truth[rows + self.start]


Metric = Callable[[Case], dict[str, Value]]


def judge(case: Case) -> dict[str, Value]:
    """Every metric that needs no pictures, by name; those that cannot be computed carry the reason."""
    values: dict[str, Value] = {}
    for names, metric in METRICS:
        try:
            values |= metric(case)
        except (EmotagError, OSError) as error:
            values |= {name: Value(None, why=" ".join(str(error).split())) for name in names}
    return values


def _lmd(case: Case) -> dict[str, Value]:
    first, second = case.pair("landmarks")
    return {"lmd": Value(lmd(first, second), "pixels", frames=len(first))}


def _aue(case: Case) -> dict[str, Value]:
    first, second = case.predicted.units(), case.against().units()
    cut = {unit: case.cut(first[unit], second[unit]) for unit in first}
    ours, theirs = {unit: pair[0] for unit, pair in cut.items()}, {unit: pair[1] for unit, pair in cut.items()}
    frames = len(next(iter(ours.values())))
    return {
        "aue_lower": Value(action_unit_error(ours, theirs, LOWER_AUS), frames=frames),
        "aue_upper": Value(action_unit_error(ours, theirs, UPPER_AUS), frames=frames),
    }


def _sync(case: Case) -> dict[str, Value]:
    network = load_syncnet(case.syncnet)
    clip, sound = case.predicted, case.sound or case.predicted.sound or case.against().sound
    if clip.read is None or clip.picture_rows != tuple(range(len(clip.picture_rows))):
        raise MetricError(f"{clip.name} has no picture of every frame: SyncNet needs a whole video")
    if abs(clip.frame_rate - 25) > 0.1:
        raise MetricError(f"{clip.name} has {clip.frame_rate:.2f} frames a second: SyncNet needs 25")
    if sound is None:
        raise MetricError("there is no sound: pass --audio")
    samples = read_speech(sound)[round(case.start / 25 * 16000) * (case.sound is None and clip.sound is None) :]
    scores = sync_scores(network, clip.read, len(clip.picture_rows), samples)
    frames = len(clip.picture_rows)
    return {
        "sync_c": Value(scores["confidence"], frames=frames),
        "sync_e": Value(scores["distance"], frames=frames),
        "sync_offset": Value(scores["offset_frames"], "frames", frames=frames),
    }


def _affect(name: str) -> Metric:
    def metric(case: Case) -> dict[str, Value]:
        first, second = case.pair(name)
        return {
            f"{name}_rmse": Value(valence_arousal_rmse(first, second), frames=len(first)),
            f"{name}_sign_agreement": Value(sign_agreement(first, second), frames=len(first)),
        }

    return metric


def _emotion(case: Case) -> dict[str, Value]:
    first, second = case.pair("emotion")
    error = float(np.abs(intensity(first) - intensity(second)).mean())
    return {
        "emotion_accuracy": Value(emotion_accuracy(first, second), frames=len(first)),
        "intensity_error": Value(error, frames=len(first)),
    }


def _pose(case: Case) -> dict[str, Value]:
    clip = case.predicted
    motion = pose_motion(clip.track("rotation"), clip.track("translation"), case.head_height)
    return {
        f"pose_{name}": Value(value, "a frame", frames=len(clip.track("rotation"))) for name, value in motion.items()
    }


def _true_pose(case: Case) -> dict[str, Value]:
    clip = case.against()
    motion = pose_motion(clip.track("rotation"), clip.track("translation"), case.head_height)
    count = len(clip.track("rotation"))
    return {f"true_pose_{name}": Value(value, "a frame", frames=count) for name, value in motion.items()}


def _jaw(case: Case) -> dict[str, Value]:
    first, second = case.pair("jaw")
    agreement = jaw_agreement(first, second)
    return {f"jaw_{name}": Value(value, frames=len(first)) for name, value in agreement.items()}


def _lips(case: Case) -> dict[str, Value]:
    gap, rate = case.predicted.track("lip_gap"), case.predicted.frame_rate
    if case.phonemes is None:
        raise MetricError("no phonemes were given: pass --phonemes")
    offset = find_offset(gap, case.phonemes, rate) if case.lip_offset is None else case.lip_offset
    report = lip_report(gap, case.phonemes, rate, case.lip_tolerance, offset)
    case.reports["predicted"] = report
    return lip_values(report)


def lip_values(report: LipReport) -> dict[str, Value]:
    """The numbers of a lip report; a share of nothing says so."""
    late = report.lateness_ms
    return {
        "lip_closures_present": _share(report.closures_present, report.bilabials, "P, B or M"),
        "lip_closures_false": _share(report.false_closures, report.closures_shown, "closure shown in speech"),
        "lip_open_vowels_open": _share(report.open_vowels_open, report.open_vowels, "open vowel"),
        "lip_lateness": Value(float(np.median(late)), "ms", frames=len(late))
        if late
        else Value(None, why="no closures"),
        "lip_offset_corrected": Value(report.offset_ms, "ms"),
        "lip_closures_excused": Value(float(report.excused_closures), "F or V alone"),
    }


def _share(count: int, of: int, what: str) -> Value:
    return Value(count / of, f"of {of}") if of else Value(None, why=f"the clip has no {what}")


METRICS: tuple[tuple[tuple[str, ...], Metric], ...] = (
    (("lmd",), _lmd),
    (("aue_lower", "aue_upper"), _aue),
    (("sync_c", "sync_e", "sync_offset"), _sync),
    (("valence_rmse", "valence_sign_agreement"), _affect("valence")),
    (("arousal_rmse", "arousal_sign_agreement"), _affect("arousal")),
    (("emotion_accuracy", "intensity_error"), _emotion),
    (tuple(f"pose_{n}_{s}" for n in ("velocity", "acceleration") for s in ("mean", "std")), _pose),
    (tuple(f"true_pose_{n}_{s}" for n in ("velocity", "acceleration") for s in ("mean", "std")), _true_pose),
    (("jaw_correlation", "jaw_slope"), _jaw),
    (("lip_closures_present", "lip_closures_false", "lip_open_vowels_open", "lip_lateness"), _lips),
)
"""Names of what a metric gives, so that a metric that fails still says so under each of them."""
