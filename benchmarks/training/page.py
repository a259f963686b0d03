"""The results as the tables of docs/results.md, so that no number is copied by hand."""

from __future__ import annotations

from typing import Any

Numbers = dict[str, Any]

PAPER = {  # emotional set: PSNR (dB) and LMD (pixels), of the paper's ablation
    "full": (29.95, 2.456),
    "without score": (29.52, 2.731),
    "without KL": (29.36, 2.985),
    "without both (SEG)": (29.01, 3.067),
    "without gate": (28.77, 3.358),
    "without residual": (28.52, 3.572),
    "without AdaIN": (28.38, 4.021),
}

_BARS = (  # key, what it is, format, bar
    ("jaw_correlation", "jaw, correlation", "{:.3f}", "≥ 0.85"),
    ("jaw_slope", "jaw, slope", "{:.2f}", "0.8 to 1.25"),
    ("closures_present", "P, B, M shut within 40 ms", "{:.1%}", "≥ 90%"),
    ("closures_false", "closures that nothing asks for", "{:.1%}", "≤ 10%"),
    ("open_vowels_open", "open vowels open", "{:.1%}", "≥ 85%"),
    ("look_ahead_ms", "look-ahead", "{:.0f} ms", "≤ 160 ms"),
)
_RECORDED = (
    ("closures_present", "P, B, M shut within 60 ms", "{:.1%}", "≥ 75%"),
    ("closures_false", "closures that nothing asks for", "{:.1%}", "≤ 15%"),
    ("open_vowels_open", "open vowels open", "{:.1%}", "≥ 80%"),
)


def page(found: Numbers) -> str:
    """Markdown of every part that was measured."""
    parts = {"speech": _speech, "people": _people, "ablation": _ablation, "real": _real}
    sections = [write(found[name]) for name, write in parts.items() if name in found]
    return "\n\n".join([f"Measured on {found['processor']}, {found['threads']} threads.", *sections]) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bars(numbers: Numbers, bars: tuple[tuple[str, str, str, str], ...]) -> str:
    return _table(("", "measured", "bar"), [(what, form.format(numbers[key]), bar) for key, what, form, bar in bars])


def _speech(numbers: Numbers) -> str:
    return f"## Voices that training never heard\n\n{numbers['seconds']:.0f} s.\n\n{_bars(numbers, _BARS)}"


def _people(numbers: Numbers) -> str:
    rows = [
        (
            name,
            f"{n['psnr_head']:.2f} dB",
            f"{n['ssim_head']:.3f}",
            f"{n['mouth_gain']:+.1f} dB",
            f"{n['lmd']:.2f} px",
            f"{n['jaw_correlation']:.2f}",
            f"{n['adaptation_seconds'] / 60:.1f} min",
        )
        for name, n in numbers.items()
    ]
    head = ("scene", "PSNR in the head", "SSIM", "mouth above a frozen face", "LMD", "jaw r", "adaptation")
    bars = ("bar", "≥ 30.0 dB", "≥ 0.95", "≥ +3 dB", "", "≥ 0.85", "≤ 11 min")
    return f"## People whom training never saw\n\n{_table(head, [*rows, bars])}"


def _ablation(numbers: Numbers) -> str:
    rows = [
        (
            name,
            f"{n['psnr_head']:.2f} / {n['lmd']:.3f}",
            f"{n['face_error_mm']:.3f}",
            f"{n['jaw_correlation']:.3f}",
            f"{n['emotion_named']:.1%}",
            f"{n['gate_error']:.3f}",
            f"{PAPER[name][0]:.2f} / {PAPER[name][1]:.3f}",
        )
        for name, n in numbers.items()
    ]
    head = ("", "PSNR / LMD", "face, mm", "jaw r", "emotion named", "mean of abs(g - e)", "paper's PSNR / LMD")
    return f"## Without each component\n\n{_table(head, rows)}"


def _real(numbers: Numbers) -> str:
    parts = ["## Recorded speech"]
    if "pooled" in numbers:
        parts.append(_bars(numbers["pooled"], _RECORDED))
    if "pauses_shut" in numbers:
        frames = sum(clip["frames"] for clip in numbers["pauses"].values())
        parts.append(f"In the pauses the lips are shut in {numbers['pauses_shut']:.1%} of {frames} frames.")
    return "\n\n".join(parts)
