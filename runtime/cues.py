"""Plays the recorded track forwards and backwards in turn, so that no seam ever jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graphs import Float
from .tensors import Cues

ROTATION, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(5)
_EYES = slice(3 * LEFT_EYE, 3 * RIGHT_EYE + 3)


@dataclass(frozen=True, eq=False)
class Stance:
    """How a head is held in one frame.

    joints: [5, 3] axis-angle in radians of root, neck, jaw, left and right eye. translation: [3] metres.
    view: [4, 4] of the recorded camera, where that lies between two cues; None is that of the frame's row.
    """

    joints: Float
    translation: Float
    view: NDArray[np.float64] | None = None


class CuePlayer:
    """The cue of every frame number, to both sides of 0 without end. Keeps no position: the frame number says all."""

    def __init__(self, cues: Cues) -> None:
        self.cues = cues
        self.poses = np.zeros((len(cues), 5, 3), np.float32)
        self.poses[:, ROTATION], self.poses[:, NECK] = cues.rotation, cues.neck
        self.poses[:, LEFT_EYE], self.poses[:, RIGHT_EYE] = cues.eyes[:, :3], cues.eyes[:, 3:]
        self._still_view = bool((cues.view == cues.view[:1]).all())
        self.one_camera = self._still_view and bool((cues.intrinsics == cues.intrinsics[:1]).all())
        """Whether every row has the same camera."""
        # What a stance is made of, in one row: [T, 18] joints and translation.
        self._stances = np.concatenate([self.poses.reshape(len(cues), 15), cues.translation], axis=1)

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

    def stance(self, place: float, face: int) -> Stance:
        """The head at `place` of the track, which may lie between two frames; the eyes are those of frame `face`.

        The jaw is at rest.
        """
        first = math.floor(place)
        row, share = self.at(first), place - first
        here, view = self._stances[row].copy(), None
        if share:
            following = self.at(first + 1)
            change = self._stances[following] - here
            change *= share
            here += change
            if not self._still_view:
                view = _between(self.cues.view[row], self.cues.view[following], share)
        here[_EYES] = self._stances[self.at(face), _EYES]
        return Stance(here[:15].reshape(5, 3), here[15:], view)


def _between(first: NDArray[np.float64], second: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """A camera between two near ones: the nearest rotation to the mixture of theirs."""
    mixed: NDArray[np.float64] = first + share * (second - first)
    left, _, right = np.linalg.svd(mixed[:3, :3])
    mixed[:3, :3] = left @ right
    return mixed
