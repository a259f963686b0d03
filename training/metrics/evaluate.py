"""Judge one case or a suite of them, and write the report: `metrics.json` and `metrics.html`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import OutputError
from .errors import MetricError
from .face import intensity, intensity_response
from .frames import Shot, judge_pictures
from .judge import Case, Value, judge, lip_values
from .lips import CLOSED_SHARE, PERCENTILE, LipReport, pool_reports
from .page import Curve, Section, render_page

__all__ = ["SETTINGS", "Entry", "Evaluation", "evaluate", "write_report"]

SETTINGS = ("self-reconstruction", "emotion-intensity", "other-speaker", "other-language")
"""The paper's: one clip; adapted on level 2, tested on 1 and 3; the speech of another; another language."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A case with its place in the report."""

    name: str
    case: Case
    setting: str = SETTINGS[0]
    level: float | None = None  # of the emotion that was asked for


@dataclass(eq=False)
class Evaluation:
    """What came out of one entry."""

    entry: Entry
    values: dict[str, Value]
    shots: list[Shot] = field(default_factory=list)

    @property
    def lips(self) -> LipReport | None:
        return self.entry.case.reports.get("predicted")


def evaluate(
    entry: Entry,
    lpips_network: str = "alex",
    lpips_weights: Sequence[Path] = (),
    every: int = 1,
    progress: Callable[[], None] | None = None,
) -> Evaluation:
    """Every metric of one case. Those that cannot be computed carry the reason; nothing is left out."""
    pictures, shots = judge_pictures(entry.case, lpips_network, list(lpips_weights), every, progress)
    return Evaluation(entry, pictures | judge(entry.case), shots)


def summarise(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Value]]:
    """Means over the cases of each setting, lips pooled, and the response to the intensity that was asked for."""
    summary: dict[str, dict[str, Value]] = {}
    for setting in dict.fromkeys(evaluation.entry.setting for evaluation in evaluations):
        group = [evaluation for evaluation in evaluations if evaluation.entry.setting == setting]
        values = {name: _mean(name, group) for name in group[0].values}
        reports = [evaluation.lips for evaluation in group if evaluation.lips is not None]
        if reports:
            values |= lip_values(pool_reports(reports))
        summary[setting] = values | _response(group)
    return summary


def _mean(name: str, group: Sequence[Evaluation]) -> Value:
    found = [e.values[name] for e in group if name in e.values and e.values[name].value is not None]
    if not found:
        return Value(None, why=next((e.values[name].why for e in group if name in e.values), "not measured"))
    missing = len(group) - len(found)
    why = f"{missing} of {len(group)} cases have none" if missing else ""
    mean = float(np.mean([value.value for value in found if value.value is not None]))
    return Value(mean, found[0].unit, why, sum(value.frames for value in found))


def _response(group: Sequence[Evaluation]) -> dict[str, Value]:
    """Mean emotion intensity of every clip against the level that was asked for."""
    names = ("intensity_slope", "intensity_rank_correlation", "intensity_rising")
    asked, shown = [], []
    try:
        for evaluation in group:
            if evaluation.entry.level is not None:
                asked.append(evaluation.entry.level)
                shown.append(float(intensity(evaluation.entry.case.predicted.track("emotion")).mean()))
        if not asked:
            raise MetricError("no case states its level")
        response = intensity_response(np.array(asked), np.array(shown))
    except MetricError as error:
        return {name: Value(None, why=str(error)) for name in names}
    return {f"intensity_{name}": Value(value, frames=len(asked)) for name, value in response.items()}


def write_report(folder: Path, title: str, evaluations: Sequence[Evaluation], notes: Sequence[str] = ()) -> None:
    """Write `metrics.json` and `metrics.html` into `folder`, each whole or not at all.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    summary = summarise(evaluations)
    content = {
        "title": title,
        "notes": list(notes),
        "settings": {setting: _plain(values) for setting, values in summary.items()},
        "cases": [_case(evaluation) for evaluation in evaluations],
    }
    sections = [
        Section(evaluation.entry.name, evaluation.values, evaluation.shots, _curves(evaluation))
        for evaluation in evaluations
    ]
    if len(evaluations) > 1:
        sections = [Section(f"All cases of {name}", values) for name, values in summary.items()] + sections
    texts = {
        "metrics.json": json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "metrics.html": render_page(title, sections, notes),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            partial = folder / f".{name}.{os.getpid()}.partial"
            try:
                partial.write_text(text, encoding="utf-8")
                partial.replace(folder / name)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to ({error.strerror}): choose another place") from error


def _plain(values: Mapping[str, Value]) -> dict[str, Any]:
    return {
        name: {key: part for key, part in asdict(value).items() if key == "value" or part}
        for name, value in values.items()
    }


def _case(evaluation: Evaluation) -> dict[str, Any]:
    entry = evaluation.entry
    about: dict[str, Any] = {"name": entry.name, "setting": entry.setting, "predicted": entry.case.predicted.name}
    about["truth"] = None if entry.case.truth is None else entry.case.truth.name
    if entry.level is not None:
        about["level"] = entry.level
    if evaluation.lips is not None:
        about["lips"] = asdict(evaluation.lips)
    return about | {"metrics": _plain(evaluation.values)}


def _curves(evaluation: Evaluation) -> list[Curve]:
    """The jaw against its truth, and the lips' gap with P, B and M shaded and the closed level."""
    case, curves = evaluation.entry.case, []
    try:
        first, second = case.pair("jaw")
        curves.append(Curve("jaw, rad", {"predicted": first[:, 0], "truth": second[:, 0]}, case.predicted.frame_rate))
    except MetricError:
        pass  # the table says why
    if evaluation.lips is not None and case.phonemes is not None:
        gap = np.asarray(case.predicted.track("lip_gap"), dtype=np.float64)
        late = evaluation.lips.offset_ms / 1000
        spans = [(s.start + late, s.end + late) for s in case.phonemes if s.phoneme in ("P", "B", "M")]
        level = CLOSED_SHARE * float(np.percentile(gap, PERCENTILE))
        curves.append(Curve("lip gap, P B M shaded", {"predicted": gap}, case.predicted.frame_rate, spans, level))
    return curves
