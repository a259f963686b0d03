"""The stages of a frame one by one, on one thread, so that each one's processor time can be taken."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...plugins import Renderer
from ..appearance import Wearer
from ..drawing import Painter
from ..emotion import NEUTRAL
from ..graphs import Float
from ..manifest import FRAME_SAMPLES, SAMPLE_RATE
from ..model import Model
from ..motion import Motion
from ..speech import Heard

KERNELS = ("skin", "mouth", "project", "sort", "blend")
APPEARANCE = "appearance"
STAGES = ("audio", "motion", APPEARANCE, "draw")


def babble(seconds: float, seed: int = 0) -> Float:
    """Something like speech at 16 kHz, float32 −1…1: pitch, syllables, pauses. Deterministic."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = np.cumsum(2 * np.pi * (120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / SAMPLE_RATE)
    voice = sum(np.sin(k * phase) / k for k in range(1, 16))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t) + 0.5 * np.sin(2 * np.pi * 0.4 * t), 0, None)
    return np.asarray(0.1 * voice * syllables + 0.002 * rng.standard_normal(len(t)), np.float32)


@dataclass(frozen=True)
class FrameCost:
    """Processor milliseconds of one frame's stages, and of the kernels that draw is made of."""

    audio: float
    motion: float
    appearance: float
    draw: float
    kernels: tuple[float, ...]


class Probe:
    """An avatar taken apart. It draws with one thread, so that the caller's processor time is the whole cost."""

    def __init__(
        self,
        model: Model,
        size: tuple[int, int] | None = None,
        extra: Callable[[str], None] | None = None,
        isa: str = "auto",
    ) -> None:
        """size: width and height of the picture, default those of the bundle. extra: called at the end of each stage
        with its name; what it costs counts as the stage's. isa: instruction set of the kernels."""
        manifest = model.manifest
        width, height = size or (manifest.width, manifest.height)
        self._model, self._background = model, manifest.background
        self._renderer = Renderer(model.scene, threads=1, isa=isa)
        wearer = None if model.appearance is None else Wearer(model.appearance, self._renderer)
        self._painter = Painter(self._renderer, manifest, model.cues, (width, height), wearer)
        classes = manifest.motion.emotions
        share = 1 / max(len(classes) - 1, 1)
        self._felt = np.array([0 if name == NEUTRAL else share for name in classes], np.float32)
        self._network = model.motion_network()
        self._speech = None if manifest.audio is None else model.speech(self._network)
        self._sound = babble(8).reshape(-1, FRAME_SAMPLES)
        self._window = np.zeros(self._network.window_shape, np.float32)
        self._out = np.empty((height, width, 3), np.uint8)
        self._heard: deque[Heard] = deque(maxlen=16)
        self._motion = self._network.rest
        self._still: Motion | None = None
        self._encoded = self._drawn = 0
        self._extra = extra or (lambda stage: None)

    def frame(self) -> FrameCost:
        """Makes the next frame; what its stages cost.

        `audio` is 0 for a bundle without encoder, `appearance` for one without an emotional residual.
        """
        start = _now()
        self.encode()
        encoded = _now()
        self.move()
        moved = _now()
        dressed = self.dress()
        begun = _now()
        self.draw()
        return FrameCost(encoded - start, moved - encoded, dressed, _now() - begun, self.kernels)

    def encode(self) -> None:
        """The audio stage of the next frame. Up to 16 may wait to be moved; the oldest comes first."""
        if self._speech is not None:
            self._heard.append(self._speech.encode(self._sound[self._encoded % len(self._sound)]))
        self._encoded += 1
        self._extra("audio")

    def move(self) -> None:
        """The motion stage of the oldest frame that was encoded and not moved."""
        aus = self._model.cues.cues.aus[self._row]
        if self._speech is None:
            self._motion = self._network.recorded(self._window, aus)
        else:
            self._speech.take(self._heard.popleft())
            self._motion = self._speech.motion(aus)
        self._extra("motion")

    def dress(self) -> float:
        """Puts the emotional residual on, for a mixture of all emotions; processor milliseconds, 0 where none is."""
        if not self._painter.wears:
            return 0.0
        start = _now()
        self._painter.wear(self._motion, self._felt)
        return _now() - start

    def draw(self) -> None:
        """The picture of the motion made last, with the next cue."""
        self._painter.draw(self._row, self._motion, None, self._background, self._out)
        self._drawn += 1
        self._extra("draw")

    def redraw(self) -> None:
        """Draws the newest picture once more."""
        if self._still is None:
            self._still = self._motion.copy()
        self._painter.draw(self._model.cues.at(self._drawn - 1), self._still, None, self._background, self._out)
        self._extra("draw")

    @property
    def kernels(self) -> tuple[float, ...]:
        """Processor milliseconds of the newest picture's kernels, in the order of `KERNELS`."""
        return self._painter.kernel_cpu_times

    @property
    def _row(self) -> int:
        return self._model.cues.at(self._drawn)

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The picture [height, width, 3] of the newest frame; overwritten by the next."""
        return self._out


def _now() -> float:
    """Milliseconds of processor time of this thread."""
    return time.thread_time_ns() * 1e-6
