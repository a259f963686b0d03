"""The motion side of one clip: what is heard, what was tracked, and what the motion network says of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...runtime.errors import CheckpointError
from ..grmn import GRMN, Motion
from ..losses import Tracked
from ..scenes import Scene, Tokens
from .errors import TrainingError

__all__ = ["Track"]

Ints = NDArray[np.int64]


class Track:
    """One clip of T frames on one device.

    Args:
        scene: with action units.
        tokens: as the checkpoint's encoder hears the clip.
        motion: the network whose windows and expressions are meant.
        rows: T, the frames that are used from the beginning.
        rest_jaw: (3,) rad, the tracked jaw of a shut mouth, from which the network's jaw counts.

    Raises:
        TrainingError: the scene has no action units.
        CheckpointError: its identity feature has another size than the network's, or it has fewer expressions.
    """

    def __init__(
        self, scene: Scene, tokens: Tokens, motion: GRMN, rows: int, rest_jaw: Tensor, device: torch.device
    ) -> None:
        if scene.aus is None:
            raise TrainingError(
                f"{scene.folder}: has no action units, which the motion network reads; "
                f"`emotag-train check {scene.folder}` says how to make au_features.csv"
            )
        self.name = str(scene.folder)
        self.rows = rows
        self._tokens, self._config, self._device = tokens, motion.config, device
        self._remembered: Tensor | None = None
        expression = scene.head.expression[:rows, : motion.config.expression]
        if expression.shape[1] < motion.config.expression:
            raise CheckpointError(
                f"{scene.folder}: was tracked with {expression.shape[1]} expressions, the network moves "
                f"{motion.config.expression}: use the head that it was trained on"
            )
        self.expression = self._tensor(expression)
        self.jaw = self._tensor(scene.head.jaw_pose[:rows]) - rest_jaw.to(device)
        self.aus = self._tensor(scene.aus[:rows])
        self.emotion = None if scene.emotion is None else self._tensor(scene.emotion[:rows])
        self.identity = None if scene.identity is None else self._tensor(scene.identity)
        if self.identity is not None and self.identity.numel() != motion.config.identity:
            raise CheckpointError(
                f"{scene.folder}: identity_feature.npy has {self.identity.numel()} numbers, the network reads "
                f"{motion.config.identity}: use the identity encoder that it was trained with"
            )

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.array(array, dtype=np.float32)).to(self._device)

    def tracked(self, rows: slice) -> Tracked:
        """What the motion of these rows should be."""
        return Tracked(self.expression[rows], self.jaw[rows], None if self.emotion is None else self.emotion[rows])

    @torch.no_grad()
    def remember(self, motion: GRMN) -> None:
        """Encode all windows once: right as long as nothing before the decoder trains."""
        c = self._config
        every = np.arange(-c.smooth_past, self.rows + c.smooth_future)
        parts = [self._encode(motion, every[first : first + 256]) for first in range(0, len(every), 256)]
        self._remembered = torch.cat(parts)

    def predict(self, motion: GRMN, rows: slice, told: bool = False) -> Motion:
        """The motion of rows `start … stop - 1`, leading axis their number.

        `told`: whether the network is told the clip's emotion, as a caller steers it; the latter must be known.
        """
        c = self._config
        start, stop = rows.start, rows.stop
        if self._remembered is not None:
            encodings = self._remembered[start : stop + c.smoothing - 1]
        else:
            encodings = self._encode(motion, np.arange(start - c.smooth_past, stop + c.smooth_future))
        around = encodings.unfold(0, c.smoothing, 1).transpose(-1, -2)
        emotion = weight = None
        if told and self.emotion is not None:
            spare = len(c.conditions) - self.emotion.shape[1]
            emotion = torch.nn.functional.pad(self.emotion[rows], (0, spare))
            weight = torch.ones_like(emotion[:, :1])
        return motion.frames(around, self.aus[rows], self.identity, emotion, weight)

    def _encode(self, motion: GRMN, rows: Ints) -> Tensor:
        """Encodings [N, D] of rows; those outside the clip are of all-zero windows, as `GRMN.smooth` has them."""
        windows = self._tensor(self._tokens.windows(rows, self._config.window_past, self._config.window_future))
        outside = torch.from_numpy((rows < 0) | (rows >= self.rows)).to(self._device)
        encodings: Tensor = motion.encode(windows.masked_fill(outside[:, None, None], 0.0))
        return encodings
