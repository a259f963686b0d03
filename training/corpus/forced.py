"""Forced alignment: when each phone of a known text is said, by pocketsphinx's English acoustic model.

A language's sounds are aligned as the English phones that are most like them; for where one ends and the next begins
that is near enough, and what fits badly is told by its score.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import MissingProgramError, SpeechError
from .phonemes import CONSONANTS, SILENCE, VOWELS

Word = tuple[tuple[str, ...], ...]
"""The pronunciations that a word may have, each a sequence of phoneme classes."""

_FRAME = 0.01
# A boundary lies between the middles of two windows of 25.6 ms, the first of which begins with the sound. (Measured on
# voices whose times are known: docs/log.md.)
_MIDDLE = 0.0078
_PHONE = {name: name for name in (*VOWELS, *CONSONANTS)} | {"UE": "UW", "OE": "ER", "DX": "R", "X": "HH"}
# What may be most like another language's sound of a class; what is meant by the class there is found word by word.
_FOREIGN = {"EH": ("EH", "EY"), "AO": ("AO", "OW"), "AA": ("AA", "AE"), "X": ("HH", "R"), "DX": ("R", "D")}


@dataclass(frozen=True)
class Phone:
    """A class of a word, or silence (word None), from start to end in seconds.

    word: index among the words. score: how much worse than any other sound it fits, per 10 ms; 0 is best.
    """

    phoneme: str
    start: float
    end: float
    word: int | None
    score: float


class Aligner:
    """A loaded acoustic model; not for several threads at once.

    foreign: the words are not English.

    Raises:
        MissingProgramError: pocketsphinx is not installed.
    """

    def __init__(self, foreign: bool = False) -> None:
        try:
            import pocketsphinx
        except ImportError as error:
            raise MissingProgramError("pocketsphinx is not installed; run: pip install 'emotag[train]'") from error
        # Wide beams: the words are known, so that the search is small anyway.
        beams = {"beam": 1e-100, "pbeam": 1e-100, "wbeam": 1e-80}
        self._decoder = pocketsphinx.Decoder(
            lm=None, loglevel="FATAL", silprob=1e-4, fillprob=1e-20, bestpath=False, **beams
        )
        self._choices = _FOREIGN if foreign else {}
        self._classes: dict[str, tuple[str, ...]] = {}

    def align(self, samples: npt.NDArray[np.int16], words: Sequence[Word]) -> list[Phone]:
        """The phones of `words` in `samples` (`[N]`, 16 kHz), contiguous, with silences where they are heard.

        Raises:
            SpeechError: the words do not fit into the sound.
        """
        names = [self._name(word) for word in words]
        try:
            self._decoder.set_align_text(" ".join(names))
            self._hear(samples)
            self._decoder.set_alignment()
            self._hear(samples)
            phones = self._phones(self._decoder.get_alignment())
        except RuntimeError as error:
            raise SpeechError(f"pocketsphinx cannot align {len(words)} words: {error}") from error
        if [phone.word for phone in phones if phone.word is not None][-1:] != [len(words) - 1]:
            raise SpeechError(f"pocketsphinx did not find all of {len(words)} words")
        return phones

    def _hear(self, samples: npt.NDArray[np.int16]) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()

    def _name(self, word: Word) -> str:
        """The word's name in the decoder's dictionary, into which it is put when it is new."""
        name = "w" + hashlib.sha256(repr(word).encode()).hexdigest()[:16]
        if name not in self._classes:
            for number, (classes, phones) in enumerate(self._pronunciations(word), start=1):
                variant = name if number == 1 else f"{name}({number})"
                self._decoder.add_word(variant, " ".join(phones), False)
                self._classes[variant] = classes
        return name

    def _pronunciations(self, word: Word) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        """Classes, and the model's phones that they may be; a class is the same phone all through a word."""
        for classes in word:
            chosen = [name for name in self._choices if name in classes]
            for phones in itertools.product(*(self._choices[name] for name in chosen)):
                table = {**_PHONE, **dict(zip(chosen, phones, strict=True))}
                yield classes, [table[name] for name in classes]

    def _phones(self, alignment: Any) -> list[Phone]:
        phones: list[Phone] = []
        word = -1
        for entry in alignment:
            classes = self._classes.get(entry.name)
            word += classes is not None
            for index, part in enumerate(entry):
                phones.append(
                    Phone(
                        SILENCE if classes is None else classes[index],
                        _seconds(part.start),
                        _seconds(part.start + part.duration),
                        None if classes is None else word,
                        part.score / max(part.duration, 1),
                    )
                )
        return phones


def _seconds(frame: int) -> float:
    return frame * _FRAME + _MIDDLE if frame else 0.0
