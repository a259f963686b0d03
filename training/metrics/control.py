"""What asking for an emotion does: displacement by region and level, signs, recognition, the plane, lips in time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime import Emotion, Model
from ...runtime.emotion import NEUTRAL
from .closures import closure_shifts
from .control_stage import SHORTEST, Stage, Take, still_vertices
from .errors import MetricError
from .mesh_lips import LipPairs
from .outside import FER_CLASSES, Faces, ask_face_landmarker, ask_fer

__all__ = ["EXPECTED", "ControlReport", "Judges", "face_regions", "lateness", "measure_control"]

Floats = NDArray[np.float64]
Progress = Callable[[str], None]


def _both(*names: str) -> dict[str, int]:
    return {f"{name}{side}": 1 for name in names for side in ("Left", "Right")}


EXPECTED: Mapping[str, Mapping[str, int]] = {
    "angry": _both("browDown"),
    "disgust": _both("browDown", "eyeSquint"),
    "fear": {"browInnerUp": 1, **_both("eyeWide", "mouthStretch")},
    "happy": _both("mouthSmile"),
    "sad": {"browInnerUp": 1, **_both("mouthFrown")},
    "surprise": {"browInnerUp": 1, **_both("browOuterUp", "eyeWide")},
    "contempt": {"mouthSmileRight": 1},
}
"""Signs of the change from neutral that a class must show, by ARKit's names (the avatar's own sides): EMFACS.

Fear is 1+2+4+5+20: lids go up and the mouth wide, while nothing is asked of the squint of AU 7. MediaPipe gives no
noseSneer worth reading, so disgust is judged by what goes with it.
"""

LEVELS = (1, 2, 3)
_FRAMES = 360  # of the speech
_EVERY = 20  # frames between two pictures that are judged
_PLANE = 48  # places that valence and arousal are recovered from
MOVES = 0.25  # mm: a region that moves by less at level 3 is not one that the class moves
_OURS = "the expression itself"
LANDMARKER, FER = "FaceLandmarker", "fer"


@dataclass(frozen=True)
class Judges:
    """What is judged from outside, each in a Python of its own; None is left out, and the report says so.

    landmarker: of an environment with mediapipe, with `task`, its face_landmarker.task. fer: of one with fer.
    """

    landmarker: Path | None = None
    task: Path | None = None
    fer: Path | None = None

    @property
    def named(self) -> bool:
        """Whether there is anyone to show pictures to."""
        return self.landmarker is not None or self.fer is not None


@dataclass(frozen=True)
class ControlReport:
    """displacement: class → level → region → mean mm from neutral; of `static`, which must stay, the largest.
    falling: class → regions that the class moves and that do not rise with the level. signs: judge → class →
    blendshape → change at level 3. ranked: class that was asked for → class of fer → frames in which fer ranks it
    first. likely: the same → mean probability. shifts: class → ms by which each lip closure comes later than in the
    neutral speech. lateness: class → ms that the jaw as a whole is late. plane: correlation of asked and read valence
    and arousal. recognised: share of frames at level 3 that our own reading of the expression names rightly. pictures:
    class → uint8 [3, H, W, 3], a moment at levels 1, 2, 3. why: what was not measured, with the reason.
    """

    displacement: dict[str, dict[int, dict[str, float]]]
    falling: dict[str, list[str]]
    signs: dict[str, dict[str, dict[str, float]]]
    ranked: dict[str, dict[str, int]]
    likely: dict[str, dict[str, float]]
    shifts: dict[str, list[float]]
    lateness: dict[str, float]
    plane: dict[str, float]
    recognised: float
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def wrong_signs(self, judge: str) -> list[str]:
        """`class blendshape` of every expected sign that is not right at level 3."""
        return [
            f"{name} {shape}"
            for name, changes in self.signs[judge].items()
            for shape, sign in EXPECTED[name].items()
            if changes[shape] * sign <= 0
        ]

    def not_first(self) -> list[str]:
        """Classes that fer knows but ranks first no more often than some other, when they are asked for."""
        return [
            name
            for name, counts in self.ranked.items()
            if name in FER_CLASSES
            and counts.get(name, 0) <= max((n for other, n in counts.items() if other != name), default=0)
        ]

    def worst_shift(self, name: str) -> float:
        """The largest shift of a class's closures in ms, either way; NaN without a closure that both have."""
        kept = [abs(shift) for shift in self.shifts.get(name, []) if not math.isnan(shift)]
        return max(kept, default=float("nan"))

    def save(self, path: Path) -> None:
        """Writes JSON; NaN becomes null, and pictures are left out."""
        content = asdict(self) | {"expected": {name: dict(signs) for name, signs in EXPECTED.items()}}
        del content["pictures"]
        content["shifts"] = {
            name: [None if math.isnan(shift) else round(shift, 2) for shift in shifts]
            for name, shifts in self.shifts.items()
        }
        path.write_text(json.dumps(content, indent=1) + "\n")


def measure_control(
    bundle: Path, speech: Path, judges: Judges | None = None, progress: Progress = lambda what: None
) -> ControlReport:
    """Renders a speech with every class and level and measures it against the neutral one.

    Raises MetricError for a bundle that cannot be steered, JudgeError for a judge that was named and cannot work, and
    EmotagError as the runtime does.
    """
    judges = judges or Judges()
    model = Model.load(bundle)
    spec = model.manifest.motion
    if not spec.steerable:
        raise MetricError(f"{bundle}: its motion network cannot be steered by an emotion: nothing to measure")
    stage = Stage(model, speech, _FRAMES)
    judged = range(_EVERY, stage.frames, _EVERY)
    moment = judged[len(judged) // 4 : len(judged) // 4 + 1]
    judged = judged if judges.named else moment
    neutral = stage.take(Emotion(NEUTRAL), judged)
    takes: dict[str, dict[int, Take]] = {}
    for name in (name for name in spec.emotions if name != NEUTRAL):
        progress(name)
        shown = {1: moment, 2: moment, 3: judged}
        takes[name] = {level: stage.take(Emotion(name, level=level), shown[level]) for level in LEVELS}
    last = {name: levels[3] for name, levels in takes.items()}
    displacement = _displacements(model, takes, neutral)
    why: dict[str, str] = {}
    signs, faces = _signs(model, last, neutral, judges, progress, why)
    progress("closures")
    shifts = _shifts(model, last, neutral, why)
    progress("plane")
    place = judged.index(moment[0])
    return ControlReport(
        displacement=displacement,
        falling={name: _falling(levels) for name, levels in displacement.items()},
        signs=signs,
        ranked={name: dict(Counter(max(face, key=face.__getitem__) for face in seen)) for name, seen in faces.items()},
        likely={name: _means(seen) for name, seen in faces.items()},
        shifts=shifts,
        lateness={name: lateness(take.jaw[:, 0], neutral.jaw[:, 0]) for name, take in last.items()},
        plane=_plane(stage),
        recognised=_recognised(last, neutral),
        pictures={name: _moments(levels, place) for name, levels in takes.items()},
        why=why,
    )


def face_regions(model: Model) -> dict[str, NDArray[np.bool_]]:
    """Vertices [V] of brows, eyes, cheeks, mouth, the whole face, and what must not move: the skull and the neck.

    By place, in distances between the eyes d: heights over the eyes; face is what lies before the eyes' centres.
    """
    head = model.scene.head
    eyes = head.joints[3:5].astype(np.float64)
    middle, d = eyes.mean(axis=0), max(float(np.linalg.norm(eyes[0] - eyes[1])), 1e-6)
    place = (head.template - middle) / d
    height, before = place[:, 1], place[:, 2] > 0.0
    return {
        "brows": before & (height > 0.2) & (height < 0.7),
        "eyes": before & (np.abs(height) <= 0.2),
        "cheeks": before & (height < -0.2) & (height > -0.7),
        "mouth": before & (height <= -0.7) & (height > -1.4),
        "face": before & (height > -1.4) & (height < 0.7),
        "static": (place[:, 2] < -1.0) & (height > -0.5),
    }


def lateness(track: Floats, reference: Floats) -> float:
    """Milliseconds by which a track is later than another, at the peak of their correlation (parabola through it)."""
    a, b = track - track.mean(), reference - reference.mean()
    lags = np.arange(-5, 6)
    score = np.array([np.dot(np.roll(a, -lag)[8:-8], b[8:-8]) for lag in lags])
    best = int(np.clip(score.argmax(), 1, len(lags) - 2))
    left, peak, right = score[best - 1 : best + 2]
    bend = left - 2 * peak + right
    return float(40 * (lags[best] + (0.5 * (left - right) / bend if bend else 0.0)))


def _displacements(
    model: Model, takes: Mapping[str, Mapping[int, Take]], neutral: Take
) -> dict[str, dict[int, dict[str, float]]]:
    rows, regions = range(0, len(neutral.jaw), 10), face_regions(model)
    still = still_vertices(model, neutral, rows)

    def of(take: Take) -> dict[str, float]:
        distance = 1000 * np.linalg.norm(still_vertices(model, take, rows) - still, axis=-1)
        found = {name: float(distance[:, chosen].mean()) for name, chosen in regions.items() if chosen.any()}
        if "static" in found:
            found["static"] = float(distance[:, regions["static"]].max())
        return found

    return {name: {level: of(take) for level, take in levels.items()} for name, levels in takes.items()}


def _falling(levels: Mapping[int, Mapping[str, float]]) -> list[str]:
    moved = [region for region, value in levels[3].items() if region != "static" and value >= MOVES]
    return [region for region in moved if not levels[1][region] < levels[2][region] < levels[3][region]]


def _signs(
    model: Model, last: Mapping[str, Take], neutral: Take, judges: Judges, progress: Progress, why: dict[str, str]
) -> tuple[dict[str, dict[str, dict[str, float]]], Faces]:
    """Changes of blendshapes by judge, and the faces that fer saw; fills `why`."""
    names, faces = model.manifest.expression_names, Faces()
    signs: dict[str, dict[str, dict[str, float]]] = {}
    if set(EXPECTED["happy"]) <= set(names):
        signs[_OURS] = {name: _changes(take.expression, neutral.expression, names) for name, take in last.items()}
    else:
        why[f"signs by {_OURS}"] = "the head has no ARKit names"
    pictures = {NEUTRAL: neutral.pictures, **{name: take.pictures for name, take in last.items()}}
    if judges.landmarker is None or judges.task is None:
        why[f"signs by {LANDMARKER}"] = "pass --judge-python and --face-landmarker"
    else:
        progress(LANDMARKER)
        seen = {
            name: _means(faces) for name, faces in ask_face_landmarker(judges.landmarker, judges.task, pictures).items()
        }
        signs[LANDMARKER] = {
            name: {shape: value - seen[NEUTRAL][shape] for shape, value in seen[name].items()} for name in last
        }
    if judges.fer is None:
        why[f"ranking by {FER}"] = "pass --fer-python"
    else:
        progress(FER)
        faces = ask_fer(judges.fer, pictures)
    return signs, faces


def _changes(found: Floats, neutral: Floats, names: Sequence[str]) -> dict[str, float]:
    change = (found - neutral).mean(axis=0)
    return {name: float(value) for name, value in zip(names, change, strict=True)}


def _means(faces: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([face[name] for face in faces])) for name in faces[0]}


def _shifts(model: Model, last: Mapping[str, Take], neutral: Take, why: dict[str, str]) -> dict[str, list[float]]:
    pairs = LipPairs.of(model)
    if pairs is None:
        why["closures"] = "the lips of this head are not known: it is not Anny's"
        return {}
    calm = pairs.gaps(model, neutral).mean(axis=1)
    return {name: closure_shifts(pairs.gaps(model, take).mean(axis=1), calm) for name, take in last.items()}


def _recognised(last: Mapping[str, Take], neutral: Take) -> float:
    """Share of the second half's frames at level 3 that lie nearest to the first half's mean of their class.

    A control of the measure, not of the face: it has seen this avatar.
    """
    changes = [take.expression - neutral.expression for take in last.values()]
    half = len(neutral.jaw) // 2
    spread = np.sqrt(np.mean([change[:half].var(axis=0) for change in changes], axis=0)) + 0.02
    centres = np.stack([change[:half].mean(axis=0) / spread for change in changes])
    far = [np.linalg.norm(change[half:, None] / spread - centres, axis=-1) for change in changes]
    return float(np.mean([distance.argmin(axis=1) == number for number, distance in enumerate(far)]))


def _plane(stage: Stage) -> dict[str, float]:
    """Correlation of asked with read places: read linearly off the mean expression, each left out in turn."""
    rng = np.random.default_rng(0)
    radius, angle = np.sqrt(rng.uniform(0, 1, _PLANE)), rng.uniform(0, 2 * np.pi, _PLANE)
    asked = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    wishes = [Emotion.at(float(v), float(a)) for v, a in asked]
    shown = np.stack([stage.take(wish, frames=SHORTEST).expression.mean(axis=0) for wish in wishes])
    shown = (shown - shown.mean(axis=0)) * 10
    read = np.zeros_like(asked)
    for row in range(_PLANE):
        rest = np.arange(_PLANE) != row
        x = np.column_stack([shown[rest], np.ones(_PLANE - 1)])
        weights = np.linalg.solve(x.T @ x + 0.3 * np.eye(x.shape[1]), x.T @ asked[rest])
        read[row] = np.append(shown[row], 1) @ weights
    valence, arousal = (float(np.corrcoef(asked[:, axis], read[:, axis])[0, 1]) for axis in (0, 1))
    return {"valence": valence, "arousal": arousal}


def _moments(levels: Mapping[int, Take], place: int) -> NDArray[np.uint8]:
    return np.stack([levels[1].pictures[0], levels[2].pictures[0], levels[3].pictures[place]])
