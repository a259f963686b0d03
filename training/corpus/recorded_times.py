"""When the phones of a recording are said, by what the aligner says and by what can be heard: its pauses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .forced import Phone
from .phonemes import SILENCE, STOPS, VOWELS
from .speech import SAMPLE_RATE

_SHORT = 0.08  # silences below are no pauses but closures, s
_HUSH, _HUSHED = 0.13, 35.0  # what is quieter than vowels by so many dB for so long (s) is a pause
_CLOSURE, _EDGE = 0.06, 0.03  # s


@dataclass(frozen=True)
class Timed:
    """A prompt's phones, and the level of each in dB."""

    phones: tuple[Phone, ...]
    levels: tuple[float, ...]


def heard(phones: list[Phone], samples: npt.NDArray[np.int16]) -> Timed:
    """Aligned phones with the pauses that can be heard, and no others."""
    phones = _shut_closures(phones, len(samples) / SAMPLE_RATE)
    loud = loudness(Timed(tuple(phones), tuple(_level(samples, phone) for phone in phones)))
    for start, end in _hushes(samples, loud - _HUSHED):
        phones = _part_words(phones, start, end)
    phones = _shut_closures(phones, len(samples) / SAMPLE_RATE)
    return Timed(tuple(phones), tuple(_level(samples, phone) for phone in phones))


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


def loudness(prompt: Timed) -> float:
    """Median level of the vowels, dB."""
    levels = [level for phone, level in zip(prompt.phones, prompt.levels, strict=True) if phone.phoneme in VOWELS]
    return float(np.median(levels)) if levels else 0.0
