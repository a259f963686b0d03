"""What one step returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """All that the motion network says about this frame."""

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


def split_alpha(picture: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The colours and the alpha of a picture of 3 or 4 channels, as views."""
    return (picture, None) if picture.shape[2] == 3 else (picture[:, :, :3], picture[:, :, 3])
