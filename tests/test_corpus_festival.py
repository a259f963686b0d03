"""Festival's recorded speakers: phones become the right classes, and their times are those of the sound."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from emotag.training.corpus import (
    FESTIVAL,
    PHONEMES,
    MissingProgramError,
    PhonemeError,
    Prosody,
    Segment,
    SpeechError,
    Utterance,
    Voice,
    random_text,
    sentences,
    synthesize,
)
from emotag.training.corpus import festival as festival_module
from emotag.training.corpus.alignment import closures
from emotag.training.corpus.phonemes import _FESTIVAL, classes_of_festival

LIPS = ("P", "B", "M", "F", "V")
TEXTS = {
    "ru": ("Папа поймал кабана, мама мыла собаку.", "Капуста, лопата, топор, забота, запах, обида, комары."),
    "cs": ("Kapitán popíjel kapučíno a zabalil obal.", "Robot umyl tabuli, pomalu a opatrně."),
    "it": ("Il sabato la nipote ama la copia del tema.", "Roba e topi, lupi e cubi, rami e fumo."),
    "en": ("A paper copy upon a happy puppy, apart from upper opinion.", "Mama made a robot in a summer cabin."),
    "fi": ("Lapa, lupa, tapa, rapu, sopu, sumu, samea omena.", "Koko talo on tämän hopeapaperin takana."),
}
ITALIAN = Voice("festival", "lp_diphone", "it")


def speak(voice: Voice, text: str, prosody: Prosody | None = None) -> Utterance:
    """Speech, or a skipped test that says what to install."""
    try:
        return synthesize(voice, text, prosody)
    except MissingProgramError as error:
        pytest.skip(str(error))


def pitch(utterance: Utterance) -> float:
    """Median pitch in Hz of the frames that repeat themselves, by autocorrelation."""
    found = []
    for start in range(0, len(utterance.samples) - 1024, 512):
        frame = utterance.samples[start : start + 1024] - utterance.samples[start : start + 1024].mean()
        repeats = np.correlate(frame, frame, "full")[1023:]
        lag = int(np.argmax(repeats[40:230])) + 40
        if repeats[lag] > 0.5 * repeats[0] > 0.05:
            found.append(16000 / lag)
    return float(np.median(found))


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_lips_shut_for_their_own_phones_alone(language: str) -> None:
    spelt = {
        "ru": {"P": "p pp", "B": "b bb", "M": "m mm", "F": "f ff", "V": "v vv"},
        "fi": {name: f"{name.lower()} {name.lower()}:" for name in LIPS},
        "en": {"P": "p", "B": "b", "M": "m em", "F": "f", "V": "v"},
    }.get(language, {name: name.lower() for name in LIPS})
    table = _FESTIVAL[language]
    for name in LIPS:
        assert {phone for phone, classes in table.items() if name in classes} == set(spelt[name].split())
    assert all(name in PHONEMES for classes in table.values() for name in classes)


def test_phones_of_each_language() -> None:
    assert classes_of_festival("ru", "aa") == ("AA",) and classes_of_festival("ru", "yy") == ("IH",)
    assert classes_of_festival("cs", "a:") == ("AA",) and classes_of_festival("cs", "r~") == ("ZH",)
    assert classes_of_festival("it", "E1") == ("EH",) and classes_of_festival("it", "ts") == ("T", "S")
    assert classes_of_festival("fi", "@:") == ("AE",) and classes_of_festival("fi", "7") == ("OE",)
    assert classes_of_festival("en", "axr") == ("ER",) and classes_of_festival("cs", "_") == ()
    with pytest.raises(PhonemeError, match="'qq' of language 'it'"):
        classes_of_festival("it", "qq")
    with pytest.raises(PhonemeError, match="'a' of language 'xx'"):
        classes_of_festival("xx", "a")


def test_phones_become_segments() -> None:
    """An affricate is halved, two m are one closure, a glottal stop belongs to the vowel after it."""
    phones = [("#", 0.1), ("m", 0.2), ("m", 0.3), ("c", 0.5), ("_", 0.6), ("a:", 0.8)]
    assert festival_module._segments("cs", phones) == [
        Segment("SIL", 0.0, 0.1),
        Segment("M", 0.1, 0.3),
        Segment("T", 0.3, 0.4),
        Segment("S", 0.4, 0.5),
        Segment("AA", 0.5, 0.8),
    ]


def test_joined_recordings_end_where_the_next_phone_begins() -> None:
    """Two units of 1600 samples; the second holds 400 of the phone before. 200 samples are lost, half at each end."""
    times = "pau 9.0\nm 9.5\nunit 100 100 1700\nunit 50 450 1650\n"
    ends = festival_module._phone_ends(times, 3000, 16000)
    assert ends == [("pau", (1600 + 400 - 100) / 16000), ("m", 3100 / 16000)]
    with pytest.raises(SpeechError, match="1 recordings for 2 phones"):
        festival_module._phone_ends("pau 1\nm 2\nunit 0 0 10\n", 10, 16000)


def test_a_closure_is_found_where_it_is() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    sound[6400:8000] *= 0.01
    segments = [Segment("AA", 0.0, 0.39), Segment("P", 0.39, 0.51), Segment("AA", 0.51, 1.0)]
    (closure,) = closures(Utterance(sound, segments))
    assert closure.shut == pytest.approx(0.01, abs=0.006) and closure.opened == pytest.approx(-0.01, abs=0.006)
    assert closure.drop > 25


@pytest.mark.parametrize("voice", FESTIVAL, ids=lambda voice: voice.name)
def test_the_times_are_those_of_the_sound(voice: Voice) -> None:
    """Between vowels, the lips are heard to shut and open about when the times say."""
    spoken = [speak(voice, text) for text in TEXTS[voice.language]]
    for utterance in spoken:
        assert utterance.samples.dtype == np.float32 and 0.1 < np.abs(utterance.samples).max() <= 1
        ends = [0.0, *(segment.end for segment in utterance.segments)]
        assert [segment.start for segment in utterance.segments] == pytest.approx(ends[:-1], abs=1e-9)
        assert ends[-1] == pytest.approx(utterance.duration, abs=1e-9) and np.diff(ends).min() > 0
    found = [closure for utterance in spoken for closure in closures(utterance)]
    assert len(found) >= 7
    assert abs(np.median([closure.shut for closure in found])) < 0.025
    # A stop's segment ends after its burst.
    assert -0.045 < np.median([closure.opened for closure in found]) < 0.015
    assert np.median([closure.drop for closure in found]) > 10


@pytest.mark.parametrize("language", ("ru", "cs", "fi"))
def test_texts_are_varied_and_can_be_spoken(language: str) -> None:
    rng = np.random.default_rng(5)
    texts = [random_text(language, rng) for _ in range(12)]
    assert len(sentences(language)) >= 15 and len(set(texts)) >= 9
    voice = next(voice for voice in FESTIVAL if voice.language == language)
    spoken = [segment.phoneme for text in texts for segment in speak(voice, text).segments]
    assert all(spoken.count(name) >= 3 for name in ("P", "M", "T", "K", "N"))


def test_the_same_arguments_speak_the_same() -> None:
    prosody = Prosody(rate=0.9, pitch=1.2)
    first = speak(ITALIAN, "La mamma beve.", prosody)
    speak(ITALIAN, "Papà parla troppo.", Prosody(rate=1.3))
    again = speak(ITALIAN, "La mamma beve.", prosody)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.segments == again.segments


def test_prosody_changes_rate_pitch_and_loudness() -> None:
    text = "La mamma ama il mare e la luna."
    plain, other = speak(ITALIAN, text), speak(ITALIAN, text, Prosody(rate=0.8, pitch=1.4, volume=0.5))
    assert 1.15 < other.duration / plain.duration < 1.35
    assert 1.25 < pitch(other) / pitch(plain) < 1.55
    assert np.abs(other.samples).max() < 0.75 * np.abs(plain.samples).max()


def test_what_cannot_be_spoken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpeechError, match="'kal_diphone' is unknown"):
        synthesize(Voice("festival", "kal_diphone"), "Hello.")
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/festival")
    with pytest.raises(SpeechError, match="cannot read 'мама'"):
        synthesize(ITALIAN, "мама")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingProgramError, match="apt-get install festival festvox-italp16k"):
        synthesize(ITALIAN, "La mamma.")


def test_a_missing_voice_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("festival") is None:
        pytest.skip("festival is not installed")
    monkeypatch.setitem(
        festival_module.VOICES, "nobody", festival_module.FestivalVoice("it", "ascii", "festvox-nobody")
    )
    with pytest.raises(MissingProgramError, match="apt-get install festival festvox-nobody"):
        synthesize(Voice("festival", "nobody", "it"), "La mamma.")


def test_overflown_peaks_are_put_to_the_limit() -> None:
    loud = np.array([0.2, 0.9, -0.9, -0.8, 0.95, 0.4, -0.4, -0.95, 0.99, -0.9, 0.0], np.float32)
    mended = festival_module._undo_overflow(loud, 16000)
    np.testing.assert_array_equal(mended, np.array([0.2, 0.9, 1, 1, 0.95, 0.4, -0.4, -0.95, -1, -0.9, 0], np.float32))
    click = np.array([0.0] * 50 + [0.8, -0.8] + [-0.5] * 50, np.float32)
    np.testing.assert_array_equal(festival_module._undo_overflow(click, 16000), click)
