"""Whole faces from speech: expression and jaw tracks, with the action units and emotion that explain them.

Upper face, a = AU / 5 clipped to 0…1, both sides alike:

    browInnerUp = 0.9·a01     browOuterUp = 0.35·a01     browDown = 0.9·a04      eyeWide = 0.8·a05
    cheekSquint = 0.9·a06     eyeSquint = 0.8·a07        eyeBlink = a45
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.errors import CheckpointError
from ...runtime.manifest import ACTION_UNITS
from .emotions import LOOKS, probabilities
from .speech import Utterance
from .visemes import CHANNELS, FRAME_RATE, expression_names_of, lip_tracks

Track = npt.NDArray[np.float32]

UPPER_FACE = {
    "browInnerUp": ("AU01", 0.9),
    **{f"browOuterUp{side}": ("AU01", 0.35) for side in ("Left", "Right")},
    **{f"browDown{side}": ("AU04", 0.9) for side in ("Left", "Right")},
    **{f"eyeWide{side}": ("AU05", 0.8) for side in ("Left", "Right")},
    **{f"cheekSquint{side}": ("AU06", 0.9) for side in ("Left", "Right")},
    **{f"eyeSquint{side}": ("AU07", 0.8) for side in ("Left", "Right")},
    **{f"eyeBlink{side}": ("AU45", 1.0) for side in ("Left", "Right")},
}
"""Expression name to (action unit, weight at AU 5)."""

_BLINK = (0.55, 1.0, 0.75, 0.35, 0.1)  # of AU45's 5, one number a frame: lids fall faster than they rise
_MOUTH_OPENERS = ("mouthUpperUp", "mouthLowerDown", "mouthFunnel", "mouthStretch")


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
    look = LOOKS[emotion]
    lips = lip_tracks(utterance.segments, frames, utterance.samples, look.opening**intensity)
    tracks = {name: np.zeros(frames, np.float32) for name in names}
    for channel in CHANNELS[1:]:
        for name in expression_names_of(channel):
            _add(tracks, name, lips.lips[channel])
    for name, weight in look.mouth.items():
        # Emotion must not pull apart lips that a consonant holds shut.
        hold = 1 - 0.85 * lips.closure if name.startswith(_MOUTH_OPENERS) else 1 - 0.3 * lips.closure
        _add(tracks, name, weight * strength * hold)
    aus = action_units(frames, rng) + _emotional_units(emotion, strength)
    aus = np.clip(aus, 0, 5).astype(np.float32)
    for name, track in upper_face(aus).items():
        _add(tracks, name, track)
    expression = np.clip(np.stack([tracks[name] for name in names], axis=1), 0, 1).astype(np.float32)
    jaw = np.zeros((frames, 3), np.float32)
    jaw[:, 0] = lips.jaw
    return Performance(jaw, expression, aus, probabilities(emotion, strength), lips.closure)


def upper_face(aus: Track) -> dict[str, Track]:
    """Expression weights `[T]` by name from action units `[T,6]` (0…5), by the formula above."""
    share = np.clip(aus / np.float32(5), 0, 1).astype(np.float32)
    return {
        name: (share[:, ACTION_UNITS.index(unit)] * weight).astype(np.float32)
        for name, (unit, weight) in UPPER_FACE.items()
    }


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


def _emotional_units(emotion: str, strength: Track) -> Track:
    out = np.zeros((len(strength), len(ACTION_UNITS)), np.float32)
    for unit, height in LOOKS[emotion].aus.items():
        out[:, ACTION_UNITS.index(unit)] = height * strength
    return out


def _add(tracks: dict[str, Track], name: str, track: Track) -> None:
    if name not in tracks:
        raise CheckpointError(
            f"the head has no expression {name!r}, which the corpus needs: use a head with ARKit's names"
        )
    tracks[name] = tracks[name] + track


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
