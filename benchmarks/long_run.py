"""A hundred thousand steps of one avatar: nothing may grow.

    python -m benchmarks.long_run BUNDLE [--steps 100000] [--size 128] [--pipelined]

Resident memory is sampled all along. The exit code is 1 if it is more than 4 MB above that of the first tenth at the
end. With the demo at 128x128, 100,000 steps take some minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from emotag.runtime import Avatar
from emotag.runtime.bench.fresh import resident_mb
from emotag.runtime.bench.probe import babble

SAMPLES = 20
ALLOWED_MB = 4.0


def run(avatar: Avatar, steps: int) -> list[float]:
    """Resident MB after each twentieth of the steps; an interruption and a new utterance now and then, as live."""
    blocks = babble(20).reshape(-1, 640)
    found: list[float] = []
    start = time.perf_counter()
    for number in range(steps):
        if number % 5000 == 4999:
            avatar.interrupt()
        avatar.step(blocks[number % len(blocks)])
        if (number + 1) % max(1, steps // SAMPLES) == 0:
            found.append(resident_mb())
            print(f"{number + 1:>8} steps  {found[-1]:7.1f} MB  {time.perf_counter() - start:6.0f} s", flush=True)
    return found


def main() -> int:
    """Runs and judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--pipelined", action="store_true")
    options = parser.parse_args()
    avatar = Avatar(options.bundle, width=options.size, height=options.size, pipelined=options.pipelined)
    found = run(avatar, options.steps)
    grown = max(found[-2:]) - max(found[:2])
    print(f"grown by {grown:+.1f} MB; {'nothing grows' if grown <= ALLOWED_MB else 'TOO MUCH'}")
    return int(grown > ALLOWED_MB)


if __name__ == "__main__":
    sys.exit(main())
