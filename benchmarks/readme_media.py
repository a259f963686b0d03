"""Draw the README's picture and animation with the demo's bundle.

    python -m benchmarks.readme_media demo.emotag training/assets/sample.wav docs/images

demo.png shows three moments of the speech: the closed mouth, the widest jaw, the roundest lips. demo.webp is the
beginning of the speech at half the frame rate.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from emotag import runtime

SECONDS = 6.0  # of speech in the animation
STRIDE = 2  # of 25 frames a second, every second one is shown
LIMIT = 3 * 2**20  # bytes of an animation that a README may carry
ROUND = ("mouthPucker", "mouthFunnel")


def moments(frames: list[runtime.Frame], names: tuple[str, ...]) -> list[runtime.Frame]:
    """The closed mouth, the widest jaw, and the roundest lips while the jaw is not wide, of a speech."""
    columns = [names.index(name) for name in ROUND if name in names]

    def opening(frame: runtime.Frame) -> float:
        return float(np.linalg.norm(frame.jaw))

    by_opening = sorted(frames, key=opening)
    half = by_opening[: len(frames) // 2 + 1]
    return [by_opening[0], by_opening[-1], max(half, key=lambda frame: float(frame.expression[columns].sum()))]


def write_picture(frames: list[runtime.Frame], path: Path) -> None:
    """Frames side by side."""
    Image.fromarray(np.hstack([frame.rgb for frame in frames])).save(path, optimize=True)


def write_animation(frames: list[runtime.Frame], path: Path) -> None:
    """Frames of 25 a second as an endless animation, in the best quality that stays within the limit."""
    images = [Image.fromarray(frame.rgb) for frame in frames[::STRIDE]]
    for quality in (80, 70, 60, 50):
        images[0].save(
            path, save_all=True, append_images=images[1:], duration=40 * STRIDE, loop=0, quality=quality, method=4
        )
        if path.stat().st_size <= LIMIT:
            return
    raise SystemExit(f"{path} is larger than {LIMIT} bytes: show fewer seconds or a smaller picture")


def main() -> None:
    """Parse the command line and write both files."""
    parser = argparse.ArgumentParser(description="Draw the README's picture and animation.")
    parser.add_argument("bundle")
    parser.add_argument("speech")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=400, help="of the picture's side, in pixels")
    options = parser.parse_args()
    avatar = runtime.Avatar(options.bundle, width=options.size, height=options.size)
    frames = list(avatar.render(options.speech))
    options.folder.mkdir(parents=True, exist_ok=True)
    write_picture(moments(frames, avatar.expression_names), options.folder / "demo.png")
    write_animation(frames[: int(SECONDS * 25)], options.folder / "demo.webp")
    for name in ("demo.png", "demo.webp"):
        print(f"{options.folder / name}: {(options.folder / name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
