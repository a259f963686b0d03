"""Clips of the corpus for training and measuring: audio, phonemes and faces of equal length, cached on disk."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.manifest import ACTION_UNITS, EMOTIONS
from ..corpus import (
    ESPEAK,
    FLITE,
    LOOKS,
    Prosody,
    Utterance,
    Voice,
    concatenate,
    draw_phrase,
    frame_classes,
    perform,
    prosody_of,
    random_text,
    recorded_speech,
    silence,
    stretch,
    synthesize,
)
from ..corpus.phonemes import Segment

FRAME = 640  # samples of a video frame
_SHARD = 50  # clips in a cache file
CORPUS_VERSION = 6  # raise it when what the same seed makes has changed

Progress = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0…1."""

_ARRAYS = ("samples", "phonemes", "jaw", "expression", "aus", "emotion", "closure")


@dataclass(frozen=True)
class ClipRequest:
    """Which clips: how many, how long, which voices speak (None: the training mix) and how often with emotion."""

    count: int
    frames: int = 160
    seed: int = 0
    voices: tuple[Voice, ...] | None = None
    emotional: float = 0.3
    stretched: float = 0.6


@dataclass(frozen=True)
class Clips:
    """N clips of F frames.

    samples: `[N, 640·F]` int16. phonemes: `[N, 2F]` class index of every token. jaw: `[N,F,3]`. expression:
    `[N,F,E]`. aus: `[N,F,6]`. emotion: `[N,F,7]` as an observer names it. closure: `[N,F]`. contempt: `[N]`, the clips
    whose emotion is none of the seven.
    """

    samples: NDArray[np.int16]
    phonemes: NDArray[np.uint8]
    jaw: NDArray[np.float32]
    expression: NDArray[np.float32]
    aus: NDArray[np.float32]
    emotion: NDArray[np.float32]
    closure: NDArray[np.float32]
    contempt: NDArray[np.bool_]

    def conditions(self, clip: int) -> NDArray[np.float32]:
        """`[F,8]` what a caller would ask for to see this clip: the seven classes, then contempt."""
        asked = np.pad(self.emotion[clip], ((0, 0), (0, 1)))
        if self.contempt[clip]:
            asked[:, -1] = 2 * asked[:, EMOTIONS.index("disgust")]
            asked[:, :-1] = 0
            asked[:, EMOTIONS.index("neutral")] = 1 - asked[:, -1]
        return asked

    def calm_units(self, clip: int) -> NDArray[np.float32]:
        """`[F,6]` the clip's action units without those of its emotion."""
        looks = np.zeros((len(EMOTIONS) + 1, self.aus.shape[-1]), np.float32)
        for index, name in enumerate((*EMOTIONS, "contempt")):
            for unit, height in LOOKS[name].aus.items():
                looks[index, ACTION_UNITS.index(unit)] = height
        calm: NDArray[np.float32] = np.clip(self.aus[clip] - self.conditions(clip) @ looks, 0, 5)
        return calm

    def part(self, which: slice | NDArray[np.intp]) -> Clips:
        """Some of the clips."""
        return Clips(**{f.name: getattr(self, f.name)[which] for f in fields(Clips)})

    def __len__(self) -> int:
        return len(self.samples)

    def sound(self, clip: int, frames: slice = slice(None)) -> NDArray[np.float32]:
        """Audio of a clip, or of some of its frames, within -1…1."""
        chosen = self.samples[clip].reshape(-1, FRAME)[frames].reshape(-1)
        sound: NDArray[np.float32] = chosen.astype(np.float32) / np.float32(32768)
        return sound

    @property
    def seconds(self) -> float:
        """Of audio, all clips together."""
        return self.samples.size / 16000


def load_clips(request: ClipRequest, names: Sequence[str], folder: Path, progress: Progress | None = None) -> Clips:
    """The clips from the cache in `folder`; those that are not there yet are synthesised first.

    Raises:
        MissingProgramError: some must be made, and a synthesizer is not installed.
    """
    identity = json.dumps([CORPUS_VERSION, asdict(replace(request, count=0)), list(names)], sort_keys=True)
    stem = f"clips-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    shards = []
    for first in range(0, request.count, _SHARD):
        numbers = range(first, min(first + _SHARD, request.count))
        path = folder / f"{stem}-{first // _SHARD:03d}.npz"
        if len(numbers) < _SHARD and not path.exists():
            path = path.with_name(f"{path.stem}-first{len(numbers)}.npz")
        if not path.exists():
            _write(path, make_clips(request, names, numbers, folder))
        with np.load(path) as archive:
            arrays = {name: archive[name][: len(numbers)] for name in _ARRAYS}
        shards.append(Clips(**arrays, contempt=_contempt(request, numbers)))
        if progress:
            progress("speech", min(first + _SHARD, request.count) / request.count)
    return join(*shards)


def make_clips(
    request: ClipRequest, names: Sequence[str], numbers: range | None = None, cache: Path | None = None
) -> Clips:
    """Synthesise clips; each depends on the seed and its own number only.

    cache: where the phoneme times of recorded voices are kept; None finds them anew in each process.
    """
    numbers = numbers or range(request.count)
    # The synthesizers are processes of their own, so threads suffice to use all cores.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        rows = list(pool.map(lambda number: _make_clip(request, names, number, cache), numbers))
    return _stack(rows, _contempt(request, numbers))


def silent_clips(count: int, names: Sequence[str], frames: int = 160, seed: int = 0) -> Clips:
    """Clips in which nobody speaks: a mouth at rest under living brows and eyes."""
    rows = []
    for number in range(count):
        rng = np.random.default_rng([seed, 7, number])
        rows.append(_row(silence(frames * FRAME / 16000), frames, names, rng, "neutral", 0.0))
    return _stack(rows, np.zeros(count, bool))


def join(*parts: Clips) -> Clips:
    """All clips of all parts."""
    return Clips(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Clips)})


def _stack(rows: list[dict[str, NDArray[Any]]], contempt: NDArray[np.bool_]) -> Clips:
    return Clips(**{name: np.stack([row[name] for row in rows]) for name in _ARRAYS}, contempt=contempt)


def _write(path: Path, clips: Clips) -> None:
    """Atomically, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "wb") as file:
        np.savez(file, **{name: getattr(clips, name) for name in _ARRAYS})
    os.replace(temporary, path)


def _make_clip(request: ClipRequest, names: Sequence[str], number: int, cache: Path | None) -> dict[str, NDArray[Any]]:
    rng, emotion, intensity = _feeling(request, number)
    utterance = _speak(request, rng, emotion, intensity, cache)
    return _row(utterance, request.frames, names, rng, emotion, intensity)


def _feeling(request: ClipRequest, number: int) -> tuple[np.random.Generator, str, float]:
    """A clip's own generator, and the emotion and intensity that it draws first."""
    rng = np.random.default_rng([request.seed, number])
    if rng.random() >= request.emotional:
        return rng, "neutral", 0.0
    emotion = str(rng.choice([name for name in LOOKS if name != "neutral"]))
    return rng, emotion, float(rng.choice([1 / 3, 2 / 3, 1.0]))


def _contempt(request: ClipRequest, numbers: range) -> NDArray[np.bool_]:
    return np.array([_feeling(request, number)[1] == "contempt" for number in numbers], bool)


def _row(
    utterance: Utterance, frames: int, names: Sequence[str], rng: np.random.Generator, emotion: str, intensity: float
) -> dict[str, NDArray[Any]]:
    face = perform(utterance, names, rng, emotion, intensity)
    return {
        "samples": np.rint(utterance.samples * 32767).astype(np.int16),
        "phonemes": np.asarray(frame_classes(utterance.segments, 2 * frames, 50), np.uint8),
        **{name: getattr(face, name) for name in _ARRAYS[2:]},
    }


def _speak(
    request: ClipRequest, rng: np.random.Generator, emotion: str, intensity: float, cache: Path | None
) -> Utterance:
    """Phrases of one voice with pauses between them, cut or filled with silence to the clip's length."""
    voice = _training_voice(rng) if request.voices is None else request.voices[rng.integers(len(request.voices))]
    base = Prosody(
        float(rng.uniform(0.72, 1.12)),
        float(2 ** rng.uniform(-0.35, 0.45)),
        float(rng.uniform(0.6, 1.6)),
        0.7,
    )
    prosody = prosody_of(emotion, intensity, base)
    speed = float(2 ** rng.uniform(-0.3, 0.25)) if rng.random() < request.stretched else 1.0
    parts = [silence(float(rng.uniform(0.1, 1.0)))]
    length, wanted = parts[0].duration, request.frames / 25
    while length < wanted:
        spoken = _phrase(voice, prosody, rng, cache)
        spoken = stretch(spoken, speed) if speed != 1.0 else spoken
        pause = silence(float(rng.exponential(0.3)) + 0.05)
        parts += [spoken, pause]
        length += spoken.duration + pause.duration
    return _cut(concatenate(parts), request.frames * FRAME)


def _phrase(voice: Voice, prosody: Prosody, rng: np.random.Generator, cache: Path | None) -> Utterance:
    """A random phrase; of the prosody, a recorded voice follows the loudness alone."""
    if voice.synthesizer != "recorded":
        return synthesize(voice, random_text(voice.language, rng), prosody, int(rng.integers(1 << 30)))
    spoken = recorded_speech(voice.name, draw_phrase(voice.name, rng, cache))
    return replace(spoken, samples=np.clip(spoken.samples * np.float32(prosody.volume), -1, 1))


def _training_voice(rng: np.random.Generator) -> Voice:
    """Half recorded speakers (flite), half formant synthesis, most of it English."""
    if rng.random() < 0.5:
        return FLITE[rng.integers(len(FLITE))]
    language = "en" if rng.random() < 0.55 else str(rng.choice([name for name in ESPEAK if name != "en"]))
    voices = ESPEAK[language]
    return voices[rng.integers(len(voices))]


def _cut(utterance: Utterance, count: int) -> Utterance:
    end = count / 16000
    segments = [Segment(s.phoneme, s.start, min(s.end, end)) for s in utterance.segments if s.start < end]
    return Utterance(utterance.samples[:count], segments)
