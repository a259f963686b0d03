"""Recorded prompts with phoneme times: five people of five languages, from Debian's archive.

The packages `asterisk-core-sounds-*` hold what is said on the telephone by a man and four women, 16 kHz, with its text.
Forced alignment (`forced`) says when; where that is not plausible, a phrase is left out. Aligning a speaker takes a
minute, once: the times are kept in the folder of the corpus.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from .errors import MissingProgramError, SpeechError
from .forced import Aligner, Phone
from .phonemes import SILENCE, STOPS, VOWELS, Segment
from .speech import SAMPLE_RATE, Utterance
from .transcripts import transcripts, words_of

ALIGNMENT_VERSION = 3  # raise it when the same recordings would get other times

SPEAKERS = {
    "en_US_f_Allison": "en",
    "es_MX_f_Allison": "es",
    "fr_CA_f_June": "fr",
    "it_IT_m_Carlo": "it",
    "ru_RU_f_IvrvoiceRU": "ru",
}
"""Language by speaker; one woman speaks two. docs/synth.md has their licences."""

SOUNDS = Path("/usr/share/asterisk/sounds")
TEXTS = Path("/usr/share/doc")

_PAUSE = 0.2  # silences from here on part phrases, s
_LONGEST = 6.0  # phrases are joined up to here, s
_SHORT = 0.08  # silences below are no pauses but closures, s
_HUSH, _HUSHED = 0.13, 35.0  # what is quieter than vowels by so many dB for so long (s) is a pause
_CLOSURE, _EDGE = 0.06, 0.03  # s
# What a phrase must not exceed to be believed; docs/log.md has the distributions that they were drawn from.
_WORST_PHRASE, _WORST_WORD = -1.4, -3.5  # how well phones fit, in deviations from what is usual for their class
_HASTY, _MOST_HASTY = 0.035, 0.3  # phones of the shortest length that the model knows, and the share of them
_LONG_VOWEL, _LONG_CONSONANT = 0.6, 0.4  # s
_QUIET, _FAINT = 15.0, 20.0  # dB below the vowels' level: pauses must be, vowels must not


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


@dataclass(frozen=True)
class _Timed:
    """A prompt's phones, and the level of each in dB."""

    phones: tuple[Phone, ...]
    levels: tuple[float, ...]


_LOCK = threading.Lock()
_LOADED: dict[tuple[str, Path | None], tuple[tuple[Phrase, ...], Rejects]] = {}


def phrases(speaker: str, cache: Path | None = None) -> tuple[tuple[Phrase, ...], Rejects]:
    """The phrases of a speaker that are aligned well, and what became of the others.

    cache: folder in which the times are kept; None aligns anew in each process.

    Raises:
        MissingProgramError: the recordings, pocketsphinx or espeak-ng are not installed.
        SpeechError: no such speaker, or a recording cannot be decoded.
    """
    with _LOCK:
        if (speaker, cache) not in _LOADED:
            timed, failed = _timed_prompts(speaker, cache)
            _LOADED[speaker, cache] = _choose(timed, failed)
        return _LOADED[speaker, cache]


def draw_phrase(speaker: str, rng: np.random.Generator, cache: Path | None = None) -> Phrase:
    """A random phrase; every second of a speaker's is as likely as any other."""
    known, _ = phrases(speaker, cache)
    if not known:
        raise SpeechError(f"no phrase of {speaker!r} could be aligned")
    ends = np.cumsum([phrase.last - phrase.first for phrase in known])
    return known[int(np.searchsorted(ends, rng.uniform(0, ends[-1]), side="right"))]


def recorded_speech(speaker: str, phrase: Phrase) -> Utterance:
    """A phrase as it was recorded: its loudness, speed and pitch are the speaker's."""
    whole = _decode(_folder(speaker) / f"{phrase.prompt}.g722")
    samples = whole[phrase.first : phrase.last].astype(np.float32) / np.float32(32768)
    return Utterance(samples, list(phrase.segments))


def _folder(speaker: str) -> Path:
    if speaker not in SPEAKERS:
        raise SpeechError(f"recorded speaker {speaker!r} is unknown; use one of: {', '.join(SPEAKERS)}")
    folder = SOUNDS / speaker
    if not folder.is_dir() or not _text_file(speaker).exists():
        package = f"asterisk-core-sounds-{SPEAKERS[speaker]}"
        raise MissingProgramError(
            f"the recordings of {speaker!r} are not installed; run: apt-get install {package}-g722 {package}"
        )
    return folder


def _text_file(speaker: str) -> Path:
    language = SPEAKERS[speaker]
    return TEXTS / f"asterisk-core-sounds-{language}" / f"core-sounds-{language}.txt.gz"


def _decode(path: Path) -> npt.NDArray[np.int16]:
    """16 kHz samples of a G.722 file."""
    try:
        with av.open(str(path), format="g722") as container:
            parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    except (OSError, av.error.FFmpegError) as error:
        raise SpeechError(f"cannot decode the recording {path}: {error}") from error
    samples: npt.NDArray[np.int16] = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    return samples


def _timed_prompts(speaker: str, cache: Path | None) -> tuple[dict[str, _Timed], tuple[str, ...]]:
    """All prompts that have a text, and the names of those that could not be aligned; from the cache if it is there."""
    folder, language = _folder(speaker), SPEAKERS[speaker]
    files = sorted(folder.rglob("*.g722"))
    identity = hashlib.sha256(f"{ALIGNMENT_VERSION} {language}".encode())
    for path in (_text_file(speaker), *files):
        identity.update(path.read_bytes())
    kept = None if cache is None else cache / f"recorded-{speaker}-{identity.hexdigest()[:12]}.json"
    if kept is not None and kept.exists():
        return _read(kept)
    texts = transcripts(_text_file(speaker))
    aligner = Aligner(foreign=language != "en")
    timed, failed = {}, []
    for path in files:
        name = str(path.relative_to(folder).with_suffix(""))
        if name not in texts:
            continue
        samples = _decode(path)
        try:
            phones = aligner.align(samples, words_of(language, texts[name]))
        except SpeechError:
            failed.append(name)
            continue
        timed[name] = _heard(phones, samples)
    if kept is not None:
        _write(kept, timed, failed)
    return timed, tuple(failed)


def _heard(phones: list[Phone], samples: npt.NDArray[np.int16]) -> _Timed:
    """Aligned phones with the pauses that can be heard, and no others."""
    phones = _shut_closures(phones, len(samples) / SAMPLE_RATE)
    loud = _loudness(_Timed(tuple(phones), tuple(_level(samples, phone) for phone in phones)))
    for start, end in _hushes(samples, loud - _HUSHED):
        phones = _part_words(phones, start, end)
    phones = _shut_closures(phones, len(samples) / SAMPLE_RATE)
    return _Timed(tuple(phones), tuple(_level(samples, phone) for phone in phones))


def _hushes(samples: npt.NDArray[np.int16], below: float) -> list[tuple[float, float]]:
    """Spans of at least `_HUSH` seconds in which the level stays below, dB of full scale."""
    hop = SAMPLE_RATE // 100
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop).astype(np.float64) / 32768
    quiet = np.concatenate([[False], 10 * np.log10((frames**2).mean(axis=1) + 1e-10) < below, [False]])
    starts, ends = np.flatnonzero(~quiet[:-1] & quiet[1:]), np.flatnonzero(quiet[:-1] & ~quiet[1:])
    spans = zip(starts.tolist(), ends.tolist(), strict=True)
    return [(start / 100, end / 100) for start, end in spans if end - start >= 100 * _HUSH]


def _part_words(phones: list[Phone], start: float, end: float) -> list[Phone]:
    """With silence from start to end where words meet there, as an aligner may stretch their edges over a pause.

    A stop beside it keeps its closure.
    """
    parted: list[Phone] = []
    for index, phone in enumerate(phones):
        first, last = phone.start, phone.end
        if phone.word is not None:
            closure = _CLOSURE if phone.phoneme in STOPS else 0.0
            opens = index == 0 or phones[index - 1].word != phone.word
            closes = index == len(phones) - 1 or phones[index + 1].word != phone.word
            if opens and start < first + _EDGE and first < end < last - _EDGE:
                first = max(first, end - closure)
            if closes and end > last - _EDGE and first + _EDGE < start < last:
                last = min(last, start + closure)
        parted.append(Phone(SILENCE, phone.start, first, None, 0.0))
        parted.append(replace(phone, start=first, end=last))
        parted.append(Phone(SILENCE, last, phone.end, None, 0.0))
    return _joined_silences([phone for phone in parted if phone.end > phone.start])


def _shut_closures(phones: list[Phone], end: float) -> list[Phone]:
    """Without silences that are too short for a pause: a stop after one begins with it, else neighbours halve it."""
    mended: list[Phone] = []
    phones = _joined_silences(phones)
    for index, phone in enumerate(phones):
        inner = 0 < index < len(phones) - 1
        if phone.phoneme == SILENCE and inner and phone.end - phone.start < _SHORT and mended:
            middle = phone.start if phones[index + 1].phoneme in STOPS else (phone.start + phone.end) / 2
            mended[-1] = replace(mended[-1], end=middle)
            continue
        mended.append(replace(phone, start=mended[-1].end) if mended else phone)
    mended[-1] = replace(mended[-1], end=end)
    return [phone for phone in mended if phone.end > phone.start]


def _joined_silences(phones: list[Phone]) -> list[Phone]:
    joined: list[Phone] = []
    for phone in phones:
        if joined and phone.word is None and joined[-1].word is None:
            joined[-1] = replace(joined[-1], end=phone.end)
        else:
            joined.append(phone)
    return joined


def _level(samples: npt.NDArray[np.int16], phone: Phone) -> float:
    """Mean level of the middle of a phone, dB of full scale."""
    edge = 0.2 * (phone.end - phone.start)
    part = samples[int((phone.start + edge) * SAMPLE_RATE) : int((phone.end - edge) * SAMPLE_RATE) + 1]
    return round(float(10 * np.log10(np.mean((part / 32768.0) ** 2) + 1e-10)), 1) if len(part) else -100.0


def _read(path: Path) -> tuple[dict[str, _Timed], tuple[str, ...]]:
    content = json.loads(path.read_text())
    timed = {
        name: _Timed(tuple(Phone(*phone) for phone in phones), tuple(levels))
        for name, (phones, levels) in content["timed"].items()
    }
    return timed, tuple(content["failed"])


def _write(path: Path, timed: dict[str, _Timed], failed: list[str]) -> None:
    """Atomically, as other processes may look for it."""
    content = {
        "timed": {name: ([astuple(phone) for phone in of.phones], of.levels) for name, of in timed.items()},
        "failed": failed,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        json.dump(content, file)
    os.replace(temporary, path)


def _choose(timed: dict[str, _Timed], failed: tuple[str, ...]) -> tuple[tuple[Phrase, ...], Rejects]:
    """Phrases worth learning from, neighbours joined to at most `_LONGEST`."""
    chosen: list[Phrase] = []
    rejected: dict[str, float] = {}
    fits = _fits(timed)
    for name, prompt in timed.items():
        loud = _loudness(prompt)
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


def _loudness(prompt: _Timed) -> float:
    """Median level of the vowels, dB."""
    levels = [level for phone, level in zip(prompt.phones, prompt.levels, strict=True) if phone.phoneme in VOWELS]
    return float(np.median(levels)) if levels else 0.0


def _fault(prompt: _Timed, first: int, last: int, loud: float, fits: list[float]) -> str | None:
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


def _fits(timed: dict[str, _Timed]) -> dict[str, list[float]]:
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


def _fit(prompt: _Timed, indices: list[int], fits: list[float]) -> float:
    """Mean over time; less than 100 ms count as so much, as chance moves them."""
    lengths = [prompt.phones[index].end - prompt.phones[index].start for index in indices]
    return sum(fits[i] * length for i, length in zip(indices, lengths, strict=True)) / max(sum(lengths), 0.1)
