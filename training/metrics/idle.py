"""What an avatar does while nobody speaks, through the whole runtime, against EmoGene's bars and our own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...runtime import Avatar, Frame, Model
from ...runtime.cues import CuePlayer
from ...runtime.idle import Resting
from ...runtime.manifest import FRAME_RATE, FRAME_SAMPLES
from .control_stage import Take
from .mesh_lips import LipPairs
from .motion import HEAD_HEIGHT, pose_motion, pose_velocity

__all__ = ["IdleReport", "measure_idle"]

SECONDS = 60
_NOISE = 1e-4  # a quiet room, -80 dB of full scale
_SIDE = 16  # pixels: nobody looks
_BLINK = 0.5


@dataclass(frozen=True)
class Bar:
    """A number, its unit, and the bounds that it must keep."""

    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the value is a number within the bounds."""
        low = -np.inf if self.least is None else self.least
        high = np.inf if self.most is None else self.most
        return bool(low <= self.value <= high)


@dataclass(frozen=True)
class IdleReport:
    """Bars by name, over `seconds` of a quiet room. why: what was not measured, with the reason."""

    seconds: int
    bars: dict[str, Bar]
    why: dict[str, str]

    @property
    def broken(self) -> list[str]:
        """Names of the bars that are not kept."""
        return [name for name, bar in self.bars.items() if not bar.kept]

    def table(self) -> str:
        """For people."""
        lines = [f"{'in silence':<34}{'measured':>10}{'least':>9}{'most':>9}"]
        for name, bar in self.bars.items():
            least, most = ("" if bound is None else f"{bound:.4g}" for bound in (bar.least, bar.most))
            end = "" if bar.kept else "   BROKEN"
            lines.append(f"{name:<34}{bar.value:>10.4f}{least:>9}{most:>9} {bar.unit}{end}")
        return "\n".join(lines + [f"{name}: not measured: {reason}" for name, reason in self.why.items()])

    def save(self, path: Path) -> None:
        """Writes JSON."""
        content = asdict(self)
        for name, bar in self.bars.items():
            content["bars"][name]["kept"] = bar.kept
        path.write_text(json.dumps(content, indent=1) + "\n")


def measure_idle(bundle: Path, seconds: int = SECONDS, head_height: float = HEAD_HEIGHT) -> IdleReport:
    """Lets the avatar hear a quiet room, then speech. head_height: metres. Raises EmotagError as the runtime does."""
    model = Model.load(bundle)
    avatar = Avatar(model, width=_SIDE, height=_SIDE)
    frames = _listen(avatar, seconds * FRAME_RATE)
    rotation = (
        Rotation.from_rotvec([f.pose[0] for f in frames]) * Rotation.from_rotvec([f.pose[1] for f in frames])
    ).as_rotvec()
    translation = np.array([frame.translation for frame in frames], np.float64)
    mean = pose_motion(rotation, translation, head_height)
    speed = np.linalg.norm(pose_velocity(rotation, translation, head_height), axis=1)
    pose = np.concatenate([rotation, translation / head_height], axis=1)
    bars = {
        "velocity, mean": Bar(mean["velocity_mean"], "a frame", 0.001, 0.0175),
        "acceleration, mean": Bar(mean["acceleration_mean"], "a frame", None, 0.0068),
        "two seconds most alike, apart": Bar(_apart(pose), "rad or heads", 0.002, None),
        "blinks": Bar(60 / seconds * _blinks(frames, model), "a minute", 4, 40),
        "range of the gaze": Bar(float(np.ptp([frame.pose[3, 1] for frame in frames])), "rad", 0.02, None),
        "frames until speech is seen": Bar(_resumes(avatar), "frames", None, 1),
    }
    why: dict[str, str] = {}
    seams = _seams(model.cues, len(speed))
    if len(seams):
        bars["velocity at the loop's seam"] = Bar(
            float(speed[seams].max()), "a frame", None, float(np.percentile(speed, 95))
        )
    else:
        why["velocity at the loop's seam"] = f"the track's {len(model.cues.cues) / FRAME_RATE:g} s do not come round"
    pairs = LipPairs.of(model)
    if pairs is None:
        why["lips, widest apart"] = "the lips of this head are not known: it is not Anny's"
    else:
        bars["lips, widest apart"] = Bar(_parted(model, pairs, frames), "mm", None, 0.5)
    return IdleReport(seconds, bars, why)


def _listen(avatar: Avatar, count: int) -> list[Frame]:
    rng = np.random.default_rng(3)
    found: list[Frame] = []
    while len(found) < count:
        frame = avatar.step((rng.standard_normal(FRAME_SAMPLES) * _NOISE).astype(np.float32))
        if frame.index >= 0:
            found.append(frame)
    return found


def _resumes(avatar: Avatar) -> float:
    """Frames from the first loud sound to the first frame that speaks, by their samples; at once is 0, earlier less."""
    loud = np.sin(np.arange(FRAME_SAMPLES) * 0.15).astype(np.float32) * 0.3
    while not (frame := avatar.step(loud)).speaking:
        if frame.audio.any() and np.abs(frame.audio).max() > 0.2:
            return float("inf")  # the sound itself is there, and the mouth still shut
    frames = 0
    while np.abs(frame.audio).max() <= 0.2:
        frame, frames = avatar.step(loud), frames + 1
    return float(-frames)


def _apart(pose: NDArray[np.float64]) -> float:
    """The largest difference within the two seconds of [T, 6] that are most alike."""
    seconds = pose[: len(pose) // FRAME_RATE * FRAME_RATE].reshape(-1, FRAME_RATE * pose.shape[1])
    return min(float(np.abs(a - b).max()) for i, a in enumerate(seconds) for b in seconds[:i])


def _blinks(frames: list[Frame], model: Model) -> int:
    names = model.manifest.expression_names
    if "eyeBlinkLeft" not in names:
        return 0
    shut = np.array([frame.expression[names.index("eyeBlinkLeft")] for frame in frames]) > _BLINK
    return int((np.diff(shut.astype(int)) > 0).sum())


def _seams(player: CuePlayer, count: int) -> NDArray[np.intp]:
    """Frames at which the track turns round or begins anew: idle motion counts the same in every avatar."""
    resting, places = Resting(player), []
    for frame in range(count + 1):
        resting.advance(True)
        places.append(resting.place(frame))
    rounds = np.floor(np.array(places) / max(len(player.cues) - 1, 1))
    return np.flatnonzero(np.diff(rounds))


def _parted(model: Model, pairs: LipPairs, frames: list[Frame]) -> float:
    """Millimetres by which the lips are further apart than at rest, where that is most."""
    expression, jaw = (np.array([getattr(f, part) for f in frames], np.float64) for part in ("expression", "jaw"))
    empty = np.zeros((0, 1, 1, 3), np.uint8)
    rest = Take(np.zeros_like(expression[:1]), np.zeros((1, 3)), empty)
    return float((pairs.gaps(model, Take(expression, jaw, empty)) - pairs.gaps(model, rest)).max())
