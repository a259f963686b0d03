"""One frame of one avatar after hearing and before drawing: where everything that a caller controls comes together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plugins import Camera
from .cues import JAW, LEFT_EYE, RIGHT_EYE, CuePlayer, Stance
from .feeling import Feeling, FrameEmotion
from .graphs import Float
from .head import Blend, Gaze, Poser
from .idle import Resting
from .model import Model
from .motion import Motion, MotionNetwork
from .shutter import SHUT_FRAMES
from .speech import Closing


@dataclass(frozen=True, eq=False)
class Scene:
    """What is known of a frame before its motion.

    row: of the cues. stance: how the head is held; the jaw is still to come. aus: [6] for the motion network.
    speaking: whether somebody speaks. neutral: there is no sound for it yet. untouched: its motion will be drawn as the
    network says it.
    """

    row: int
    stance: Stance
    aus: Float
    speaking: bool
    neutral: bool
    untouched: bool


class Acting:
    """The state of an avatar's controls from frame to frame."""

    def __init__(self, model: Model, network: MotionNetwork) -> None:
        head = model.scene.head
        self._cues: CuePlayer = model.cues
        self._network = network
        self._spare: Callable[[], MotionNetwork] = model.motion_network
        self._quiet: MotionNetwork | None = None
        self.feeling = Feeling(model.manifest.motion, network.steering)
        self.poser = Poser()
        self.gaze = Gaze(head.joints[[LEFT_EYE, RIGHT_EYE]])
        self.blend = Blend(model.manifest.expression_names, head.expressions)
        self.resting = Resting(model.cues)
        self._shutter = model.shutter
        eyes = head.joints[[LEFT_EYE, RIGHT_EYE]].astype(np.float64)
        self.pivot: NDArray[np.float64] = eyes.mean(axis=0)
        """[3] the middle of the head at rest, an eye's distance behind the eyes: a camera goes around it. Metres."""
        self.pivot[2] -= np.linalg.norm(eyes[1] - eyes[0])
        self._closing = Closing(network.rest)
        self.reset()

    @property
    def _eased(self) -> tuple[Any, ...]:
        return self.poser.eased, self.blend.eased

    def reset(self) -> None:
        """The next frame is the first: controls are where they want to be at once."""
        self._fresh, self._interrupted = True, False
        self._shut = 1.0
        self._said = self._network.rest.copy()
        self._closing.cancel()
        self.feeling.reset()
        self.gaze.reset()
        self.resting.reset()

    def interrupt(self) -> None:
        """From the mouth that was shown last to a shut one, in 120 ms."""
        self._closing.begin(self._said)
        self._interrupted, self._shut = True, 1.0

    def prepare(self, index: int, speaking: bool, neutral: bool) -> Scene:
        """The frame `index`, before its motion. Once for each frame: transitions and idle motion count along."""
        if index >= 0:
            self.resting.advance(not speaking)
        place = self.resting.place(index)
        aus = self._begin(index)
        stance = self._cues.stance(place, index)
        self.resting.apply(index, stance, aus)
        self.poser.apply(stance)
        if neutral:
            self._shut = 1.0
        elif speaking or (self.resting.settings is None and not self._closing.active):
            self._shut = 0.0
        else:
            self._shut = min(self._shut + 1 / SHUT_FRAMES, 1.0)
        untouched = not (neutral or self._shut or self._closing.active or self.blend.active)
        return Scene(self._cues.at(math.floor(place)), stance, aus, speaking, neutral, untouched)

    def finish(self, scene: Scene, said: Motion) -> Motion:
        """The motion to draw, in arrays of its own. said: by the network, the rest pose where there is no sound yet."""
        if scene.neutral and self._interrupted:
            said = self._listen(scene.aus)
        motion = said.copy()
        if not scene.neutral or self._interrupted:
            self._shutter.shut(motion.expression, motion.jaw, self._shut)
        self._closing.apply(motion)
        return self._add(scene, motion)

    def recall(self, row: int) -> Scene:
        """The frame of a row of the recorded clip, before its motion."""
        aus = self._begin(row)
        stance = self._cues.stance(row, row)
        self.poser.apply(stance)
        return Scene(row, stance, aus, True, False, False)

    def replay(self, scene: Scene, said: Motion) -> Motion:
        """As `finish`, for the recorded clip, whose mouth is what it is."""
        return self._add(scene, said.copy())

    def report(self, scene: Scene, motion: Motion) -> FrameEmotion:
        """The emotion that a finished frame was made with."""
        return self.feeling.report(motion, scene.neutral and not self._interrupted)

    def _add(self, scene: Scene, motion: Motion) -> Motion:
        self._said = motion
        if self.blend.active:
            motion = motion.showing(self.blend.added(motion.expression))
        scene.stance.joints[JAW] = motion.jaw
        return motion

    def look(self, stance: Stance, camera: Camera) -> None:
        """Turns the eyes, once pose and camera are known."""
        self.gaze.apply(stance, camera)

    def _begin(self, index: int) -> Float:
        """Eases what was asked for; the action units [6] of the frame."""
        if self._fresh:
            for eased in self._eased:
                eased.snap()
            self._fresh = False
        self.feeling.advance(index)
        return self.feeling.units(self._cues.cues.aus[self._cues.at(index)])

    def _listen(self, aus: Float) -> Motion:
        """What the network says to nothing, with brows, lids and feeling as they are."""
        if self._quiet is None:
            self._quiet = self._spare()
        wished, steered = self._network.steering, self._quiet.steering
        if wished is not None and steered is not None:
            for source, to in zip(wished, steered, strict=True):
                to[:] = source
        return self._quiet.recorded(None, aus)
