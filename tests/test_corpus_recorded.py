"""Recorded people: texts become phones, phones get times, and what cannot be trusted is left out."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from emotag.training.corpus import (
    PHONEMES,
    RECORDED,
    TALKIES,
    MissingProgramError,
    SpeechError,
    Utterance,
    Voice,
    recorded_sources,
    recorded_times,
    synthesize,
)
from emotag.training.corpus import recorded as recorded_module
from emotag.training.corpus.alignment import closures
from emotag.training.corpus.forced import Aligner, Phone, Word
from emotag.training.corpus.phonemes import SILENCE
from emotag.training.corpus.recorded import draw_phrase, phrases, recorded_speech
from emotag.training.corpus.recorded_phrases import choose, limit
from emotag.training.corpus.recorded_sources import PROMPTS, SPEAKERS
from emotag.training.corpus.recorded_times import Timed
from emotag.training.corpus.transcripts import transcripts, words_of
from emotag.training.demo.assemble import HEAD
from emotag.training.demo.clips import ClipRequest, make_clips
from emotag.training.head import HeadModel

ENGLISH = "en_US_f_Allison"
TEXT = recorded_sources.TEXTS / "asterisk-core-sounds-en" / "core-sounds-en.txt.gz"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sounds and texts with a few prompts of the English speaker, in place of the installed one."""
    if not (recorded_sources.SOUNDS / ENGLISH).is_dir() or not TEXT.exists():
        pytest.skip("the recordings are not installed; run: apt-get install asterisk-core-sounds-en-g722")
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    folder = tmp_path_factory.mktemp("recorded")
    texts = folder / "asterisk-core-sounds-en"
    texts.mkdir()
    shutil.copy(TEXT, texts)
    (folder / ENGLISH / "digits").mkdir(parents=True)
    sounds = recorded_sources.SOUNDS
    for name in ("agent*", "beep", "conf-getp*", "conf-o*", "vm-mi*", "spy-*", "queue-y*", "digits/5"):
        for path in sorted((sounds / ENGLISH).glob(f"{name}.g722")):
            shutil.copy(path, folder / path.relative_to(sounds))
    return folder


@pytest.fixture
def installed(few: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(recorded_sources, "SOUNDS", few)
    monkeypatch.setattr(recorded_sources, "TEXTS", few)
    return few


def test_notes_and_what_is_not_speech_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt.gz"
    lines = ["\ufeff; Title: of all", "", "beep: [a tone]", "a/b: at [@]", "one: one: Press 1, (loud) now.", "no text"]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert transcripts(path) == {"a/b": "at", "one": "Press 1,   now."}
    path.write_bytes(b"no gzip")
    with pytest.raises(SpeechError, match="cannot read the transcripts"):
        transcripts(path)


def test_english_words_have_the_pronunciations_of_the_dictionary() -> None:
    the, party, star = words_of("en", "The party's *")
    assert set(the) == {("DH", "AH"), ("DH", "IY")}
    assert ("P", "AA", "R", "T", "IY", "Z") in party and star == (("S", "T", "AA", "R"),)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_other_words_are_those_of_espeak() -> None:
    assert words_of("en", "1 zzyzxbob")[0] == (("W", "AH", "N"),)
    assert words_of("it", "Papà!") == [(("P", "AA", "P", "AA"),)]
    assert words_of("ru", "мама, ключ") == [(("M", "AA", "M", "AA"),), (("K", "L", "UW", "CH"),)]
    # b between vowels does not shut the lips of a Spaniard.
    assert words_of("es", "la clave, una bomba") == [
        *[(("L", "AA"),), (("K", "L", "AA", "V", "EH"),)],
        *[(("UW", "N", "AA"),), (("V", "AO", "M", "B", "AA"),)],
    ]
    known = {name for text in ("уйдёт эхо", "щи", "съезд") for (word,) in words_of("ru", text) for name in word}
    assert known <= set(PHONEMES)


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_known_times_are_found_again() -> None:
    """flite says when it says what: the aligner, told the phones alone, is 25 ms off at most, half of the time."""
    spoken = synthesize(Voice("flite", "slt"), "My mother bought a paper bag, but the old man opened the heavy box.")
    truth = [segment for segment in spoken.segments if segment.phoneme != SILENCE]
    words = [(tuple(s.phoneme for s in truth[first : first + 4]),) for first in range(0, len(truth), 4)]
    phones = Aligner().align(np.rint(spoken.samples * 32767).astype(np.int16), words)
    found = [phone for phone in phones if phone.word is not None]
    assert [phone.phoneme for phone in found] == [segment.phoneme for segment in truth]
    errors = np.array([phone.start - segment.start for phone, segment in zip(found, truth, strict=True)])
    assert np.median(np.abs(errors)) < 0.015 and abs(np.median(errors)) < 0.008
    assert np.percentile(np.abs(errors), 90) < 0.04


def test_words_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SpeechError, match="words"):
        Aligner().align(np.zeros(1600, np.int16), [(("AA", "B") * 20,)] * 5)


def test_short_silences_are_closures() -> None:
    phones = [phone("AA", 0.0, 0.2, 0), phone(SILENCE, 0.2, 0.26), phone("P", 0.26, 0.3, 1), phone("M", 0.3, 0.35, 1)]
    mended = recorded_times._shut_closures([*phones, phone(SILENCE, 0.35, 0.39), phone("AA", 0.39, 0.5, 2)], 0.6)
    assert [(p.phoneme, round(p.start, 3), round(p.end, 3)) for p in mended] == [
        *[("AA", 0.0, 0.2), ("P", 0.2, 0.3), ("M", 0.3, 0.37)],
        ("AA", 0.37, 0.6),
    ]


def test_words_end_where_it_becomes_quiet() -> None:
    """A pause over which the aligner stretched a vowel and a stop; the stop keeps 60 ms of it."""
    phones = [phone("AA", 0.0, 0.5, 0), phone("P", 0.5, 0.95, 1), phone("AA", 0.95, 1.2, 1)]
    parted = recorded_times._part_words(phones, 0.4, 0.9)
    assert [(p.phoneme, round(p.start, 3), round(p.end, 3)) for p in parted] == [
        *[("AA", 0.0, 0.4), (SILENCE, 0.4, 0.84)],
        *[("P", 0.84, 0.95), ("AA", 0.95, 1.2)],
    ]
    assert recorded_times._part_words([phone("AA", 0, 1, 0), phone("S", 1, 2, 0)], 0.9, 1.2) == [
        *[phone("AA", 0, 1, 0), phone("S", 1, 2, 0)]
    ]


def test_phrases_that_are_not_trusted() -> None:
    good = [phone("AA", 0.1 * k, 0.1 * k + 0.1, k) for k in range(8)]
    timed = {"good": prompt(good), "bad": prompt([replace(good[0], score=-500.0), *good[1:]])}
    timed["long"] = prompt([replace(good[0], end=0.9)])
    timed["faint"] = prompt(good, [-20.0] * 7 + [-60.0])
    timed["noisy"] = prompt([phone(SILENCE, 0, 0.1), replace(good[1], word=0)], [-22.0, -20.0])
    known, rejects = choose(timed, ("odd",))
    assert [phrase.prompt for phrase in known] == ["good"] and rejects.prompts == ("odd",)
    assert rejects.seconds == {
        **{"unlike its text": 0.8, "a phone too long": 0.9},
        **{"a vowel without sound": 0.8, "sound in a pause": 0.2},
    }


def test_phrases_are_parted_at_pauses() -> None:
    """Phrases of 4 s part in the middle of the pauses between them; one of 1 s stays with its neighbour."""
    phones: list[Phone] = []
    for words in (40, 10, 40):
        start = phones[-1].end if phones else 0.0
        phones += [phone("AA", start + 0.1 * k, start + 0.1 * k + 0.1, len(phones) + k) for k in range(words)]
        phones.append(phone(SILENCE, phones[-1].end, phones[-1].end + 0.4))
    levels = [-90.0 if p.word is None else -20.0 for p in phones]
    known, _ = choose({"all": prompt(phones, levels)}, ())
    assert [(phrase.first, phrase.last) for phrase in known] == [(0, 16000 * 5.6), (16000 * 5.6, 16000 * 10.2)]
    for phrase in known:
        ends = [0.0, *(segment.end for segment in phrase.segments)]
        assert [segment.start for segment in phrase.segments] == ends[:-1]
        assert ends[-1] == (phrase.last - phrase.first) / 16000
        assert phrase.segments[-1].phoneme == SILENCE


def test_nobody_has_more_than_a_quarter_of_a_game() -> None:
    """Of a hero's phrases some are left out, not the first or last but always the same, until the others have 3/4."""
    good = [phone("AA", 0.1 * k, 0.1 * k + 0.1, k) for k in range(10)]
    timed = {name: prompt(good) for name in [f"JOE{k:05d}" for k in range(20)] + [f"MIK_{k:04d}" for k in range(12)]}
    known, rejects = choose(timed, ())
    kept, told = limit(known, rejects, re.compile("JOE"))
    heroes = [phrase.prompt for phrase in kept if phrase.prompt.startswith("JOE")]
    assert len(heroes) == 4 and len(kept) == 16 and [phrase for phrase in known if phrase in kept] == list(kept)
    assert heroes not in ([f"JOE{k:05d}" for k in range(4)], [f"JOE{k:05d}" for k in range(16, 20)])
    assert told.seconds == {"too much of one person": 16.0}
    assert limit(kept, rejects, re.compile("JOE")) == (kept, rejects)
    assert limit((), rejects, re.compile("JOE")) == ((), rejects)


def test_the_times_are_those_of_the_sound(installed: Path) -> None:
    """Between vowels, the lips are heard to shut and open about when the times say."""
    known, rejects = phrases(ENGLISH, installed / "cache")
    assert rejects.prompts == () and not any(phrase.prompt.startswith("beep") for phrase in known)
    assert "digits/5" in {phrase.prompt for phrase in known}
    spoken = [recorded_speech(ENGLISH, phrase) for phrase in known]
    found = [closure for utterance in spoken for closure in closures(utterance)]
    assert sum(utterance.duration for utterance in spoken) > 35 and len(found) >= 7
    assert abs(np.median([closure.shut for closure in found])) < 0.02
    assert -0.045 < np.median([closure.opened for closure in found]) < 0.015
    assert np.median([closure.drop for closure in found]) > 10
    check_whole(spoken)


def test_times_are_kept(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = installed / "cache"
    first = phrases(ENGLISH, cache)
    assert len(list(cache.glob(f"recorded-{ENGLISH}-*.json"))) == 1
    monkeypatch.setattr(recorded_module, "_LOADED", {})
    monkeypatch.delattr(recorded_module, "Aligner")
    assert phrases(ENGLISH, cache) == first
    monkeypatch.setattr(recorded_module, "ALIGNMENT_VERSION", 0)
    monkeypatch.setattr(recorded_module, "_LOADED", {})
    with pytest.raises(NameError, match="Aligner"):
        phrases(ENGLISH, cache)


def test_damaged_times_are_named(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = installed / "damaged"
    cache.mkdir()
    path = recorded_module.times_file(ENGLISH, cache)
    for content in ("{", "[]", "{}", '{"timed": {"beep": [[[1]], []]}, "failed": []}'):
        path.write_text(content)
        monkeypatch.setattr(recorded_module, "_LOADED", {})
        with pytest.raises(SpeechError, match=f"cannot read the times in {path} .*; delete it"):
            phrases(ENGLISH, cache)


def test_an_interrupted_alignment_goes_on(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten prompts at a time are kept; the second run aligns the others, and both together are as if there was one."""
    aligned: list[int] = []
    stop = [15]

    class Fast:
        def __init__(self, foreign: bool) -> None:
            assert not foreign

        def align(self, samples: npt.NDArray[np.int16], words: Sequence[Word]) -> list[Phone]:
            if len(aligned) == stop[0]:
                raise KeyboardInterrupt
            aligned.append(len(samples))
            return [phone("AA", 0.0, len(samples) / 16000, 0)]

    monkeypatch.setattr(recorded_module, "_LOADED", {})
    monkeypatch.setattr(recorded_module, "_SAVED", 10)
    monkeypatch.setattr(recorded_module, "Aligner", Fast)
    with pytest.raises(KeyboardInterrupt):
        phrases(ENGLISH, installed / "interrupted")
    assert [path.suffix for path in (installed / "interrupted").iterdir()] == [".begun"]
    stop[0] = -1
    known = phrases(ENGLISH, installed / "interrupted")
    assert [path.suffix for path in (installed / "interrupted").iterdir()] == [".json"]
    once = aligned[:10] + aligned[15:]
    aligned.clear()
    assert phrases(ENGLISH, installed / "whole") == known
    assert aligned == once


def test_clips_of_recorded_voices(installed: Path) -> None:
    voice = next(voice for voice in RECORDED if voice.name == ENGLISH)
    names = HeadModel.load(HEAD).expression_names
    request = ClipRequest(count=2, frames=100, seed=5, voices=(voice,), emotional=0.0, stretched=1.0)
    clips = make_clips(request, names, None, installed / "cache")
    again = make_clips(request, names, range(1, 2), installed / "cache")
    assert clips.samples.shape == (2, 64000) and (clips.phonemes != 0).mean() > 0.4
    np.testing.assert_array_equal(clips.samples[1], again.samples[0])
    rng = np.random.default_rng(1)
    drawn = [draw_phrase(ENGLISH, rng, installed / "cache") for _ in range(40)]
    assert len({(phrase.prompt, phrase.first) for phrase in drawn}) > 8


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [voice.name for voice in RECORDED] == list(PROMPTS)
    assert [voice.name for voice in TALKIES] == [name for name in SPEAKERS if name not in PROMPTS]
    monkeypatch.setattr(recorded_sources, "SOUNDS", tmp_path)
    with pytest.raises(
        MissingProgramError, match="apt-get install asterisk-core-sounds-it-g722 asterisk-core-sounds-it"
    ):
        phrases("it_IT_m_Carlo", tmp_path)
    with pytest.raises(SpeechError, match="'nobody' is unknown"):
        phrases("nobody", tmp_path)
    with pytest.raises(SpeechError, match="draw_phrase"):
        synthesize(RECORDED[0], "Hello.")


def phone(name: str, start: float, end: float, word: int | None = None) -> Phone:
    return Phone(name, start, end, word, 0.0)


def prompt(phones: list[Phone], levels: list[float] | None = None) -> Timed:
    return Timed(tuple(phones), tuple(levels or [-20.0] * len(phones)))


def check_whole(spoken: list[Utterance]) -> None:
    """Segments are contiguous and cover the sound."""
    for utterance in spoken:
        assert utterance.samples.dtype == np.float32 and 0.1 < np.abs(utterance.samples).max() <= 1
        ends = [0.0, *(segment.end for segment in utterance.segments)]
        assert [segment.start for segment in utterance.segments] == pytest.approx(ends[:-1], abs=1e-9)
        assert ends[-1] == pytest.approx(utterance.duration, abs=1e-9) and np.diff(ends).min() > 0
