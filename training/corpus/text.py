"""Text to speak: sentences written for this corpus, sentences from a small grammar, and pronounceable nonsense."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

# English only; other languages speak their written sentences and nonsense in their own phonology.
_SUBJECTS = (
    *("the baker", "my mother", "a young farmer", "the old man", "every woman", "our best pilot", "somebody"),
    *("the whole family", "a brave fox", "the big brown bear", "Peter", "Barbara", "the mayor", "this puppy"),
    *("a famous poet", "the boy", "the workers", "her father", "the judge", "a purple moth", "the ship"),
)
_VERBS = (
    *("bought", "found", "moved", "painted", "opened", "watched", "forgot", "borrowed", "brought back", "saw"),
    *("chose", "measured", "threw away", "kept", "built", "pushed over", "washed", "carried", "loved", "heard about"),
)
_OBJECTS = (
    *("a paper bag", "the heavy box", "five wooden boats", "an apple pie", "the empty room", "a bowl of soup"),
    *("the map of the village", "her favorite book", "a pair of shoes", "some fresh bread", "the broken lamp"),
    *("a piece of chalk", "the moving van", "a joyful song", "two thin feathers", "the television", "a vase"),
    *("my umbrella", "the beach house", "a large measure of flour", "the yellow yacht", "a bunch of bananas"),
)
_ENDINGS = (
    *("before the party", "by the river", "in the morning", "without a word", "above the shop", "at half past four"),
    *("on the way home", "for no good reason", "with both hands", "after the movie", "because it was warm"),
    *("under the bridge", "every other week", "in February", "as usual", "much too early", "from the top shelf"),
)
_OPENERS = ("well", "maybe", "of course", "remember", "by the way", "unfortunately", "this time", "look", "believe me")

_ONSETS = (
    *("b", "p", "m", "f", "v", "w", "b", "p", "m", "t", "d", "n", "s", "z", "sh", "ch", "j", "l", "r", "k", "g"),
    *("h", "y", "th", "bl", "pr", "st", "fl", "br", "tr", "kl", "sp", ""),
)
_NUCLEI = ("a", "e", "i", "o", "u", "ee", "oo", "ay", "oy", "ow", "ar", "er", "ie", "oa", "au")
_CODAS = ("", "", "", "m", "p", "b", "n", "t", "s", "f", "v", "l", "k", "sh", "ng", "mp", "st")
_PLAIN_ONSETS = ("b", "p", "m", "f", "v", "t", "d", "n", "s", "l", "r", "g", "c")
_PLAIN_NUCLEI = ("a", "e", "i", "o", "u")
_PINYIN = (
    *("ba", "pa", "ma", "fa", "bo", "mo", "wo", "ni", "li", "shu", "zhu", "xu", "gao", "bei", "pei", "ming"),
    *("feng", "wang", "guo", "dui", "bian", "pian", "mian", "hou", "qu", "jia", "wen", "ren", "chi", "bu", "mu"),
)
# Syllables of the languages that only festival speaks, each in its own letters: onsets, nuclei and codas.
_SYLLABLES = {
    "ru": (
        ("б", "п", "м", "б", "п", "м", "в", "ф", "т", "д", "н", "к", "г", "с", "з", "л", "р", "ш", "х", "пр", "бл", ""),
        ("а", "о", "у", "ы", "и", "е", "я", "а", "о"),
        ("", "", "", "", "м", "п", "н", "т", "к", "с", "л", "р"),
    ),
    "cs": (
        (
            "b",
            "p",
            "m",
            "b",
            "p",
            "m",
            "v",
            "f",
            "t",
            "d",
            "n",
            "k",
            "h",
            "s",
            "z",
            "l",
            "r",
            "š",
            "č",
            "pr",
            "bl",
            "j",
        ),
        ("a", "e", "i", "o", "u", "á", "í", "é", "ů"),
        ("", "", "", "", "m", "p", "n", "t", "k", "s", "l"),
    ),
    "fi": (
        ("p", "m", "p", "m", "b", "v", "f", "t", "d", "n", "k", "h", "s", "l", "r", "j", ""),
        ("a", "e", "i", "o", "u", "y", "ä", "ö", "aa", "uu", "ii", "ai", "oi", "au"),
        ("", "", "", "", "n", "t", "s", "l", "m"),
    ),
}


@functools.cache
def sentences(language: str) -> tuple[str, ...]:
    """The written sentences of a language: en, de, fr, es, it, cmn (numbered pinyin), ru, cs or fi."""
    lines = Path(__file__).with_name("sentences.txt").read_text("utf-8").splitlines()
    pairs = (line.split("\t", 1) for line in lines if line and not line.startswith("#"))
    return tuple(text for tag, text in pairs if tag == language)


def random_text(language: str, rng: np.random.Generator) -> str:
    """One phrase: half written, else (English) from the grammar or nonsense, which covers rare neighbours."""
    kind = rng.random()
    if kind < 0.5 or (language != "en" and kind < 0.7):
        return str(rng.choice(sentences(language)))
    if language == "en" and kind < 0.8:
        return _grammar(rng)
    return _nonsense(language, rng)


def _grammar(rng: np.random.Generator) -> str:
    text = f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_OBJECTS)}"
    if rng.random() < 0.6:
        text += f" {rng.choice(_ENDINGS)}"
    if rng.random() < 0.25:
        text = f"{rng.choice(_OPENERS)}, {text}"
    return text[0].upper() + text[1:] + ("?" if rng.random() < 0.15 else ".")


def _nonsense(language: str, rng: np.random.Generator) -> str:
    words = []
    for _ in range(rng.integers(3, 8)):
        if language == "cmn":
            words.append(f"{rng.choice(_PINYIN)}{rng.integers(1, 5)}")
            continue
        if language in _SYLLABLES:
            words.append(_word(language, rng))
            continue
        plain = language != "en"
        onsets, nuclei = (_PLAIN_ONSETS, _PLAIN_NUCLEI) if plain else (_ONSETS, _NUCLEI)
        syllables = [f"{rng.choice(onsets)}{rng.choice(nuclei)}" for _ in range(rng.integers(1, 4))]
        words.append("".join(syllables) + ("" if plain else str(rng.choice(_CODAS))))
    return " ".join(words) + "."


def _word(language: str, rng: np.random.Generator) -> str:
    onsets, nuclei, codas = _SYLLABLES[language]
    syllables = (f"{rng.choice(onsets)}{rng.choice(nuclei)}" for _ in range(rng.integers(2, 4)))
    return "".join(syllables) + str(rng.choice(codas))
