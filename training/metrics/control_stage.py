"""The same speech again and again, once with each emotion that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...plugins import Camera, skin
from ...runtime import Emotion, Model
from ...runtime.acting import Acting
from ...runtime.cues import LEFT_EYE, RIGHT_EYE
from ...runtime.manifest import SAMPLE_RATE
from ...runtime.sound import Sound
from .errors import MetricError

__all__ = ["SHORTEST", "Stage", "Take", "still_vertices"]

Floats = NDArray[np.float64]

SHORTEST = 80  # frames of speech that a measurement needs
_SIDE, _NEAR = 512, 1.7  # pixels of a picture that is judged, and how much nearer it is than the recorded camera
_WARM = 5  # frames before transitions and smoothing have settled


@dataclass(frozen=True, eq=False)
class Take:
    """One rendering of the speech: expression [T, E], jaw [T, 3], pictures [N, H, W, 3]."""

    expression: Floats
    jaw: Floats
    pictures: NDArray[np.uint8]


class Stage:
    """Encodes the sound once, and draws only the frames that are looked at."""

    def __init__(self, model: Model, speech: Path, frames: int) -> None:
        """frames: of the speech at most. Raises AudioError, and MetricError for speech that is too short."""
        self._network = model.motion_network()
        self._speech = model.speech(self._network)
        self._acting = Acting(model, self._network)
        self._acting.resting.settings = None
        self._delay = model.manifest.lookahead_frames
        sound = self._speech.listen(Sound.open(speech, SAMPLE_RATE, True))
        self._heard = list(islice(sound, frames + self._delay))
        if len(self._heard) < SHORTEST + self._delay:
            raise MetricError(f"{speech} is too short: control is measured on {SHORTEST / 25:g} s of speech or more")
        self._painter = model.painter(_SIDE, _SIDE)
        left, right = model.scene.head.joints[[LEFT_EYE, RIGHT_EYE]].astype(np.float64)
        self._face = (left + right) / 2
        self._face[1] -= 0.5 * np.linalg.norm(left - right)

    @property
    def frames(self) -> int:
        """Of the speech."""
        return len(self._heard) - self._delay

    def take(self, emotion: Emotion, shown: Sequence[int] = (), frames: int | None = None) -> Take:
        """The speech, or its first `frames`, with an emotion that holds from the start; pictures of the frames `shown`.

        Tracks begin once transitions have settled, at frame 5.
        """
        self._speech.reset()
        self._acting.feeling.wish = emotion
        self._acting.reset()
        expression, jaw, pictures = [], [], []
        for number, heard in enumerate(self._heard[: None if frames is None else frames + self._delay]):
            self._speech.take(heard)
            index = number - self._delay
            scene = self._acting.prepare(index, True, index < 0)
            motion = self._acting.finish(scene, self._speech.motion(scene.aus))
            if index >= _WARM:
                expression.append(motion.expression)
                jaw.append(motion.jaw)
            if index in shown:
                self._painter.wear(motion, self._acting.report(scene, motion).probabilities)
                camera, white = self._portrait(scene.row), (1.0, 1.0, 1.0)
                pictures.append(self._painter.draw(scene.row, motion, camera, white, None, scene.stance))
        return Take(np.array(expression, np.float64), np.array(jaw, np.float64), np.array(pictures, np.uint8))

    def _portrait(self, row: int) -> Camera:
        """The recorded camera, so near that the face fills the picture: judges are trained on faces cut out so."""
        camera = self._painter.cue_camera(row)
        x, y, z = camera.view[:3, :3] @ self._face + camera.view[:3, 3]
        fx, fy, middle = _NEAR * camera.fx, _NEAR * camera.fy, _SIDE / 2
        return replace(camera, fx=fx, fy=fy, cx=middle - fx * x / z, cy=middle - fy * y / z)


def still_vertices(model: Model, take: Take, rows: Sequence[int]) -> Floats:
    """Vertices [R, V, 3] in metres of some rows of a take, of a head that looks straight ahead."""
    pose, moved = np.zeros((5, 3), np.float32), []
    for row in rows:
        pose[2] = take.jaw[row]
        moved.append(skin(model.scene.head, take.expression[row].astype(np.float32), pose, np.zeros(3, np.float32)))
    return np.array(moved, np.float64)
