"""What one step returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends import DeviceArray
from .feeling import FrameEmotion
from .graphs import Float
from .manifest import FRAME_SAMPLES
from .motion import Motion


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture with the sound that belongs to it.

    Every array is the caller's own and never written again, except `rgb` and `alpha` of a frame that was drawn
    into the caller's `out`.
    """

    index: int
    """Number of the frame since the start or the last reset; negative before any sound has its picture."""
    rgb: NDArray[np.uint8]
    """[height, width, 3]. On a transparent background: straight, not premultiplied by alpha."""
    alpha: NDArray[np.uint8] | None
    """[height, width] on a transparent background, else None."""
    audio: NDArray[np.float32]
    """[640] at 16 kHz: the sound to play while `rgb` is shown."""
    motion: Motion
    """The motion that was drawn: what the network says, with the mouth shut in silence and `Avatar.blend` added."""
    emotion: FrameEmotion
    """The emotion that it was made with."""
    pose: Float
    """[5, 3] axis-angle in radians of root, neck, jaw, left and right eye, as drawn."""
    translation: Float
    """[3] of the head, metres."""
    speaking: bool
    """Whether there is speech in this frame's sound, or right after it; the head idles where there is none."""
    end_of_speech: bool = False
    """Whether it is the last frame of an utterance that `flush` or `render` ended."""

    device_rgb: DeviceArray | None = None
    """The same picture where a GPU drew it, [height, width, 3] or 4 with alpha; None where the CPU did. It is read
    through `__cuda_array_interface__` or DLPack without a copy, and overwritten by the avatar's next frame."""

    @property
    def sample(self) -> int:
        """Number of the first of `audio`'s samples, at 16 kHz, on the clock of `index`."""
        return self.index * FRAME_SAMPLES

    @property
    def expression(self) -> NDArray[np.float32]:
        """[E] expression coefficients, named by `Avatar.expression_names`."""
        return self.motion.expression

    @property
    def jaw(self) -> NDArray[np.float32]:
        """[3] jaw rotation, axis-angle in radians."""
        return self.motion.jaw

    @property
    def gate(self) -> float:
        """Share of the emotional residual, 0…1."""
        return float(self.motion.gate[0])

    @property
    def emotion_logits(self) -> NDArray[np.float32]:
        """[7] angry, disgust, fear, happy, sad, surprise, neutral."""
        return self.motion.emotion_logits


class DeviceOnlyFrame(Frame):
    """A frame that was drawn into the caller's GPU buffer: `rgb` and `alpha` are copied to the host if asked for."""

    def __init__(self, fields: Mapping[str, Any], load: Callable[[], NDArray[np.uint8]]) -> None:
        """fields: of a `Frame` but rgb and alpha. load: the picture on the host; raises ControlError once a later
        frame has overwritten it."""
        for name, value in {**fields, "_load": load}.items():
            object.__setattr__(self, name, value)

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """As `Frame.rgb`. Raises ControlError after the avatar's next frame."""
        return split_alpha(self._picture())[0]

    @property
    def alpha(self) -> NDArray[np.uint8] | None:
        """As `Frame.alpha`. Raises ControlError after the avatar's next frame."""
        return split_alpha(self._picture())[1]

    def _picture(self) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] | None = self.__dict__.get("_copied")
        if picture is None:
            picture = self.__dict__["_load"]()
            object.__setattr__(self, "_copied", picture)
        return picture


def split_alpha(picture: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The colours and the alpha of a picture of 3 or 4 channels, as views."""
    return (picture, None) if picture.shape[2] == 3 else (picture[:, :, :3], picture[:, :, 3])
