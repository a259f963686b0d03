"""The report of `metrics.control` for people: lines of text, and a page with pictures."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape

import numpy as np

from .control import EXPECTED, LEVELS, ControlReport
from .outside import FER_CLASSES
from .page import STYLE, png

__all__ = ["control_page", "control_table"]

_BARS = (
    "Bars: every region that a class moves (0.25 mm or more at level 3) rises with the level; all signs right at level "
    "3; fer ranks the class that was asked for first more often than any other; valence and arousal r ≥ 0.9; our own "
    "reading ≥ 90%; every lip closure within 10 ms; static regions within 0.5 mm."
)


def control_table(report: ControlReport) -> str:
    """The report as lines of text."""
    lines = [
        f"{'class':<10}{'mm at level 1':>14}{'2':>7}{'3':>7}{'static':>8}{'rises':>7}{'closures':>10}{'worst ms':>9}"
    ]
    for name, levels in report.displacement.items():
        face = "".join(f"{levels[level]['face']:>{14 if level == 1 else 7}.2f}" for level in LEVELS)
        rises = "yes" if not report.falling[name] else "no"
        kept, worst = _kept(report, name), report.worst_shift(name)
        static = levels[3].get("static", float("nan"))
        lines.append(f"{name:<10}{face}{static:>8.3f}{rises:>7}{kept:>10}{worst:>9.1f}")
    lines += [f"{name} does not rise: {', '.join(regions)}" for name, regions in report.falling.items() if regions]
    for judge in report.signs:
        wrong = report.wrong_signs(judge)
        lines.append(f"signs by {judge}: {'all right' if not wrong else 'wrong: ' + ', '.join(wrong)}")
    for name, counts in report.ranked.items():
        most = sorted(counts.items(), key=lambda item: -item[1])
        lines.append(f"fer on {name:<10}" + ", ".join(f"{other} {count}" for other, count in most))
    if report.ranked:
        lines.append(f"fer does not rank first: {', '.join(report.not_first()) or 'none'}")
    lines.append(f"valence r = {report.plane['valence']:.3f}, arousal r = {report.plane['arousal']:.3f}")
    lines.append(f"our own reading recognises {100 * report.recognised:.0f}% at level 3")
    return "\n".join(lines + [f"{name}: not measured: {reason}" for name, reason in report.why.items()])


def control_page(report: ControlReport, title: str) -> str:
    """One HTML page that needs nothing else."""
    regions = list(next(iter(report.displacement.values()))[3])
    moved = _table(
        ["class", "level", *regions],
        [
            [name, str(level), *(f"{levels[level][region]:.3f}" for region in regions)]
            for name, levels in report.displacement.items()
            for level in LEVELS
        ],
    )
    parts = [f"<h2>Displacement from the neutral speech, mm</h2>{moved}", *_signs(report), *_ranking(report)]
    late = _table(
        ["class", "kept", "worst, ms", "jaw late, ms"],
        [
            [name, _kept(report, name), f"{report.worst_shift(name):.1f}", f"{report.lateness[name]:.1f}"]
            for name in report.displacement
        ],
    )
    parts += [f"<h2>Lip closures</h2>{late}", "<h2>Levels 1, 2, 3</h2>", *_pictures(report)]
    lines = f"<pre>{escape(control_table(report))}</pre>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{_BARS}</p>{lines}{''.join(parts)}</html>\n"
    )


def _kept(report: ControlReport, name: str) -> str:
    shifts = report.shifts.get(name, [])
    return f"{sum(not math.isnan(shift) for shift in shifts)}/{len(shifts)}"


def _signs(report: ControlReport) -> list[str]:
    judges = list(report.signs)
    rows = [
        [name, shape, "+" if sign > 0 else "-", *(f"{report.signs[judge][name][shape]:+.3f}" for judge in judges)]
        for name, shapes in EXPECTED.items()
        for shape, sign in shapes.items()
        if all(name in report.signs[judge] for judge in judges)
    ]
    return [f"<h2>Signs of expressions at level 3</h2>{_table(['class', 'blendshape', 'expected', *judges], rows)}"]


def _ranking(report: ControlReport) -> list[str]:
    if not report.ranked:
        return []
    rows = [
        [name, *(f"{counts.get(other, 0)} ({report.likely[name][other]:.2f})" for other in FER_CLASSES)]
        for name, counts in report.ranked.items()
    ]
    head = "<h2>fer: frames in which a class is first (its mean probability), by what was asked for</h2>"
    return [head + _table(["asked", *FER_CLASSES], rows)]


def _pictures(report: ControlReport) -> list[str]:
    figures = []
    for name, pictures in report.pictures.items():
        data = base64.b64encode(png(np.concatenate(list(pictures), axis=1))).decode()
        image = f'<img style="width:100%" alt="{escape(name)}" src="data:image/png;base64,{data}">'
        figures.append(f"<figure>{image}<figcaption>{escape(name)}</figcaption></figure>")
    return figures


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
