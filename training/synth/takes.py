"""What is filmed: takes of identities, emotions and levels, their speech and their performance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...plugins.camera import Camera
from ..corpus import (
    ESPEAK,
    FLITE,
    HELD_OUT,
    Performance,
    Prosody,
    Segment,
    Utterance,
    Voice,
    concatenate,
    perform,
    prosody_of,
    random_text,
    silence,
    synthesize,
)
from .motion import HeadMotion, head_motion

__all__ = ["EMOTION_NAMES", "LEVELS", "Take", "Track", "camera_of", "choose_voice", "record", "training_voices"]

EMOTION_NAMES = ("neutral", "angry", "disgust", "fear", "happy", "sad", "surprise", "contempt")
LEVELS = {1: 1 / 3, 2: 2 / 3, 3: 1.0}
"""Level of an emotion to its intensity; neutral has no levels."""

_FRAME = 640  # samples
_TRIES = 6


@dataclass(frozen=True)
class Take:
    """One clip: who, in which emotion and level (0 for neutral), and its number among those."""

    seed: int
    identity: int
    emotion: str
    level: int
    clip: int

    @property
    def name(self) -> str:
        """The scene's folder: idNNN_EMOTIONLEVEL_CC."""
        level = str(self.level) if self.level else ""
        return f"id{self.identity:03d}_{self.emotion}{level}_{self.clip:02d}"

    @property
    def intensity(self) -> float:
        """Of the emotion, 0…1: a third a level."""
        return LEVELS[self.level] if self.level else 0.0

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers of the clip, the same ones in every emotion and level, so that these can be compared."""
        return np.random.default_rng([0x7A4E, self.seed, self.identity, self.clip, purpose])


@dataclass(frozen=True, eq=False)
class Track:
    """A take before it is drawn: T frames of 25 a second."""

    take: Take
    voice: Voice
    texts: tuple[str, ...]
    utterance: Utterance
    performance: Performance
    """with the lids that follow the gaze, and jaw at rest 0"""
    motion: HeadMotion


def training_voices(languages: tuple[str, ...]) -> tuple[Voice, ...]:
    """Every voice of these languages but those held out."""
    voices = (*(FLITE if "en" in languages else ()), *(voice for name in languages for voice in ESPEAK[name]))
    return tuple(voice for voice in voices if voice not in HELD_OUT)


def choose_voice(take: Take, voices: tuple[Voice, ...]) -> Voice:
    """The voice of an identity's clip. Clips of a person may be in several languages; flite is a third of English."""
    rng = np.random.default_rng([0x501CE, take.seed, take.identity, take.clip])
    languages = sorted({voice.language for voice in voices})
    language = languages[int(rng.integers(len(languages)))]
    pool = [voice for voice in voices if voice.language == language]
    flite = [voice for voice in pool if voice.synthesizer == "flite"]
    if flite and (len(flite) == len(pool) or rng.random() < 1 / 3):
        pool = flite
    return pool[int(rng.integers(len(pool)))]


def record(take: Take, voice: Voice, seconds: float, names: tuple[str, ...]) -> Track:
    """Speak and act a take.

    Args:
        take: which.
        voice: who lends the voice.
        seconds: length; made whole frames.
        names: the head's expressions.

    Raises:
        MissingProgramError, SpeechError, PhonemeError: as the synthesizers say.
        CheckpointError: the head lacks an expression.
    """
    frames = max(int(round(seconds * 25)), 1)
    utterance, texts = _speech(take, voice, frames)
    performance = perform(utterance, names, take.rng(2), take.emotion, take.intensity)
    motion = head_motion(utterance, take.emotion, take.intensity, take.rng(3))
    expression = performance.expression.copy()
    for name, sign in (("eyeLookDown", 1.0), ("eyeLookUp", -1.0)):
        for side in ("Left", "Right"):
            expression[:, names.index(name + side)] += np.clip(sign * motion.eyes[:, 0] / 0.45, 0, 1)
    performance = replace(performance, expression=np.clip(expression, 0, 1).astype(np.float32))
    return Track(take, voice, texts, utterance, performance, motion)


def _speech(take: Take, voice: Voice, frames: int) -> tuple[Utterance, tuple[str, ...]]:
    """Phrases with pauses between them, cut or padded to whole frames."""
    rng = take.rng(1)
    total = frames * _FRAME
    prosody = prosody_of(take.emotion, take.intensity, Prosody(rate=float(rng.uniform(0.88, 1.05))))
    parts = [silence(float(rng.uniform(0.20, 0.40)))]
    texts: list[str] = []
    used = len(parts[0].samples)
    for _ in range(_TRIES * max(1, total // 48000)):
        text = random_text(voice.language, rng)
        phrase = synthesize(voice, text, prosody, int(rng.integers(2**31)))
        pause = silence(float(rng.uniform(0.15, 0.55)))
        fits = used + len(phrase.samples) <= total
        if fits or not texts:  # a first phrase that is too long is cut
            parts += [phrase, pause]
            texts.append(text)
            used += len(phrase.samples) + len(pause.samples)
        if used >= total - 8000:
            break
    return _cut(concatenate(parts), total), tuple(texts)


def _cut(utterance: Utterance, total: int) -> Utterance:
    samples = utterance.samples[:total]
    if len(samples) < total:
        return _cut(concatenate([utterance, silence((total - len(samples)) / 16000)]), total)
    end = total / 16000
    kept = [Segment(s.phoneme, s.start, min(s.end, end)) for s in utterance.segments if s.start < end]
    return Utterance(samples, kept)


def camera_of(take: Take, size: int) -> Camera:
    """The clip's still camera: about a metre away, near the height of the eyes, the head in the middle."""
    rng = take.rng(4)
    yaw, pitch = np.radians(rng.uniform(-9, 9)), np.radians(rng.uniform(-3, 7))
    distance = rng.uniform(0.9, 1.15)
    target = np.array([rng.normal(0, 0.004), 0.012 + rng.normal(0, 0.004), -0.01])
    away = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    forward = -away
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    view[:3, 3] = -view[:3, :3] @ (target + distance * away)
    focal = size * 2.65 * distance * float(rng.uniform(0.95, 1.05))
    return Camera(view, focal, focal, size / 2, size / 2, size, size)


def frames_of(track: Track) -> int:
    """T."""
    return len(track.performance.expression)
