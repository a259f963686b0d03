"""The report as one HTML page that needs nothing else: tables, pictures as PNG inside, curves as SVG."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from .frames import Shot
from .judge import Value

__all__ = ["STYLE", "Curve", "Section", "png", "render_page"]

_WIDTH, _HEIGHT = 900, 150
_COLOURS = ("#1f6feb", "#d29922")
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#1f2328}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #d0d7de;padding:.25em .6em;text-align:left}td.n{text-align:right;font-variant-numeric:
tabular-nums}td.why{color:#656d76}figure{margin:1em 0}img{width:32%;image-rendering:auto}figcaption{color:#656d76}
svg{background:#f6f8fa;width:100%}"""


@dataclass(frozen=True, eq=False)
class Curve:
    """Tracks over time on one axis, with shaded spans (seconds)."""

    title: str
    tracks: Mapping[str, NDArray[np.float64]]  # name → [T]
    frame_rate: float
    spans: Sequence[tuple[float, float]] = ()
    level: float | None = None  # a horizontal line


@dataclass(frozen=True, eq=False)
class Section:
    """One case of the report."""

    title: str
    values: Mapping[str, Value]
    shots: Sequence[Shot] = ()
    curves: Sequence[Curve] = ()


def render_page(title: str, sections: Sequence[Section], notes: Sequence[str] = ()) -> str:
    """The page as text."""
    body = "".join(_section(section) for section in sections)
    listed = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1>{listed}{body}</html>\n"
    )


def _section(section: Section) -> str:
    rows = "".join(_row(name, value) for name, value in section.values.items())
    table = f"<table><tr><th>metric<th>value<th>unit<th>frames<th></tr>{rows}</table>"
    pictures = "".join(_figure(shot) for shot in section.shots)
    curves = "".join(_svg(curve) for curve in section.curves)
    return f"<h2>{escape(section.title)}</h2>{table}{pictures}{curves}"


def _row(name: str, value: Value) -> str:
    number = "–" if value.value is None else f"{value.value:.4g}"
    frames = str(value.frames) if value.frames else ""
    return (
        f'<tr><td>{escape(name)}<td class="n">{number}<td>{escape(value.unit)}<td class="n">{frames}'
        f'<td class="why">{escape(value.why)}</tr>'
    )


def _figure(shot: Shot) -> str:
    apart = np.abs(shot.predicted.astype(np.int16) - shot.truth.astype(np.int16))
    pictures = (shot.truth, shot.predicted, (4 * apart).clip(0, 255).astype(np.uint8))
    images = " ".join(
        f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(png(picture)).decode()}">'
        for name, picture in zip(("truth", "predicted", "difference"), pictures, strict=True)
    )
    caption = f"Frame {shot.row}, {shot.psnr:.2f} dB: truth, predicted, four times the difference"
    return f"<figure>{images}<figcaption>{caption}</figcaption></figure>"


def _svg(curve: Curve) -> str:
    length = max(len(track) for track in curve.tracks.values())
    seconds = length / curve.frame_rate
    values = np.concatenate([np.asarray(track, dtype=np.float64) for track in curve.tracks.values()])
    low, high = float(min(values.min(), 0.0)), float(max(values.max(), 1e-9))

    def y(value: float) -> float:
        return _HEIGHT - 10 - (value - low) / (high - low) * (_HEIGHT - 20)

    parts = [
        f'<rect x="{_WIDTH * a / seconds:.1f}" y="0" width="{max(_WIDTH * (b - a) / seconds, 1):.1f}" '
        f'height="{_HEIGHT}" fill="#ff818266"/>'
        for a, b in curve.spans
    ]
    if curve.level is not None:
        parts.append(f'<path d="M0 {y(curve.level):.1f}H{_WIDTH}" stroke="#656d76" stroke-dasharray="4" fill="none"/>')
    for colour, track in zip(_COLOURS, curve.tracks.values(), strict=False):
        points = " ".join(
            f"{_WIDTH * (t + 0.5) / curve.frame_rate / seconds:.1f},{y(float(value)):.1f}"
            for t, value in enumerate(track)
        )
        parts.append(f'<polyline points="{points}" stroke="{colour}" fill="none" stroke-width="1.3"/>')
    names = ", ".join(
        f'<span style="color:{colour}">{escape(name)}</span>'
        for colour, name in zip(_COLOURS, curve.tracks, strict=False)
    )
    drawn = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">{"".join(parts)}</svg>'
    return f"<figure>{drawn}<figcaption>{escape(curve.title)}: {names}, {seconds:.1f} s</figcaption></figure>"


def png(picture: NDArray[np.uint8]) -> bytes:
    """RGB [H, W, 3] as a PNG file's bytes."""
    height, width = picture.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
        + chunk(b"IEND", b"")
    )
