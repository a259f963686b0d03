"""What asking for an emotion does: displacement by region and level, signs, recognition, the plane, lips in time."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...plugins import skin
from ...runtime import Emotion, Model
from ...runtime.acting import Acting
from ...runtime.emotion import NEUTRAL
from ...runtime.manifest import SAMPLE_RATE
from ...runtime.sound import Sound
from .errors import MetricError

Floats = NDArray[np.float64]

EXPECTED: Mapping[str, Mapping[str, int]] = {
    "angry": {"browDownLeft": 1, "browDownRight": 1},
    "disgust": {"browDownLeft": 1, "browDownRight": 1, "eyeSquintLeft": 1, "eyeSquintRight": 1},
    "fear": {"browInnerUp": 1, "eyeSquintLeft": -1, "eyeSquintRight": -1},
    "happy": {"mouthSmileLeft": 1, "mouthSmileRight": 1},
    "sad": {"browInnerUp": 1, "mouthFrownLeft": 1, "mouthFrownRight": 1},
    "surprise": {"browInnerUp": 1, "browOuterUpLeft": 1, "browOuterUpRight": 1},
    "contempt": {"mouthSmileRight": 1},
}
"""Signs of the change from neutral that a class must show, by ARKit's names (the avatar's own sides)."""

_LEVELS = (1, 2, 3)
_FRAMES = 80  # of the speech
_SIDE = 256  # pixels of a picture that is judged
_SHOWN = (30, 55, 75)  # frames whose pictures are judged
_WARM = 5  # frames before transitions and smoothing have settled
_PLANE = 24  # places that valence and arousal are recovered from


@dataclass(frozen=True)
class ControlReport:
    """displacement: class → level → region → mean mm from neutral. monotone: class → rises with the level in every
    region that moves. signs: judge → class → blendshape → change at level 3. lateness: class → ms that the lips are
    later than the neutral ones. plane: correlation of asked and read valence and arousal. recognised: share of frames
    at level 3 that our own reading of the expression names rightly. why: what was not measured, with the reason.
    """

    displacement: dict[str, dict[int, dict[str, float]]]
    monotone: dict[str, bool]
    signs: dict[str, dict[str, dict[str, float]]]
    lateness: dict[str, float]
    plane: dict[str, float]
    recognised: float
    why: dict[str, str] = field(default_factory=dict)

    def wrong_signs(self, judge: str) -> list[str]:
        """`class blendshape` of every expected sign that is not right at level 3."""
        return [
            f"{name} {shape}"
            for name, changes in self.signs[judge].items()
            for shape, sign in EXPECTED[name].items()
            if changes[shape] * sign <= 0
        ]

    def table(self) -> str:
        """The report as lines of text."""
        lines = [f"{'class':<10}{'mm at level 1':>14}{'2':>7}{'3':>7}{'static':>8}{'rises':>7}{'late ms':>9}"]
        for name, levels in self.displacement.items():
            face = "".join(f"{levels[level]['face']:>{14 if level == 1 else 7}.2f}" for level in _LEVELS)
            rises = "yes" if self.monotone[name] else "no"
            lines.append(f"{name:<10}{face}{levels[3]['static']:>8.3f}{rises:>7}{self.lateness[name]:>9.1f}")
        for judge in self.signs:
            wrong = self.wrong_signs(judge)
            lines.append(f"signs by {judge}: {'all right' if not wrong else 'wrong: ' + ', '.join(wrong)}")
        lines.append(f"valence r = {self.plane['valence']:.3f}, arousal r = {self.plane['arousal']:.3f}")
        lines.append(f"our own reading recognises {100 * self.recognised:.0f}% at level 3")
        return "\n".join(lines + [f"{name}: not measured: {reason}" for name, reason in self.why.items()])

    def save(self, path: Path) -> None:
        """Writes JSON."""
        content = asdict(self) | {"expected": {name: dict(signs) for name, signs in EXPECTED.items()}}
        path.write_text(json.dumps(content, indent=1) + "\n")


@dataclass(frozen=True, eq=False)
class Take:
    """One rendering of the speech: expression [T, E], jaw [T, 3], pictures [N, H, W, 3]."""

    expression: Floats
    jaw: Floats
    pictures: NDArray[np.uint8]


class Stage:
    """Speaks the same sound again and again, encoded once, and draws only the frames that are looked at."""

    def __init__(self, model: Model, speech: Path, pictures: bool) -> None:
        """Raises AudioError, and MetricError for speech that is too short."""
        manifest = model.manifest
        self._network = model.motion_network()
        self._speech = model.speech(self._network)
        self._acting = Acting(model, self._network)
        self._acting.resting.settings = None
        self._delay = manifest.lookahead_frames
        sound = self._speech.listen(Sound.open(speech, SAMPLE_RATE, True))
        self._heard = list(islice(sound, _FRAMES + self._delay))
        if len(self._heard) < _FRAMES + self._delay:
            raise MetricError(f"{speech} is too short: control is measured on {_FRAMES / 25:g} s of speech")
        self._painter = model.painter(_SIDE, _SIDE) if pictures else None

    def take(self, emotion: Emotion) -> Take:
        """The speech with an emotion that holds from its first frame."""
        self._speech.reset()
        self._acting.feeling.wish = emotion
        self._acting.reset()
        expression, jaw, pictures = [], [], []
        for number, heard in enumerate(self._heard):
            self._speech.take(heard)
            index = number - self._delay
            scene = self._acting.prepare(index, True, index < 0)
            motion = self._acting.finish(scene, self._speech.motion(scene.aus))
            if index >= _WARM:
                expression.append(motion.expression)
                jaw.append(motion.jaw)
            if self._painter is not None and index in _SHOWN:
                self._painter.wear(motion, self._acting.report(scene, motion).probabilities)
                pictures.append(self._painter.draw(scene.row, motion, None, (1.0, 1.0, 1.0), None, scene.stance))
        return Take(np.array(expression, np.float64), np.array(jaw, np.float64), np.array(pictures, np.uint8))


def measure_control(
    bundle: Path,
    speech: Path,
    judge: tuple[Path, Path] | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> ControlReport:
    """Renders a speech with every class and level and measures it against the neutral one.

    judge: the Python of an environment with mediapipe, and face_landmarker.task. Raises MetricError for a bundle that
    cannot be steered, and EmotagError as the runtime does.
    """
    model = Model.load(bundle)
    spec = model.manifest.motion
    if not spec.steerable:
        raise MetricError(f"{bundle}: its motion network cannot be steered by an emotion: nothing to measure")
    stage = Stage(model, speech, pictures=judge is not None)
    classes = [name for name in spec.emotions if name != NEUTRAL]
    neutral = stage.take(Emotion(NEUTRAL))
    takes: dict[str, dict[int, Take]] = {}
    for name in classes:
        progress(name)
        takes[name] = {level: stage.take(Emotion(name, level=level)) for level in _LEVELS}
    regions = face_regions(model)
    displacement = {
        name: {level: _displacement(model, take, neutral, regions) for level, take in levels.items()}
        for name, levels in takes.items()
    }
    names, why = model.manifest.expression_names, {}
    signs = {}
    if set(EXPECTED["happy"]) <= set(names):
        signs["the expression itself"] = {
            name: _changes(levels[3].expression, neutral.expression, names) for name, levels in takes.items()
        }
    else:
        why["signs of the expression"] = "the head has no ARKit names"
    if judge is None:
        why["signs by FaceLandmarker"] = "pass --judge-python and --face-landmarker"
    else:
        progress("FaceLandmarker")
        last = {name: levels[3].pictures for name, levels in takes.items()}
        signs["FaceLandmarker"] = _landmarker(*judge, {NEUTRAL: neutral.pictures, **last})
    why["fer"] = "no adapter for this classifier yet"
    progress("plane")
    return ControlReport(
        displacement,
        {name: _rises(levels) for name, levels in displacement.items()},
        signs,
        {name: lateness(levels[3].jaw[:, 0], neutral.jaw[:, 0]) for name, levels in takes.items()},
        _plane(stage),
        _recognised(takes, neutral),
        why,
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


def _displacement(model: Model, take: Take, neutral: Take, regions: Mapping[str, Any]) -> dict[str, float]:
    """Mean distance in mm of a region's vertices from where the neutral speech has them; the largest for static."""
    rows = range(0, len(take.jaw), 10)
    moved = np.stack([_vertices(model, take, row) - _vertices(model, neutral, row) for row in rows])
    distance = 1000 * np.linalg.norm(moved, axis=-1)
    found = {name: float(distance[:, chosen].mean()) for name, chosen in regions.items() if chosen.any()}
    if regions["static"].any():
        found["static"] = float(distance[:, regions["static"]].max())
    return found


def _vertices(model: Model, take: Take, row: int) -> NDArray[np.float32]:
    pose = np.zeros((5, 3), np.float32)
    pose[2] = take.jaw[row]
    return skin(model.scene.head, take.expression[row].astype(np.float32), pose, np.zeros(3, np.float32))


def _rises(levels: Mapping[int, Mapping[str, float]]) -> bool:
    moving = [region for region, value in levels[3].items() if region != "static" and value > 0.1]
    return all(levels[1][region] < levels[2][region] < levels[3][region] for region in moving)


def _changes(found: Floats, neutral: Floats, names: Sequence[str]) -> dict[str, float]:
    change = (found - neutral).mean(axis=0)
    return {name: float(value) for name, value in zip(names, change, strict=True)}


def _recognised(takes: Mapping[str, Mapping[int, Take]], neutral: Take) -> float:
    """Share of the second half's frames at level 3 that lie nearest to the first half's mean of their class.

    A control of the measure, not of the face: it has seen this avatar.
    """
    changes = {name: levels[3].expression - neutral.expression for name, levels in takes.items()}
    half = len(neutral.jaw) // 2
    spread = np.sqrt(np.mean([change[:half].var(axis=0) for change in changes.values()], axis=0)) + 0.02
    centres = np.stack([change[:half].mean(axis=0) / spread for change in changes.values()])
    hits = []
    for number, change in enumerate(changes.values()):
        far = np.linalg.norm(change[half:, None] / spread - centres, axis=-1)
        hits.append(far.argmin(axis=1) == number)
    return float(np.mean(hits))


def _plane(stage: Stage) -> dict[str, float]:
    """Correlation of asked with read places: read linearly off the mean expression, each left out in turn."""
    rng = np.random.default_rng(0)
    radius, angle = np.sqrt(rng.uniform(0, 1, _PLANE)), rng.uniform(0, 2 * np.pi, _PLANE)
    asked = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    shown = np.stack([stage.take(Emotion.at(float(v), float(a))).expression.mean(axis=0) for v, a in asked])
    shown = (shown - shown.mean(axis=0)) * 10
    read = np.zeros_like(asked)
    for row in range(_PLANE):
        rest = np.arange(_PLANE) != row
        x = np.column_stack([shown[rest], np.ones(_PLANE - 1)])
        weights = np.linalg.solve(x.T @ x + 0.3 * np.eye(x.shape[1]), x.T @ asked[rest])
        read[row] = np.append(shown[row], 1) @ weights
    valence, arousal = (float(np.corrcoef(asked[:, axis], read[:, axis])[0, 1]) for axis in (0, 1))
    return {"valence": valence, "arousal": arousal}


def _landmarker(python: Path, task: Path, pictures: Mapping[str, NDArray[np.uint8]]) -> dict[str, dict[str, float]]:
    """Change of every blendshape from neutral, of each class. Raises MetricError if the judge fails or sees no face."""
    worker = Path(__file__).with_name("landmarker_worker.py")
    with tempfile.TemporaryDirectory() as folder:
        given, taken = Path(folder) / "pictures.npz", Path(folder) / "blendshapes.json"
        arrays: dict[str, Any] = dict(pictures)
        np.savez(given, **arrays)
        try:
            command = [str(python), str(worker), str(task), str(given), str(taken)]
            subprocess.run(command, check=True, capture_output=True, timeout=600)
            found = json.loads(taken.read_text())
        except (OSError, subprocess.SubprocessError) as error:
            reason = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").strip()
            raise MetricError(f"{python} could not run FaceLandmarker: {reason.splitlines()[-1:]}") from error
    missing = [name for name, faces in found.items() if not faces]
    if missing:
        raise MetricError(f"FaceLandmarker found no face in the pictures of {missing[0]}: is a head in the picture?")
    means = {name: {k: np.mean([face[k] for face in faces]) for k in faces[0]} for name, faces in found.items()}
    return {
        name: {shape: float(value - means[NEUTRAL][shape]) for shape, value in shapes.items()}
        for name, shapes in means.items()
        if name != NEUTRAL
    }
