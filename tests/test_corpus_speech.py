"""Synthesised speech: exact, contiguous phoneme times, the same for the same seed, errors that say what to install."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from emotag.runtime.errors import EmotagError
from emotag.training.corpus import (
    BILABIALS,
    ESPEAK,
    FLITE,
    HELD_OUT,
    PHONEMES,
    MissingProgramError,
    PhonemeError,
    Prosody,
    SpeechError,
    Utterance,
    Voice,
    concatenate,
    frame_classes,
    random_text,
    sentences,
    silence,
    stretch,
    synthesize,
)
from emotag.training.corpus import speech as speech_module
from emotag.training.corpus.phonemes import class_of_flite, classes_of_ipa

TEXT = "The paper boat drifted past the old bridge, before my mother came."
VOICES = (FLITE[0], HELD_OUT[0], ESPEAK["en"][0], HELD_OUT[1])


def check_times(utterance: Utterance) -> None:
    """Contiguous from the first sample to the last, none empty, all known."""
    assert utterance.samples.dtype == np.float32
    assert np.abs(utterance.samples).max(initial=0) <= 1
    end = 0.0
    for segment in utterance.segments:
        assert segment.start == pytest.approx(end, abs=1e-9)
        assert segment.end > segment.start
        assert segment.phoneme in PHONEMES
        end = segment.end
    assert end == pytest.approx(utterance.duration, abs=1e-9)


@pytest.mark.parametrize("voice", VOICES, ids=lambda voice: f"{voice.synthesizer}-{voice.name}")
def test_phoneme_times_cover_the_audio(voice: Voice) -> None:
    utterance = synthesize(voice, TEXT)
    check_times(utterance)
    assert 2.0 < utterance.duration < 8.0
    spoken = [segment.phoneme for segment in utterance.segments]
    assert spoken.count("P") >= 2 and spoken.count("B") >= 2 and spoken.count("M") >= 2


@pytest.mark.parametrize("voice", VOICES, ids=lambda voice: f"{voice.synthesizer}-{voice.name}")
def test_stops_are_hushed_where_the_times_say(voice: Voice) -> None:
    """The loudness during P's closure is far below that of the vowels: the times belong to this sound."""
    utterance = synthesize(voice, "A paper copy upon a happy puppy, apart from upper opinion.")
    power = utterance.samples.astype(np.float64) ** 2

    def level(start: float, end: float) -> float:
        return float(np.sqrt(power[int(start * 16000) : int(end * 16000) + 1].mean()))

    closures, vowels = [], []
    for segment in utterance.segments:
        width = segment.end - segment.start
        if segment.phoneme == "P" and segment.start > 0:
            closures.append(
                min(level(segment.start + f * width, segment.start + (f + 0.2) * width) for f in (0.1, 0.3))
            )
        elif segment.phoneme in ("AH", "AA", "AE", "OW", "IY"):
            vowels.append(level(segment.start + 0.25 * width, segment.end - 0.25 * width))
    assert len(closures) >= 6
    assert np.median(closures) < 0.2 * np.median(vowels)


@pytest.mark.parametrize("voice", VOICES, ids=lambda voice: f"{voice.synthesizer}-{voice.name}")
def test_the_same_seed_speaks_the_same(voice: Voice) -> None:
    first, second = (synthesize(voice, TEXT, Prosody(rate=0.9), seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.samples, second.samples)
    assert first.segments == second.segments


@pytest.mark.parametrize("language", sorted(ESPEAK))
def test_every_written_sentence_has_known_phonemes(language: str) -> None:
    assert len(sentences(language)) >= 8
    for text in sentences(language)[:12]:
        check_times(synthesize(ESPEAK[language][0], text))


@pytest.mark.parametrize("language", sorted(ESPEAK))
def test_generated_text_can_be_spoken(language: str) -> None:
    rng = np.random.default_rng(3)
    texts = [random_text(language, rng) for _ in range(6)]
    assert len(set(texts)) > 3
    assert texts == [random_text(language, again) for again in [np.random.default_rng(3)] for _ in range(6)]
    for text in texts:
        check_times(synthesize(ESPEAK[language][1], text))


@pytest.mark.parametrize("voice", VOICES[:3], ids=lambda voice: f"{voice.synthesizer}-{voice.name}")
def test_prosody_changes_rate(voice: Voice) -> None:
    slow, fast = (synthesize(voice, TEXT, Prosody(rate=rate)).duration for rate in (0.8, 1.2))
    assert 1.2 < slow / fast < 1.8


def test_training_never_hears_the_held_out_voices() -> None:
    trained = {(v.synthesizer, v.name) for v in FLITE} | {(v.synthesizer, v.name) for vs in ESPEAK.values() for v in vs}
    held = {(v.synthesizer, v.name) for v in HELD_OUT}
    assert {name for name, _ in held} == {"flite", "espeak"}
    assert not trained & held
    variants = {name.split("+")[1] for synthesizer, name in held if synthesizer == "espeak"}
    assert not variants & {name.split("+")[1] for synthesizer, name in trained if synthesizer == "espeak"}


def test_stretching_scales_time() -> None:
    spoken = synthesize(FLITE[1], "A happy mother.")
    quick = stretch(spoken, 1.25)
    check_times(quick)
    assert quick.duration == pytest.approx(spoken.duration / 1.25, abs=1e-3)
    starts = [segment.start * 1.25 for segment in quick.segments]
    np.testing.assert_allclose(starts, [segment.start for segment in spoken.segments], atol=1e-6)


def test_concatenation_merges_silence() -> None:
    spoken = synthesize(FLITE[0], "Hello.")
    whole = concatenate([silence(0.5), spoken, silence(0.25), silence(0.0), spoken])
    check_times(whole)
    assert whole.duration == pytest.approx(0.75 + 2 * spoken.duration)
    assert all(not (a.phoneme == b.phoneme == "SIL") for a, b in zip(whole.segments, whole.segments[1:], strict=False))


def test_frame_classes_follow_the_times() -> None:
    spoken = synthesize(FLITE[0], "Mama, papa.")
    labels = [PHONEMES[index] for index in frame_classes(spoken.segments, int(spoken.duration * 50), 50)]
    for segment in spoken.segments:
        if segment.end - segment.start > 0.05:
            assert labels[int((segment.start + segment.end) / 2 * 50 - 0.5)] == segment.phoneme
    assert BILABIALS <= set(PHONEMES) and labels[0] == "SIL"


def test_ipa_and_flite_symbols() -> None:
    assert classes_of_ipa("ˈaɪ") == ("AY",)
    assert classes_of_ipa("tʃ") == ("CH",)
    assert classes_of_ipa("onɡ") == ("AO", "N", "G")
    assert classes_of_ipa("ɑ̃ː") == ("AA",)
    assert classes_of_ipa("") == ()
    assert class_of_flite("ax") == "AH" and class_of_flite("pau") == "SIL"
    with pytest.raises(PhonemeError, match="☃"):
        classes_of_ipa("☃")
    with pytest.raises(PhonemeError, match="qq"):
        class_of_flite("qq")


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingProgramError, match="apt-get install flite"):
        synthesize(FLITE[0], "Hello.")
    worker = tmp_path / "worker.py"
    worker.write_text("import sys; sys.exit(3)")
    monkeypatch.setattr(speech_module, "_WORKER", worker)
    with pytest.raises(MissingProgramError, match="apt-get install espeak-ng"):
        synthesize(ESPEAK["en"][0], "Hello.")
    assert issubclass(MissingProgramError, EmotagError)


def test_unknown_voices_are_refused() -> None:
    with pytest.raises(SpeechError, match="no voice 'gmw/none'"):
        synthesize(Voice("espeak", "gmw/none"), "Hello.")
    with pytest.raises(SpeechError, match="unknown synthesizer"):
        synthesize(Voice("parrot", "polly"), "Hello.")
