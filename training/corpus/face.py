"""Whole faces from speech: expression and jaw tracks, with the action units and emotion that explain them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.manifest import ACTION_UNITS
from .acting import Face, act, column, upper_face
from .emotions import probabilities
from .speech import Utterance
from .visemes import CHANNELS, FRAME_RATE, expression_names_of, lip_tracks

Track = npt.NDArray[np.float32]

_BLINK = (0.55, 1.0, 0.75, 0.35, 0.1)  # of AU45's 5, one number a frame: lids fall faster than they rise


@dataclass(frozen=True)
class Performance:
    """A spoken utterance as a face, 25 frames a second.

    jaw: `[T,3]` axis-angle, rad; x opens. expression: `[T,E]` in the order of the names given. aus: `[T,6]`, 0…5.
    emotion: `[T,7]` probabilities. closure: `[T]`, 1 where P, B or M shut the lips.
    """

    jaw: Track
    expression: Track
    aus: Track
    emotion: Track
    closure: Track


def perform(
    utterance: Utterance,
    names: Sequence[str],
    rng: np.random.Generator,
    emotion: str = "neutral",
    intensity: float = 0.0,
) -> Performance:
    """Tracks for `utterance`, whose length is taken as whole frames of 640 samples.

    `names` are the head's expression names; `intensity` 0…1 scales the emotion.

    Raises:
        CheckpointError: the head lacks an expression that speech or emotion needs.
    """
    frames = len(utterance.samples) // 640
    strength = intensity * _swell(frames, rng)
    lips = lip_tracks(utterance.segments, frames, utterance.samples)
    aus = np.clip(action_units(frames, rng), 0, 5)
    expression = np.zeros((frames, len(names)), np.float32)
    for channel in CHANNELS[1:]:
        for name in expression_names_of(channel):
            expression[:, column(names, name)] += lips.lips[channel]
    for name, track in upper_face(aus).items():
        expression[:, column(names, name)] += track
    jaw = np.zeros((frames, 3), np.float32)
    jaw[:, 0] = lips.jaw
    acted = act(Face(jaw, np.clip(expression, 0, 1), aus), names, emotion, strength)
    return Performance(acted.jaw, acted.expression, acted.aus, probabilities(emotion, strength), lips.closure)


def action_units(frames: int, rng: np.random.Generator) -> Track:
    """`[T,6]` of a calm speaker: blinks every 2 to 6 s, slow brows, now and then a squint or a flash of the brows."""
    aus = np.zeros((frames, len(ACTION_UNITS)), np.float32)
    for unit, height in (("AU01", 0.9), ("AU04", 0.6), ("AU05", 0.5), ("AU06", 0.5), ("AU07", 0.6)):
        aus[:, ACTION_UNITS.index(unit)] = height * np.clip(_wander(frames, 1.6, rng), 0, None)
    for unit, per_second, peak in (("AU01", 0.18, 2.2), ("AU04", 0.08, 1.8), ("AU07", 0.06, 2.0), ("AU06", 0.05, 1.6)):
        for _ in range(rng.poisson(per_second * frames / FRAME_RATE)):
            _bump(aus[:, ACTION_UNITS.index(unit)], rng, peak * float(rng.uniform(0.5, 1.0)))
    blink = aus[:, ACTION_UNITS.index("AU45")]
    position = float(rng.uniform(0, 3)) * FRAME_RATE
    while position < frames:
        start = int(position)
        shape = 5 * np.asarray(_BLINK, np.float32)[: frames - start]
        blink[start : start + len(shape)] = np.maximum(blink[start : start + len(shape)], shape)
        position += FRAME_RATE * (0.25 if rng.random() < 0.1 else float(rng.uniform(2.0, 6.0)))
    return aus


def _wander(frames: int, seconds: float, rng: np.random.Generator) -> Track:
    """Smooth noise of unit variance that changes in about `seconds`."""
    width = max(int(seconds * FRAME_RATE), 1)
    noise = rng.standard_normal(frames + 2 * width)
    kernel = np.hanning(2 * width + 3)[1:-1]
    kernel /= np.sqrt((kernel**2).sum())
    track: Track = np.convolve(noise, kernel, mode="valid")[:frames].astype(np.float32)
    return track


def _swell(frames: int, rng: np.random.Generator) -> Track:
    """An intensity that breathes a little around one."""
    swell: Track = np.clip(1 + 0.12 * _wander(frames, 1.0, rng), 0.7, 1.0).astype(np.float32)
    return swell


def _bump(track: Track, rng: np.random.Generator, height: float) -> None:
    """Add a raised cosine of 0.3 to 0.8 s somewhere."""
    length = int(rng.uniform(0.3, 0.8) * FRAME_RATE)
    shape = height * np.hanning(length + 2)[1:-1].astype(np.float32)
    start = int(rng.integers(-length // 2, max(len(track) - length // 2, 1)))
    low, high = max(start, 0), min(start + length, len(track))
    if high > low:
        track[low:high] += shape[low - start : high - start]
