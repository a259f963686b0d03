"""Lip and jaw tracks from timed phonemes: targets per class, blended by dominance, with closures guaranteed.

After Cohen and Massaro, "Modeling coarticulation in synthetic visual speech" (1993): every segment has a target
and a dominance that falls off exponentially with the distance in time, and the track is the dominance-weighted
mean of the targets. Jaw and lips have dominances of their own. On top, P, B and M shut the mouth, and F and V
bring the lower lip to the teeth, whatever their neighbours ask for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .phonemes import BILABIALS, DIPHTHONGS, LABIODENTALS, SILENCE, VOWELS, Segment
from .speech import SAMPLE_RATE, Samples

FRAME_RATE = 25
_FINE_RATE = 200

Track = npt.NDArray[np.float32]
_Fine = npt.NDArray[np.float64]

# The channels that speech moves; `left` and `right` of a pair move alike.
_PAIRED = ("mouthStretch", "mouthPress", "mouthLowerDown", "mouthUpperUp", "mouthSmile")
_SINGLE = ("mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper")
CHANNELS = ("jaw", *_PAIRED, *_SINGLE)
_OPENING = ("jaw", "mouthLowerDown", "mouthUpperUp", "mouthFunnel")


@dataclass(frozen=True)
class Viseme:
    """What a class does to the face.

    jaw: opening, rad. lips: expression weights by channel. jaw_dominance, lip_dominance: how strongly it insists.
    """

    jaw: float
    lips: dict[str, float] = field(default_factory=dict)
    jaw_dominance: float = 1.0
    lip_dominance: float = 1.0


def _viseme(jaw: float, jaw_dominance: float = 1.0, lip_dominance: float = 1.0, **lips: float) -> Viseme:
    return Viseme(jaw, {f"mouth{name}": value for name, value in lips.items()}, jaw_dominance, lip_dominance)


VISEMES = {
    SILENCE: _viseme(0.0, 1.6, 1.2, Press=0.10),
    "AA": _viseme(0.24, 1.2, LowerDown=0.15, UpperUp=0.06),
    "AE": _viseme(0.23, 1.2, LowerDown=0.22, UpperUp=0.12, Stretch=0.22, Smile=0.06),
    "AH": _viseme(0.16, 0.8, 0.6, LowerDown=0.12, UpperUp=0.04),
    "AO": _viseme(0.20, 1.1, LowerDown=0.05, Funnel=0.42, Pucker=0.12),
    "EH": _viseme(0.18, LowerDown=0.18, UpperUp=0.10, Stretch=0.22, Smile=0.05),
    "ER": _viseme(0.11, Funnel=0.35, Pucker=0.18, LowerDown=0.06),
    "IH": _viseme(0.11, 0.9, 0.8, LowerDown=0.16, UpperUp=0.06, Stretch=0.18, Smile=0.05),
    "IY": _viseme(0.07, LowerDown=0.18, UpperUp=0.10, Stretch=0.40, Smile=0.15),
    "UH": _viseme(0.10, 0.9, Funnel=0.32, Pucker=0.32),
    "UW": _viseme(0.045, 1.1, 1.6, Funnel=0.30, Pucker=0.72),
    "UE": _viseme(0.045, 1.1, 1.5, Funnel=0.32, Pucker=0.62),
    "OE": _viseme(0.12, 1.0, 1.2, Funnel=0.42, Pucker=0.42),
    "P": _viseme(0.0, 1.4, 1.0, Press=0.30, RollLower=0.10, RollUpper=0.08),
    "B": _viseme(0.0, 1.4, 1.0, Press=0.26, RollLower=0.08, RollUpper=0.06),
    "M": _viseme(0.0, 1.4, 1.0, Press=0.20, RollLower=0.08, RollUpper=0.06),
    "F": _viseme(0.03, 1.3, 1.3, RollLower=0.55, UpperUp=0.26),
    "V": _viseme(0.03, 1.2, 1.2, RollLower=0.48, UpperUp=0.22),
    "TH": _viseme(0.07, 0.9, 0.8, LowerDown=0.16, UpperUp=0.08),
    "DH": _viseme(0.07, 0.7, 0.5, LowerDown=0.14, UpperUp=0.06),
    "T": _viseme(0.05, 0.8, 0.4, LowerDown=0.10, Stretch=0.08),
    "D": _viseme(0.06, 0.7, 0.4, LowerDown=0.10, Stretch=0.08),
    "N": _viseme(0.06, 0.7, 0.4, LowerDown=0.10, Stretch=0.08),
    "S": _viseme(0.025, 1.3, 0.8, LowerDown=0.22, UpperUp=0.08, Stretch=0.24),
    "Z": _viseme(0.025, 1.2, 0.7, LowerDown=0.20, UpperUp=0.08, Stretch=0.22),
    "SH": _viseme(0.03, 1.2, 1.3, Funnel=0.58, Pucker=0.24, LowerDown=0.10),
    "ZH": _viseme(0.03, 1.1, 1.2, Funnel=0.54, Pucker=0.24, LowerDown=0.10),
    "CH": _viseme(0.03, 1.2, 1.2, Funnel=0.55, Pucker=0.22, LowerDown=0.10),
    "JH": _viseme(0.035, 1.1, 1.1, Funnel=0.50, Pucker=0.20, LowerDown=0.10),
    "L": _viseme(0.09, 0.6, 0.4, LowerDown=0.12, UpperUp=0.04),
    "R": _viseme(0.07, 0.8, 0.9, Funnel=0.36, Pucker=0.26),
    "DX": _viseme(0.09, 0.6, 0.3, LowerDown=0.10),
    "K": _viseme(0.10, 0.4, 0.3, LowerDown=0.08),
    "G": _viseme(0.10, 0.4, 0.3, LowerDown=0.08),
    "NG": _viseme(0.09, 0.5, 0.3, LowerDown=0.08),
    "X": _viseme(0.11, 0.4, 0.3, LowerDown=0.08),
    "HH": _viseme(0.12, 0.25, 0.15),
    "Y": _viseme(0.06, 0.8, 0.7, Stretch=0.28, LowerDown=0.14),
    "W": _viseme(0.025, 1.2, 1.7, Funnel=0.32, Pucker=0.76),
}

# Seconds in which a dominance falls to 1/e, before and after the segment's core.
_REACH_BEFORE, _REACH_AFTER = 0.042, 0.036
_GESTURE = 0.065  # s from open to shut
_SHORTEST_CLOSURE = 0.044  # s: a little over one frame, so that one frame centre always lies inside
_STOP_HOLD = 0.65  # of a stop; the rest is burst and aspiration
_SHORT_PAUSE = 0.10  # s: a shorter silence lets the mouth pass through
_REST = 0.12  # s by which the mouth starts to open before, and has shut after, speech


@dataclass(frozen=True)
class LipTracks:
    """Tracks at 25 frames a second; frame i is the middle of audio i/25…(i+1)/25 s.

    jaw: `[T]` opening, rad. lips: `[T]` weight of every other channel of `CHANNELS`. closure: `[T]`, 1 = shut.
    """

    jaw: Track
    lips: dict[str, Track]
    closure: Track


def lip_tracks(segments: list[Segment], frames: int, samples: Samples | None = None) -> LipTracks:
    """Blend the visemes of `segments` into `frames` frames.

    `samples` (16 kHz) let louder vowels open wider, within ±20%.
    """
    pieces = _pieces(segments)
    time = (np.arange(frames * (_FINE_RATE // FRAME_RATE)) + 0.5) / _FINE_RATE
    gains = _stress(pieces, samples)
    channels = _blend(pieces, time, gains)
    shut = _gate(time, [_closure(p) for p in pieces if p.phoneme in BILABIALS])
    bite = _gate(time, [(p.start, p.end) for p in pieces if p.phoneme in LABIODENTALS])
    for name in _OPENING:
        channels[name] = channels[name] * (1 - shut)
    channels["jaw"] = channels["jaw"] * (1 - bite) + np.minimum(channels["jaw"], 0.035) * bite
    channels["mouthLowerDown"] = channels["mouthLowerDown"] * (1 - bite)
    at_frames = {name: _sample(track).astype(np.float32) for name, track in channels.items()}
    jaw = at_frames.pop("jaw")
    return LipTracks(jaw, at_frames, _sample(shut).astype(np.float32))


def expression_names_of(channel: str) -> tuple[str, ...]:
    """ARKit names that a lip channel moves: left and right for a pair."""
    return (f"{channel}Left", f"{channel}Right") if channel in _PAIRED else (channel,)


def _pieces(segments: list[Segment]) -> list[Segment]:
    """Segments with diphthongs in two and short pauses left out."""
    pieces: list[Segment] = []
    for segment in segments:
        if segment.phoneme in DIPHTHONGS:
            first, second = DIPHTHONGS[segment.phoneme]
            middle = segment.start + 0.6 * (segment.end - segment.start)
            pieces += [Segment(first, segment.start, middle), Segment(second, middle, segment.end)]
        elif segment.phoneme != SILENCE or segment.end - segment.start >= _SHORT_PAUSE:
            pieces.append(segment)
    return pieces or [Segment(SILENCE, 0.0, segments[-1].end if segments else 0.0)]


def _stress(pieces: list[Segment], samples: Samples | None) -> _Fine:
    """Opening gain of every piece: 2.5% a decibel of its vowel over the utterance's median vowel."""
    gains = np.ones(len(pieces))
    if samples is None:
        return gains
    vowels = [index for index, piece in enumerate(pieces) if piece.phoneme in VOWELS]
    levels = []
    for index in vowels:
        span = samples[int(pieces[index].start * SAMPLE_RATE) : int(pieces[index].end * SAMPLE_RATE)]
        levels.append(10 * np.log10(float((span.astype(np.float64) ** 2).mean()) + 1e-8) if len(span) else -80.0)
    if levels:
        gains[vowels] = np.clip(1 + 0.025 * (np.asarray(levels) - np.median(levels)), 0.8, 1.2)
    return gains


def _blend(pieces: list[Segment], time: _Fine, gains: _Fine) -> dict[str, _Fine]:
    """Dominance-weighted means of all channels' targets at `time`."""
    first, last = np.array([_core(piece) for piece in pieces]).T
    distance = np.maximum((first[:, None] - time) / _REACH_BEFORE, (time - last[:, None]) / _REACH_AFTER)
    falloff = np.exp(-np.clip(distance, 0, 14))
    visemes = [VISEMES[piece.phoneme] for piece in pieces]
    jaw = falloff * np.array([viseme.jaw_dominance for viseme in visemes])[:, None]
    lips = falloff * np.array([viseme.lip_dominance for viseme in visemes])[:, None]
    opening = np.array([viseme.jaw for viseme in visemes]) * gains
    targets = np.array([[viseme.lips.get(name, 0.0) for name in CHANNELS[1:]] for viseme in visemes])
    tracks = np.concatenate([(opening @ jaw / jaw.sum(0))[None], targets.T @ lips / lips.sum(0)])
    return {name: _soften(track) for name, track in zip(CHANNELS, tracks, strict=True)}


def _soften(track: _Fine) -> _Fine:
    return np.convolve(np.pad(track, 4, mode="edge"), _KERNEL, mode="valid")


# Takes the corners off the exponentials: a 45 ms Hann window at 200 a second.
_KERNEL = np.hanning(11)[1:-1] / np.hanning(11)[1:-1].sum()


def _core(piece: Segment) -> tuple[float, float]:
    """Where a piece's dominance is full: its middle half, or all of a rest but its edges."""
    duration = piece.end - piece.start
    margin = min(_REST, 0.4 * duration) if piece.phoneme == SILENCE else 0.25 * duration
    return piece.start + margin, piece.end - margin


def _closure(piece: Segment) -> tuple[float, float]:
    """When the lips of a bilabial are shut: all of M, a stop up to its burst."""
    end = piece.end if piece.phoneme == "M" else piece.start + _STOP_HOLD * (piece.end - piece.start)
    middle, half = (piece.start + end) / 2, max(end - piece.start, _SHORTEST_CLOSURE) / 2
    return middle - half, middle + half


def _gate(time: _Fine, spans: list[tuple[float, float]]) -> _Fine:
    """1 inside the spans, falling to 0 along half a cosine in `_GESTURE` seconds outside."""
    gate = np.zeros_like(time)
    for start, end in spans:
        low, high = np.searchsorted(time, (start - _GESTURE, end + _GESTURE))
        near = time[low:high]
        distance = np.maximum(start - near, near - end).clip(0, _GESTURE) / _GESTURE
        gate[low:high] = np.maximum(gate[low:high], 0.5 + 0.5 * np.cos(np.pi * distance))
    return gate


def _sample(track: _Fine) -> _Fine:
    """The value at every frame's middle: the mean of the two fine samples around it."""
    per_frame = _FINE_RATE // FRAME_RATE
    frames = track.reshape(-1, per_frame)
    return (frames[:, per_frame // 2 - 1] + frames[:, per_frame // 2]) / 2
