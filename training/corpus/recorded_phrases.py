"""Which phrases of recordings are worth learning from, and why the others are not."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .forced import Phone
from .phonemes import VOWELS, Segment
from .recorded_times import Timed, loudness
from .speech import SAMPLE_RATE

_PAUSE = 0.2  # silences from here on part phrases, s
_LONGEST = 6.0  # phrases are joined up to here, s
# What a phrase must not exceed to be believed; docs/log.md has the distributions that they were drawn from.
_WORST_PHRASE, _WORST_WORD = -1.4, -3.5  # how well phones fit, in deviations from what is usual for their class
_HASTY, _MOST_HASTY = 0.035, 0.3  # phones of the shortest length that the model knows, and the share of them
_LONG_VOWEL, _LONG_CONSONANT = 0.6, 0.4  # s
_QUIET, _FAINT = 15.0, 20.0  # dB below the vowels' level: pauses must be, vowels must not
_MOST_OF_ONE = 0.25  # share of a speaker's time that the prompts of a hero may have


@dataclass(frozen=True)
class Phrase:
    """A part of a prompt, between pauses.

    prompt: its name within the package. first, last: samples of it. segments: contiguous, from 0, in seconds.
    """

    prompt: str
    first: int
    last: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Rejects:
    """Why phrases were left out, and how many seconds of them; `prompts` could not be aligned at all."""

    seconds: dict[str, float]
    prompts: tuple[str, ...]


def choose(timed: dict[str, Timed], failed: tuple[str, ...]) -> tuple[tuple[Phrase, ...], Rejects]:
    """Phrases worth learning from, neighbours joined to at most `_LONGEST`."""
    chosen: list[Phrase] = []
    rejected: dict[str, float] = {}
    fits = _fits(timed)
    for name, prompt in timed.items():
        loud = loudness(prompt)
        run: list[tuple[int, int]] = []
        for first, last in _parts(prompt.phones):
            reason = _fault(prompt, first, last, loud, fits[name])
            long = run and prompt.phones[last - 1].end - prompt.phones[run[0][0]].start > _LONGEST
            if run and (reason or long):
                chosen.append(_phrase(name, prompt.phones, run[0][0], run[-1][1]))
                run = []
            if reason:
                lost = prompt.phones[last - 1].end - prompt.phones[first].start
                rejected[reason] = rejected.get(reason, 0.0) + lost
            else:
                run.append((first, last))
        if run:
            chosen.append(_phrase(name, prompt.phones, run[0][0], run[-1][1]))
    return tuple(chosen), Rejects({reason: round(seconds, 1) for reason, seconds in rejected.items()}, failed)


def _parts(phones: tuple[Phone, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of phones between pauses, with the silences at both sides."""
    pauses = [i for i, phone in enumerate(phones) if phone.word is None and phone.end - phone.start >= _PAUSE]
    cuts = [-1, *pauses, len(phones)]
    for before, after in itertools.pairwise(cuts):
        if after - before > 1:
            yield max(before, 0), min(after + 1, len(phones))


def _phrase(name: str, phones: tuple[Phone, ...], first: int, last: int) -> Phrase:
    """Phones first…last - 1; silences inside a prompt are shared with the neighbours."""
    segments: list[Segment] = []
    for index in range(first, last):
        phone = phones[index]
        start, end = phone.start, phone.end
        if phone.word is None and index == first and index > 0:
            start = (start + end) / 2
        elif phone.word is None and index == last - 1 and index < len(phones) - 1:
            end = (start + end) / 2
        # Long consonants are two phones, but one closure.
        if segments and segments[-1].phoneme == phone.phoneme and phone.phoneme not in VOWELS:
            start = segments.pop().start
        segments.append(Segment(phone.phoneme, start, end))
    begin = round(segments[0].start * SAMPLE_RATE)
    shift = begin / SAMPLE_RATE
    last_sample = round(segments[-1].end * SAMPLE_RATE)
    times = [0.0, *(segment.start - shift for segment in segments[1:]), (last_sample - begin) / SAMPLE_RATE]
    moved = (Segment(s.phoneme, *span) for s, span in zip(segments, itertools.pairwise(times), strict=True))
    return Phrase(name, begin, last_sample, tuple(moved))


def _fault(prompt: Timed, first: int, last: int, loud: float, fits: list[float]) -> str | None:
    """Why the phones first…last - 1 are not to be trusted, if they are not."""
    phones, levels = prompt.phones[first:last], prompt.levels[first:last]
    spoken = [phone for phone in phones if phone.word is not None]
    words: dict[int, list[int]] = {}
    for index in range(first, last):
        word = prompt.phones[index].word
        if word is not None:
            words.setdefault(word, []).append(index)
    if _fit(prompt, [index for word in words.values() for index in word], fits) < _WORST_PHRASE:
        return "unlike its text"
    if min(_fit(prompt, word, fits) for word in words.values()) < _WORST_WORD:
        return "a word unlike its text"
    if sum(phone.end - phone.start < _HASTY for phone in spoken) > _MOST_HASTY * len(spoken):
        return "hurried"
    if any(phone.end - phone.start > (_LONG_VOWEL if phone.phoneme in VOWELS else _LONG_CONSONANT) for phone in spoken):
        return "a phone too long"
    for phone, level in zip(phones, levels, strict=True):
        if phone.word is None and level > loud - _QUIET:
            return "sound in a pause"
        if phone.phoneme in VOWELS and level < loud - _FAINT:
            return "a vowel without sound"
    return None


def _fits(timed: dict[str, Timed]) -> dict[str, list[float]]:
    """How well every phone fits: its score's deviations from the median of its class, as this speaker says it.

    Foreign sounds fit an English model worse, some much worse than others, wherever their borders are.
    """
    scores: dict[str, list[float]] = {}
    for prompt in timed.values():
        for phone in prompt.phones:
            scores.setdefault(phone.phoneme, []).append(phone.score)
    usual = {name: np.percentile(values, (25, 50, 75)) for name, values in scores.items()}
    return {
        name: [
            float((phone.score - usual[phone.phoneme][1]) / max(np.ptp(usual[phone.phoneme]) / 1.35, 1.0))
            for phone in prompt.phones
        ]
        for name, prompt in timed.items()
    }


def _fit(prompt: Timed, indices: list[int], fits: list[float]) -> float:
    """Mean over time; less than 100 ms count as so much, as chance moves them."""
    lengths = [prompt.phones[index].end - prompt.phones[index].start for index in indices]
    return sum(fits[i] * length for i, length in zip(indices, lengths, strict=True)) / max(sum(lengths), 0.1)


def limit(known: tuple[Phrase, ...], rejects: Rejects, hero: re.Pattern[str]) -> tuple[tuple[Phrase, ...], Rejects]:
    """With at most a quarter of the time from prompts whose names `hero` matches, a selection that looks random and is
    always the same: a model should not learn one voice above all others."""
    lengths = {phrase: phrase.last - phrase.first for phrase in known}
    own = [phrase for phrase in known if hero.match(phrase.prompt)]
    room = (sum(lengths.values()) - sum(lengths[p] for p in own)) * _MOST_OF_ONE / (1 - _MOST_OF_ONE)
    own.sort(key=lambda phrase: hashlib.sha256(f"{phrase.prompt} {phrase.first}".encode()).digest())
    taken = np.cumsum([lengths[phrase] for phrase in own])
    surplus = {phrase for phrase, total in zip(own, taken.tolist(), strict=True) if total > room}
    if not surplus:
        return known, rejects
    lost = round(sum(lengths[phrase] for phrase in surplus) / SAMPLE_RATE, 1)
    kept = tuple(phrase for phrase in known if phrase not in surplus)
    return kept, Rejects({**rejects.seconds, "too much of one person": lost}, rejects.prompts)
