"""Cost of drawing by stage, for sizes, Gaussian counts, threads and instruction sets.

Usage: python -m benchmarks.bench_render [--frames 60] [--isa avx2]

One thread: processor time of that thread. More: elapsed time. Medians over frames of a moving head; the quietest tenth
in brackets.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from emotag import plugins

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import egg  # noqa: E402

SIZES = (256, 512, 1024)
COUNTS = (20_000, 60_000, 120_000)
MOUTH = 2_000


def scene_of(count: int) -> plugins.Scene:
    """FLAME's size: about 5,000 vertices, 10,000 faces, 100 expressions; SH degree 3."""
    head = egg.head(71, 71, 100)
    # Fewer splats must be larger to cover the same head.
    gaussians = egg.gaussians(head, count, size=0.6 * (60_000 / count) ** 0.5)
    return plugins.Scene(head, gaussians, egg.mouth(gaussians, MOUTH))


def measure(scene: plugins.Scene, size: int, threads: int, isa: str, frames: int) -> dict[str, tuple[float, float]]:
    """Median and tenth percentile of the milliseconds of each stage and of their sum, the mouth apart."""
    renderer = plugins.Renderer(scene, threads, isa)
    camera = egg.camera(size, size)
    out = np.empty((size, size, 3), np.uint8)
    audio = np.zeros(scene.mouth.audio_size, np.float32)
    controls = [egg.controls(scene.head, frame) for frame in range(8)]
    rows = []
    for frame in range(frames + 5):
        renderer.draw(*controls[frame % 8], camera, audio, out=out)
        times = renderer.cpu_timings if threads == 1 else renderer.timings
        rows.append({**times, "render": sum(times.values()) - times["mouth"]})
    return {
        name: (float(np.median(values)), float(np.percentile(values, 10)))
        for name in rows[0]
        for values in [[row[name] for row in rows[5:]]]
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--isa", default="auto", help="auto, plain, avx2 or avx512")
    options = parser.parse_args()
    names = ("skin", "mouth", "project", "sort", "blend", "render")
    print(f"{'Gaussians':>9} {'size':>5} {'threads':>7} {'isa':>7}" + "".join(f"{name:>15}" for name in names))
    for count in COUNTS:
        scene = scene_of(count)
        for size in SIZES:
            for threads in (1, 2):
                cells = measure(scene, size, threads, options.isa, options.frames)
                isa = plugins.Renderer(scene, 1, options.isa).isa
                row = "".join(f"{cells[name][0]:7.2f} ({cells[name][1]:5.2f})" for name in names)
                print(f"{count:9d} {size:5d} {threads:7d} {isa:>7}{row}")


if __name__ == "__main__":
    main()
