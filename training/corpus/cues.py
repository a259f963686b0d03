"""The cue track of the demo avatar: a calm listener-facing head that blinks, sways and glances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...runtime.manifest import ACTION_UNITS, EMOTIONS
from .face import action_units
from .visemes import FRAME_RATE

Cues = dict[str, npt.NDArray[np.float32]]

# Cycles in the whole track, and height: rad for angles, metres for the translation. Whole cycles and a mirrored
# replay both close without a jump.
_ROTATION = (((2, 0.030), (5, 0.016)), ((3, 0.045), (7, 0.014)), ((1, 0.014), (4, 0.010)))
_NECK = (((1, 0.012), (6, 0.006)), ((2, 0.016), (5, 0.006)), ((3, 0.008),))
_TRANSLATION = (((2, 0.0012), (5, 0.0006)), ((3, 0.0008), (11, 0.0003)), ((1, 0.0015),))


def demo_cues(seconds: float = 24.0, seed: int = 7) -> Cues:
    """Everything of cues.safetensors but the camera: aus, emotion, rotation, neck, eyes and translation."""
    rng = np.random.default_rng(seed)
    frames = round(seconds * FRAME_RATE)
    rotation, neck = _sway(frames, _ROTATION, rng), _sway(frames, _NECK, rng)
    emotion = np.zeros((frames, len(EMOTIONS)), np.float32)
    emotion[:, EMOTIONS.index("neutral")] = 1
    aus = np.clip(action_units(frames, rng), 0, 5)
    aus[:, ACTION_UNITS.index("AU04")] *= 0.5
    return {
        "aus": aus.astype(np.float32),
        "emotion": emotion,
        "rotation": rotation,
        "neck": neck,
        "eyes": _eyes(frames, rotation + neck, rng),
        "translation": _sway(frames, _TRANSLATION, rng),
    }


def _sway(
    frames: int, axes: tuple[tuple[tuple[int, float], ...], ...], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    phase = 2 * np.pi * np.arange(frames) / frames
    tracks = [
        sum(height * np.sin(cycles * phase + rng.uniform(0, 2 * np.pi)) for cycles, height in waves) for waves in axes
    ]
    return np.stack(tracks, axis=1).astype(np.float32)


def _eyes(frames: int, head: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """`[T,6]`: both eyes hold the viewer while the head moves, with small saccades and a rare glance aside."""
    gaze = np.zeros((frames, 2), np.float32)
    position = 0
    while position < frames:
        length = int(rng.uniform(0.5, 2.2) * FRAME_RATE)
        aside = rng.random() < 0.12
        spread = (0.05, 0.14) if aside else (0.012, 0.02)
        length = int(rng.uniform(0.3, 0.7) * FRAME_RATE) if aside else length
        gaze[position : position + length] = rng.normal(0, spread).astype(np.float32)
        position += length
    gaze -= 0.8 * head[:, :2]
    one = np.concatenate([gaze, np.zeros((frames, 1), np.float32)], axis=1)
    return np.concatenate([one, one], axis=1)
