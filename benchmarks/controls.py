"""What the controls of an avatar cost a frame, all together, beside the network and the picture.

    python -m benchmarks.controls demo.emotag [--steps 400] [--json FILE]

Two avatars of one model take the same steps in turn: one with nothing set and no idle motion, one with an emotion, a
pose, a gaze, an expression, the camera and the background changed before every single frame. What is compared is the
processor time of the calling thread outside the stages (encoder, motion network, picture), the setting of the controls
included. Medians, and tenth percentiles for a machine that others use too; the bar is 0.5 ms.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from emotag.runtime import Avatar, Emotion, Model
from emotag.runtime.bench.overhead import StepOverhead

BAR = 0.5  # ms a frame
_SIDE = 64  # pixels: the picture is no part of this


class Everything:
    """Sets every control to something else before each frame."""

    def __init__(self, avatar: Avatar) -> None:
        self._avatar = avatar
        self._rng = np.random.default_rng(0)
        self._names = avatar.expression_names or ("0", "1")
        self._pictures = [np.full((_SIDE, _SIDE, 3), shade, np.uint8) for shade in (40, 200)]
        self._count = 0

    def __call__(self) -> float:
        """The milliseconds that setting took."""
        avatar, (a, b, c, d) = self._avatar, (float(x) for x in self._rng.uniform(-1, 1, 4))
        name = self._names[self._count % len(self._names)]
        self._count += 1
        begin = time.thread_time_ns()
        if avatar.model.manifest.motion.steerable:
            avatar.emotion = Emotion.at(valence=a, arousal=b)
        avatar.pose = (0.2 * a, 0.4 * b, 0.1 * c)
        avatar.gaze = "camera" if a > 0 else (20 * c, 10 * d)
        avatar.blend[name] = c
        avatar.camera.orbit(60 * a, 20 * b).zoom(1 + 0.5 * d).look_at(avatar.head_middle)
        avatar.background = self._pictures[self._count % 2]
        return 1e-6 * (time.thread_time_ns() - begin)


def measure(model: Model, steps: int) -> dict[str, float]:
    """Processor milliseconds a frame: plain, with everything, of that the setting, and the controls' difference."""
    plain, busy = (Avatar(model, width=_SIDE, height=_SIDE) for _ in range(2))
    plain.idle = False
    change, rows = Everything(busy), []
    before, after = StepOverhead(plain), StepOverhead(busy)
    for step in range(steps + 20):
        without, _ = before.step()
        setting = change()
        outside, _ = after.step()
        if step >= 20:  # cameras of the track and statistics are made once
            rows.append((without, setting, outside))
    without, setting, outside = np.median(rows, axis=0)
    quiet = np.percentile(rows, 10, axis=0)
    return {
        "without": float(without),
        "with": float(outside + setting),
        "setting": float(setting),
        "controls": float(outside + setting - without),
        "controls_quiet": float(quiet[2] + quiet[1] - quiet[0]),
        "bar": BAR,
    }


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(Model.load(options.bundle, threads=1), options.steps)
    print(
        f"outside the stages {found['without']:.3f} ms a frame; with every control changed every frame "
        f"{found['with']:.3f} ms, {found['setting']:.3f} of it to set them\n"
        f"all controls together: {found['controls']:.3f} ms, {found['controls_quiet']:.3f} in quiet frames (bar {BAR})"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
