"""Phoneme classes shared by all synthesizers, and how their own symbols map to them.

The classes are those of ARPAbet without stress, plus SIL (silence), UE and OE (front rounded vowels, IPA y and
ø), DX (tap or trill) and X (velar or uvular fricative), which other languages need.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...runtime.errors import EmotagError

SILENCE = "SIL"

VOWELS = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY"),
    *("IH", "IY", "OW", "OY", "UH", "UW", "UE", "OE"),
)
CONSONANTS = (
    *("B", "P", "M", "F", "V", "TH", "DH", "T", "D", "N", "S", "Z", "SH", "ZH", "CH", "JH"),
    *("L", "R", "DX", "K", "G", "NG", "X", "HH", "Y", "W"),
)
PHONEMES = (SILENCE, *VOWELS, *CONSONANTS)
PHONEME_INDEX = {name: index for index, name in enumerate(PHONEMES)}

BILABIALS = frozenset({"P", "B", "M"})
LABIODENTALS = frozenset({"F", "V"})
OPEN_VOWELS = frozenset({"AA", "AE", "AO", "AW", "AY", "EH"})
STOPS = frozenset({"P", "B", "T", "D", "K", "G", "CH", "JH"})

# Vowels whose articulation moves, as the two classes they move between.
DIPHTHONGS = {
    "AW": ("AA", "UH"),
    "AY": ("AA", "IH"),
    "EY": ("EH", "IY"),
    "OW": ("AO", "UW"),
    "OY": ("AO", "IH"),
}


class PhonemeError(EmotagError):
    """A synthesizer's symbol that no class covers."""


@dataclass(frozen=True)
class Segment:
    """A phoneme class and the seconds it lasts, start inclusive, end exclusive."""

    phoneme: str
    start: float
    end: float


_IPA = {
    # Diphthongs and affricates first, because the longest match wins.
    **{"aʊ": "AW", "aɪ": "AY", "eɪ": "EY", "oʊ": "OW", "əʊ": "OW", "ɔɪ": "OY", "ɔø": "OY", "ɔʏ": "OY"},
    **{"tʃ": "CH", "dʒ": "JH", "tɕ": "CH", "dʑ": "JH", "ts.": "CH", "tʂ": "CH", "s.": "SH", "z.": "ZH"},
    **{"iɜ": "IY", "uɜ": "UW", "ɑu": "AW", "ɑʊ": "AW", "ai": "AY", "ei": "EY", "ou": "OW"},
    **{"a": "AA", "ɑ": "AA", "ɐ": "AH", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɔ": "AO", "ɒ": "AO", "o": "AO"},
    **{"e": "EH", "ɛ": "EH", "ɜ": "ER", "ɝ": "ER", "ɚ": "ER", "i": "IY", "ɪ": "IH", "ɨ": "IH", "ᵻ": "IH"},
    **{"u": "UW", "ʉ": "UW", "ʊ": "UH", "ɯ": "UH", "ɤ": "AH", "y": "UE", "ʏ": "UE", "ø": "OE", "œ": "OE", "ɵ": "OE"},
    **{"b": "B", "p": "P", "m": "M", "ɱ": "M", "β": "B", "f": "F", "ɸ": "F", "v": "V", "ʋ": "V"},
    **{"θ": "TH", "ð": "DH", "t": "T", "d": "D", "ʈ": "T", "ɖ": "D", "n": "N", "ɲ": "N", "ɳ": "N"},
    **{"s": "S", "z": "Z", "ʃ": "SH", "ʒ": "ZH", "ɕ": "SH", "ʑ": "ZH", "ʂ": "SH", "ʐ": "ZH", "ç": "HH"},
    **{"l": "L", "ɫ": "L", "ɭ": "L", "ʎ": "L", "ɬ": "L", "ɹ": "R", "ɻ": "R", "r": "DX", "ɾ": "DX", "ʀ": "X"},
    **{"k": "K", "c": "K", "g": "G", "ɡ": "G", "ɟ": "G", "ŋ": "NG", "x": "X", "χ": "X", "ɣ": "X", "ʁ": "X"},
    **{"h": "HH", "ɦ": "HH", "j": "Y", "ʝ": "Y", "ɥ": "UE", "w": "W", "ʍ": "W"},
}
_LONGEST = max(len(symbol) for symbol in _IPA)
_IGNORED = frozenset("ˈˌːˑ:.ʔ̩̪̯̥̃ʲʰ͡'ʼ-;?!0123456789")

_FLITE = {"ax": "AH", "pau": SILENCE, "ssil": SILENCE, "axr": "ER", "el": "L", "em": "M", "en": "N", "dx": "DX"}


def classes_of_ipa(symbols: str) -> tuple[str, ...]:
    """The classes of one IPA string as espeak-ng reports it; () if it holds only modifiers.

    Raises:
        PhonemeError: a symbol has no class.
    """
    classes: list[str] = []
    position = 0
    while position < len(symbols):
        for length in range(_LONGEST, 0, -1):
            found = _IPA.get(symbols[position : position + length])
            if found is not None:
                classes.append(found)
                position += length
                break
        else:
            if symbols[position] not in _IGNORED:
                raise PhonemeError(
                    f"no phoneme class for {symbols[position]!r} in {symbols!r}; "
                    "add it to the table in training/corpus/phonemes.py or leave the voice out"
                )
            position += 1
    return tuple(classes)


def class_of_flite(symbol: str) -> str:
    """The class of one flite segment name.

    Raises:
        PhonemeError: the name has no class.
    """
    name = _FLITE.get(symbol, symbol.upper())
    if name not in PHONEME_INDEX:
        raise PhonemeError(f"no phoneme class for flite's segment {symbol!r}; add it to training/corpus/phonemes.py")
    return name


def frame_classes(segments: list[Segment], count: int, rate: float) -> list[int]:
    """Class indices at the centres of `count` frames of a track with `rate` frames a second."""
    labels = []
    position = 0
    for frame in range(count):
        time = (frame + 0.5) / rate
        while position < len(segments) - 1 and segments[position].end <= time:
            position += 1
        inside = position < len(segments) and segments[position].start <= time < segments[position].end
        labels.append(PHONEME_INDEX[segments[position].phoneme if inside else SILENCE])
    return labels
