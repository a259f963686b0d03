"""How a written prompt is said: its words as phoneme classes, from pocketsphinx's dictionary and espeak-ng."""

from __future__ import annotations

import functools
import gzip
import re
import shutil
import subprocess
import zlib
from pathlib import Path

from .errors import MissingProgramError, SpeechError
from .forced import Word
from .phonemes import class_of_flite, classes_of_ipa

_VOICES = {"en": "en-us", "es": "es-419", "fr": "fr-fr", "it": "it", "ru": "ru"}
# Spanish b between vowels does not shut the lips; it sounds, and nearly looks, like v.
_OPEN = {"β": "v"}
_SIGNS = {"*": " star ", "#": " pound ", "@": " at "}
_NOTES = re.compile(r"\[.*?\]|\(.*?\)|<.*?>")


def transcripts(path: Path) -> dict[str, str]:
    """The texts of prompts by name, from lines "name: text" (gzipped); notes in brackets are left out, and so is what
    holds nothing else.

    Raises:
        SpeechError: the file cannot be read.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise SpeechError(f"cannot read the transcripts {path}: {error}") from error
    texts = {}
    for line in lines:
        name, colon, text = line.partition(":")
        text = _NOTES.sub(" ", text.replace(f" {name}:", " ")).strip()
        if colon and not line.startswith(";") and re.search(r"\w", text):
            texts[name.strip()] = text
    return texts


def words_of(language: str, text: str) -> list[Word]:
    """The words of a text in the language en, es, fr, it or ru, each with all its pronunciations.

    Raises:
        MissingProgramError: espeak-ng or pocketsphinx is not installed.
        PhonemeError: espeak-ng used a symbol that has no class.
    """
    if language != "en":
        return [(classes,) for classes in _espeak(language, text)]
    for sign, name in _SIGNS.items():
        text = text.replace(sign, name)
    words: list[Word] = []
    for token in re.findall(r"[A-Za-z']+|[0-9]+", text):
        known = _dictionary().get(token.lower().strip("'")) or _dictionary().get(token.lower())
        words += [known] if known else [(classes,) for classes in _espeak(language, token)]
    return words


@functools.cache
def _dictionary() -> dict[str, Word]:
    """CMU's dictionary as it comes with pocketsphinx."""
    try:
        import pocketsphinx
    except ImportError as error:
        raise MissingProgramError("pocketsphinx is not installed; run: pip install 'emotag[train]'") from error
    found: dict[str, Word] = {}
    for line in Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text("utf-8").splitlines():
        name, *phones = line.split()
        word = re.sub(r"\(\d+\)$", "", name)
        found[word] = (*found.get(word, ()), tuple(class_of_flite(phone) for phone in phones))
    return found


@functools.lru_cache(4096)
def _espeak(language: str, text: str) -> tuple[tuple[str, ...], ...]:
    """Words as espeak-ng says them; it joins some that are written apart."""
    if shutil.which("espeak-ng") is None:
        raise MissingProgramError("espeak-ng is not installed; run: apt-get install espeak-ng")
    command = ["espeak-ng", "-q", "--ipa", "-v", _VOICES[language], "--stdin"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise SpeechError(f"espeak-ng failed on {text!r}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    # (en) and (fr) mark words that another language's rules speak, ^ and " softness and fronting in Russian.
    symbols = re.sub(r"\([a-z-]+\)", " ", done.stdout.decode()).translate({ord("^"): None, ord('"'): None})
    for close, wide in _OPEN.items():
        symbols = symbols.replace(close, wide)
    return tuple(classes for word in symbols.split() if (classes := classes_of_ipa(word)))
