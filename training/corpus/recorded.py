"""Recorded people with phoneme times: telephone prompts and games' actors, from Debian's archive.

The packages `asterisk-core-sounds-*` hold telephone prompts of a man and three women, 16 kHz, with their texts;
three adventure games hold hours of actors' lines, which a recogniser writes down (`recorded_sources`). Forced alignment
(`forced`) says when; where that is not plausible, a phrase is left out (`recorded_phrases`). Aligning a speaker takes a
minute, a game a quarter of an hour or more, once: the times are kept in the folder of the corpus.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np

from .errors import SpeechError
from .forced import Aligner, Phone
from .phonemes import PhonemeError
from .recorded_phrases import Phrase, Rejects, choose, limit
from .recorded_sources import PROMPTS, SPEAKERS, Source, source_of
from .recorded_times import Timed, heard
from .speech import Utterance
from .transcripts import words_of

__all__ = ["PROMPTS", "SPEAKERS", "Phrase", "Rejects", "draw_phrase", "phrases", "recorded_speech"]

ALIGNMENT_VERSION = 3  # raise it when the same recordings would get other times

_SAVED = 500  # prompts after which an alignment is kept so far

_LOCK = threading.Lock()
_LOADED: dict[tuple[str, Path | None], tuple[tuple[Phrase, ...], Rejects]] = {}


def phrases(speaker: str, cache: Path | None = None) -> tuple[tuple[Phrase, ...], Rejects]:
    """The phrases of a speaker that are aligned well, and what became of the others.

    cache: folder in which the times are kept; None aligns anew in each process.

    Raises:
        MissingProgramError: the recordings, pocketsphinx, espeak-ng or (for a game) moonshine-voice are not installed.
        SpeechError: no such speaker, or a recording or the times that were kept cannot be read.
    """
    with _LOCK:
        if (speaker, cache) not in _LOADED:
            source = source_of(speaker)
            timed, failed = _timed_prompts(source, cache)
            known, rejects = choose(timed, failed)
            _LOADED[speaker, cache] = (known, rejects) if source.hero is None else limit(known, rejects, source.hero)
        return _LOADED[speaker, cache]


def draw_phrase(speaker: str, rng: np.random.Generator, cache: Path | None = None) -> Phrase:
    """A random phrase; every second of a speaker's is as likely as any other.

    Raises:
        MissingProgramError, SpeechError: as `phrases`; SpeechError also where no phrase could be aligned.
    """
    known, _ = phrases(speaker, cache)
    if not known:
        raise SpeechError(f"no phrase of {speaker!r} could be aligned")
    ends = np.cumsum([phrase.last - phrase.first for phrase in known])
    return known[int(np.searchsorted(ends, rng.uniform(0, ends[-1]), side="right"))]


def recorded_speech(speaker: str, phrase: Phrase) -> Utterance:
    """A phrase as it was recorded: its loudness, speed and pitch are the speaker's.

    Raises:
        MissingProgramError: the recordings are not installed.
        SpeechError: no such speaker, or the recording cannot be decoded.
    """
    whole = source_of(speaker).samples(phrase.prompt)
    samples = whole[phrase.first : phrase.last].astype(np.float32) / np.float32(32768)
    return Utterance(samples, list(phrase.segments))


def times_file(speaker: str, cache: Path) -> Path:
    """Where a speaker's times are kept, or would be.

    Raises:
        MissingProgramError: the recordings are not installed.
        SpeechError: no such speaker.
    """
    return _kept(source_of(speaker), cache)


def _kept(source: Source, cache: Path) -> Path:
    return cache / f"recorded-{source.speaker}-{source.identity(ALIGNMENT_VERSION)}.json"


def _timed_prompts(source: Source, cache: Path | None) -> tuple[dict[str, Timed], tuple[str, ...]]:
    """All prompts that something is said in, and the names of those that could not be aligned; from the cache if it is
    there. What an interrupted run has done is there too."""
    kept = None if cache is None else _kept(source, cache)
    if kept is not None and kept.exists():
        return _read(kept)
    begun = None if kept is None else kept.with_suffix(".begun")
    timed, failed = _read(begun) if begun is not None and begun.exists() else ({}, ())
    done = {*timed, *failed}
    aligner = Aligner(foreign=source.language != "en")
    for name in source.names():
        if name in done:
            continue
        samples = source.samples(name)
        text = source.text(name, samples)
        if text is None:
            continue
        try:
            words = words_of(source.language, text)
            if not words:
                raise SpeechError(f"nothing is said in {name}")
            timed[name] = heard(aligner.align(samples, words), samples)
        except (SpeechError, PhonemeError):
            failed = (*failed, name)
        if begun is not None and (len(timed) + len(failed)) % _SAVED == 0:
            _write(begun, timed, failed)
    if kept is not None and begun is not None:
        _write(kept, timed, failed)
        begun.unlink(missing_ok=True)
    return timed, failed


def _read(path: Path) -> tuple[dict[str, Timed], tuple[str, ...]]:
    try:
        content = json.loads(path.read_text())
        timed = {
            name: Timed(tuple(Phone(*phone) for phone in phones), tuple(levels))
            for name, (phones, levels) in content["timed"].items()
        }
        return timed, tuple(content["failed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpeechError(f"cannot read the times in {path} ({error}); delete it, and they are found anew") from error


def _write(path: Path, timed: dict[str, Timed], failed: Sequence[str]) -> None:
    """Atomically, as other processes may look for it."""
    content = {
        "timed": {name: ([astuple(phone) for phone in of.phones], of.levels) for name, of in timed.items()},
        "failed": list(failed),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        json.dump(content, file)
    os.replace(temporary, path)
