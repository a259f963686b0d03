"""Largest differences between two dumps of a recorded clip.

    emotag-render id.emotag --cued --dump found.npz
    python -m benchmarks.compare_dump found.npz expected.npz

Both hold the arrays of `emotag-render --dump`; for a released checkpoint, `expected.npz` is what the authors'
implementation gives.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
MOTION = ("expression", "jaw", "gate", "emotion_logits", "base_expression", "residual_expression", "encoded_audio")


def largest(found: Values, wanted: Values) -> str:
    """Largest absolute difference."""
    return f"{np.abs(found - wanted).max():.1e}"


def relative(found: Values, wanted: Values) -> str:
    """Largest difference of vectors [..., 3], relative to their length."""
    return f"{(np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)).max():.1e} relative"


def decibels(found: Values, wanted: Values) -> str:
    """PSNR of the worst picture [frames, height, width, ...] with values 0…1."""
    worst = max(float(((a - b) ** 2).mean()) for a, b in zip(found, wanted, strict=True))
    return "identical" if worst == 0 else f"{-10 * np.log10(worst):.1f} dB in the worst frame"


MEASURES: dict[str, Callable[[Values, Values], str]] = {
    **dict.fromkeys(MOTION, largest),
    "vertices": lambda found, wanted: f"{largest(found, wanted)} m",
    "position": relative,
    "scale": relative,
    **dict.fromkeys(("d_mu", "d_rot", "d_scale"), largest),
    "render_rgb": decibels,
    "render_alpha": decibels,
}


def main() -> None:
    """Parse the command line and print a line for each array."""
    parser = argparse.ArgumentParser(description="Largest differences between two dumps of a recorded clip.")
    parser.add_argument("found", type=Path)
    parser.add_argument("expected", type=Path)
    options = parser.parse_args()
    with np.load(options.found) as found, np.load(options.expected) as wanted:
        for name, measure in MEASURES.items():
            if name in found and name in wanted:
                print(f"{name:<20} {measure(found[name].astype(np.float64), wanted[name].astype(np.float64))}")


if __name__ == "__main__":
    main()
