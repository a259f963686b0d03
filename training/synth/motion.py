"""What the head and the eyes do while somebody speaks, in the manner of an emotion. Angles in rad, lengths metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ..corpus import FRAME_RATE, Utterance
from .noise import Doubles, smoothstep

__all__ = ["HeadMotion", "head_motion", "held_manner"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HeadMotion:
    """T frames, 25 a second."""

    rotation: Floats
    """(T,3) of the root"""
    neck: Floats
    """(T,3)"""
    translation: Floats
    """(T,3)"""
    eyes: Floats
    """(T,6) left, right"""


@dataclass(frozen=True)
class _Manner:
    """How an emotion carries the head, at full intensity; multipliers are of a calm speaker's motion."""

    lean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """held pitch (down), yaw, roll"""
    sway: float = 1.0
    speed: float = 1.0
    nod: float = 1.0
    tremor: float = 0.0
    back: float = 0.0
    """metres away from the camera"""
    gaze: tuple[float, float] = (0.0, 0.0)
    """held pitch (down) and yaw of the eyes"""


_MANNERS = {
    "neutral": _Manner(),
    "angry": _Manner(lean=(0.07, 0.0, 0.0), sway=1.3, speed=1.4, nod=2.2, back=-0.010),
    "disgust": _Manner(lean=(-0.05, 0.09, 0.04), sway=0.9, nod=0.8, back=0.008, gaze=(0.05, -0.06)),
    "fear": _Manner(lean=(-0.03, -0.04, 0.0), sway=0.8, speed=1.7, nod=0.6, tremor=0.006, back=0.014),
    "happy": _Manner(lean=(-0.02, 0.0, 0.05), sway=1.5, speed=1.15, nod=1.7),
    "sad": _Manner(lean=(0.13, 0.0, 0.04), sway=0.5, speed=0.6, nod=0.4, gaze=(0.10, 0.0)),
    "surprise": _Manner(lean=(-0.08, 0.0, 0.0), sway=1.1, speed=1.2, nod=1.2, back=0.006, gaze=(-0.02, 0.0)),
    "contempt": _Manner(lean=(-0.09, 0.07, 0.07), sway=0.7, speed=0.8, nod=0.7, gaze=(0.07, -0.05)),
}
_SWAY = np.array([0.022, 0.045, 0.018])
_NOD = 0.030
_HOP = 640  # samples of a frame


def head_motion(utterance: Utterance, emotion: str, intensity: float, rng: np.random.Generator) -> HeadMotion:
    """Sway, nods on loud syllables, and a gaze that mostly holds the camera.

    Args:
        utterance: what is said; its length gives T.
        emotion: one of the eight.
        intensity: 0…1; scales what the emotion changes.
        rng: equal generators give equal motion but for the emotion's manner.
    """
    frames = len(utterance.samples) // _HOP
    manner, calm = _MANNERS[emotion], _MANNERS["neutral"]

    def at(name: str) -> float:
        return float((1 - intensity) * getattr(calm, name) + intensity * getattr(manner, name))

    turns = _wander(frames, 1.7 / at("speed"), 3, rng) * _SWAY * at("sway")
    turns += intensity * np.array(manner.lean) * (1 + 0.15 * _wander(frames, 2.5, 1, rng))
    loud = _loudness(utterance, frames)
    turns[:, 0] += _NOD * at("nod") * (gaussian_filter1d(loud, 2.2) - gaussian_filter1d(loud, 14.0))
    turns += at("tremor") * _wander(frames, 0.07, 3, rng)
    shift = _wander(frames, 2.2, 3, rng) * np.array([0.0016, 0.0010, 0.0020]) * at("sway")
    shift[:, 2] -= intensity * manner.back
    gaze = _gaze(frames, turns, rng) + intensity * np.array(manner.gaze)
    eyes = np.concatenate([gaze, np.zeros((frames, 1))], axis=1)
    return HeadMotion(
        rotation=(0.30 * turns).astype(np.float32),
        neck=(0.70 * turns).astype(np.float32),
        translation=shift.astype(np.float32),
        eyes=np.concatenate([eyes, eyes], axis=1).astype(np.float32),
    )


def _wander(frames: int, seconds: float, channels: int, rng: np.random.Generator) -> Doubles:
    """(T,channels) smooth noise of about unit variance that changes in about `seconds`."""
    sigma = max(0.35 * seconds * FRAME_RATE, 0.4)
    margin = int(4 * sigma) + 1
    # The longest margin is drawn whatever the speed, so that manners differ in speed alone.
    noise = rng.standard_normal((frames + 2 * 160, channels))[160 - min(margin, 160) : 160 + frames + min(margin, 160)]
    smooth = gaussian_filter1d(noise, sigma, axis=0, mode="reflect")[min(margin, 160) :][:frames]
    return np.asarray(smooth * np.sqrt(2 * sigma * np.sqrt(np.pi)))


def _loudness(utterance: Utterance, frames: int) -> Doubles:
    """(T,) 0 in silence … 1 at the loudest."""
    power = (utterance.samples[: frames * _HOP].astype(np.float64).reshape(frames, _HOP) ** 2).mean(axis=1)
    level = 10 * np.log10(power + 1e-8)
    return smoothstep(level, float(level.max()) - 30, float(level.max()))


def _gaze(frames: int, turns: Doubles, rng: np.random.Generator) -> Doubles:
    """(T,2) pitch and yaw: eyes stay on the camera while the head moves, with small saccades and rare glances."""
    gaze = np.zeros((frames, 2))
    position = 0
    while position < frames:
        aside = rng.random() < 0.15
        length = int((rng.uniform(0.3, 0.8) if aside else rng.uniform(0.4, 2.0)) * FRAME_RATE)
        gaze[position : position + length] = rng.normal(0, (0.05, 0.13) if aside else (0.012, 0.020))
        position += length
    return np.asarray(gaze - 0.8 * turns[:, :2])


def held_manner(emotion: str, intensity: float) -> tuple[Doubles, Doubles]:
    """What an emotion holds: the head's pitch, yaw, roll (3,) and the eyes' pitch, yaw (2,)."""
    manner = _MANNERS[emotion]
    return intensity * np.array(manner.lean), intensity * np.array(manner.gaze)
