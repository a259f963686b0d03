"""Plays the recorded track forwards and backwards in turn, so that no seam ever jumps."""

from __future__ import annotations

import numpy as np

from .graphs import Float
from .tensors import Cues

ROTATION, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(5)


class CuePlayer:
    """The cue of every frame number, to both sides of 0 without end. Keeps no position: the frame number says all."""

    def __init__(self, cues: Cues) -> None:
        self.cues = cues
        self.poses = np.zeros((len(cues), 5, 3), np.float32)
        self.poses[:, ROTATION], self.poses[:, NECK] = cues.rotation, cues.neck
        self.poses[:, LEFT_EYE], self.poses[:, RIGHT_EYE] = cues.eyes[:, :3], cues.eyes[:, 3:]

    def at(self, frame: int) -> int:
        """Row of the cue for a frame: 0, 1, …, T-1, T-2, …, 1, 0, 1, …"""
        last = len(self.cues) - 1
        if not last:
            return 0
        row = frame % (2 * last)
        return row if row <= last else 2 * last - row

    def pose(self, row: int, jaw: Float, out: Float) -> None:
        """Axis-angle of the five joints [5, 3] in radians, written to `out`."""
        out[...] = self.poses[row]
        out[JAW] = jaw
