"""Cost of drawing by the number of Gaussians, and its plot.

    python -m benchmarks.scaling [-o docs/images/scaling.png]

Processor time of one thread at 512x512, SH degree 3; fewer splats are larger, so that all cover the same head.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.bench_render import measure, scene_of

COUNTS = (20_000, 40_000, 60_000, 90_000, 120_000)
SLACK = 1.1  # a cost may grow by this much more than the number, for noise
_FRAMES, _ROUNDS = 12, 4
_WIDTH, _HEIGHT, _MARGIN = 640, 400, 56


def measure_counts(side: int = 512) -> dict[int, float]:
    """Milliseconds a frame by count: the lowest median of several rounds in turn, so that all see the same weather."""
    scenes = {count: scene_of(count) for count in COUNTS}
    found: dict[int, float] = {}
    for _ in range(_ROUNDS):
        for count, scene in scenes.items():
            cost = measure(scene, side, 1, "auto", _FRAMES)["render"][0]
            found[count] = min(cost, found.get(count, np.inf))
    return found


def worst_growth(costs: dict[int, float]) -> float:
    """How much faster than their number the costs grow, from any count to any larger one; at most 1 is linear."""
    pairs = [(a, b) for a in costs for b in costs if a < b]
    return max((costs[b] / costs[a]) / (b / a) for a, b in pairs)


def plot(costs: dict[int, float], path: Path) -> None:
    """A PNG of the costs beside the straight line through the largest."""
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    most, top = max(costs), 1.15 * max(costs.values())

    def at(count: float, ms: float) -> tuple[float, float]:
        x = _MARGIN + (_WIDTH - 1.5 * _MARGIN) * count / most
        return x, _HEIGHT - _MARGIN - (_HEIGHT - 1.5 * _MARGIN) * ms / top

    for ms in range(0, int(top) + 1, 2):
        draw.line([at(0, ms), at(most, ms)], fill="#e4e4e4")
        draw.text((_MARGIN - 24, at(0, ms)[1] - 6), f"{ms}", fill="#444")
    for count in costs:
        draw.text((at(count, 0)[0] - 14, at(0, 0)[1] + 8), f"{count // 1000}K", fill="#444")
    draw.line([at(0, 0), at(most, costs[most])], fill="#bbbbbb", width=2)
    draw.line([at(count, ms) for count, ms in costs.items()], fill="#2457a6", width=3)
    for count, ms in costs.items():
        x, y = at(count, ms)
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill="#2457a6")
        draw.text((x - 12, y - 20), f"{ms:.1f}", fill="#2457a6")
    draw.text((_MARGIN, 10), "Drawing, ms of one thread by number of Gaussians; grey: proportional", fill="#222")
    picture.save(path)


def main() -> None:
    """Measures, prints, plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/scaling.png"))
    options = parser.parse_args()
    costs = measure_counts()
    for count, ms in costs.items():
        print(f"{count:>7} Gaussians  {ms:6.2f} ms  {1e6 * ms / count:5.1f} ns each")
    print(f"growth beyond linear, at worst: {worst_growth(costs):.2f}")
    plot(costs, options.output)


if __name__ == "__main__":
    main()
