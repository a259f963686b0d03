"""Emotions that are asked for: names, the plane of valence and arousal, transitions, timelines, what frames report."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_bundle import Shape, write_bundle
from test_runtime_stream import noise, pushed, same, stepped

from emotag.runtime import Avatar, ControlError, Emotion, Model
from emotag.runtime.emotion import NAMES, action_units, from_probabilities, probabilities
from emotag.runtime.manifest import ACTION_UNITS, EMOTIONS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    shape = Shape(size=16, gaussians=20)
    return Model.load(write_bundle(tmp_path_factory.mktemp("emotion") / "a.emotag", shape), threads=1)


@pytest.fixture
def avatar(model: Model) -> Avatar:
    return Avatar(model)


@given(v=st.floats(-1, 1), a=st.floats(-1, 1))
@settings(max_examples=200, derandomize=True)
def test_the_plane_and_its_inverse_agree_everywhere(v: float, a: float) -> None:
    emotion, radius = Emotion.at(valence=v, arousal=a), max(math.hypot(v, a), 1.0)
    if math.hypot(v, a) > 1e-6:
        assert emotion.valence == pytest.approx(v / radius, abs=1e-9)
        assert emotion.arousal == pytest.approx(a / radius, abs=1e-9)
    assert 0 <= emotion.intensity <= 1 and sum(emotion.shares.values()) == pytest.approx(1)


def test_the_plane_is_continuous() -> None:
    names = (*EMOTIONS, "contempt")
    angles = np.linspace(0, 2 * np.pi, 2000)
    found = np.array([probabilities(Emotion.at(math.cos(t), math.sin(t)), names) for t in angles])
    assert np.abs(np.diff(found, axis=0)).max() < 0.03


def test_the_plane_goes_around_a_class_that_an_avatar_has_not_learned(avatar: Avatar) -> None:
    place = Emotion.at(valence=-0.99, arousal=-0.1)  # contempt
    assert "contempt" in place.shares and place.placed
    found = dict(zip(EMOTIONS, probabilities(place, EMOTIONS), strict=True))
    assert found["disgust"] > 0.3 and found["sad"] > 0.1 and sum(found.values()) == pytest.approx(1)
    assert 1 - found["neutral"] == pytest.approx(place.intensity)
    avatar.emotion = place
    with pytest.raises(ControlError, match="has not learned 'contempt'"):
        avatar.emotion = "contempt"
    assert avatar.emotion is place


def test_names_aliases_levels_and_mixtures() -> None:
    for alias, name in {"Anger": "angry", "surprised": "surprise", "disgusted": "disgust", "sadness": "sad"}.items():
        assert Emotion(alias).name == name
    assert {"happy", "sad", "angry", "surprise", "disgust", "neutral", "contempt", "fear"} <= set(NAMES)
    assert [Emotion("sad", level=n).intensity for n in (1, 2, 3)] == [1 / 3, 2 / 3, 1]
    mixed = Emotion({"happy": 1, "surprise": 1, "neutral": 2}, intensity=0.8)
    assert mixed.intensity == pytest.approx(0.4) and mixed.shares == {"happy": 0.5, "surprise": 0.5}
    again = from_probabilities(probabilities(mixed, EMOTIONS), EMOTIONS)
    assert again.intensity == pytest.approx(0.4) and again.shares == pytest.approx(mixed.shares)
    assert Emotion("neutral").intensity == 0 and not any(action_units(Emotion("neutral")))
    assert dict(zip(ACTION_UNITS, action_units(Emotion("angry")), strict=True)) == {
        **dict.fromkeys(ACTION_UNITS, 0.0), "AU04": 4.4, "AU07": 4.3,
    }  # fmt: skip
    assert action_units(Emotion({"angry": 1, "sad": 1}))[ACTION_UNITS.index("AU04")] == pytest.approx((4.4 + 1.8) / 2)
    half = np.array(action_units(Emotion("angry", intensity=0.5)))
    assert np.allclose(action_units(Emotion("angry")), 2 * half)


BAD = [
    "joyful", "", 3, np.nan, {"happy": -1}, {"happy": np.nan}, {}, {"happy": 0.0}, [], [(0, "happy"), (0, "sad")],
    [(2, "happy"), (1, "sad")], [(-1, "happy")], [(np.nan, "happy")], [("happy", 0)], ["happy"], "contempt",
]  # fmt: skip


@pytest.mark.parametrize("wrong", BAD, ids=str)
def test_what_is_no_emotion_is_refused_and_changes_nothing(model: Model, wrong: object) -> None:
    avatar = Avatar(model)
    with pytest.raises(ControlError):
        avatar.emotion = wrong
    assert avatar.emotion is None and same(avatar.step(noise(640)), Avatar(model).step(noise(640)))


@pytest.mark.parametrize("make", [
    lambda: Emotion("happy", intensity=1.1), lambda: Emotion("happy", intensity=-0.1),
    lambda: Emotion("happy", intensity=float("nan")), lambda: Emotion("happy", level=4),
    lambda: Emotion("happy", 0.5, level=1), lambda: Emotion.at(2, 0), lambda: Emotion.at(0, float("nan")),
    lambda: Emotion("happy", intensity="much"),
])  # fmt: skip
def test_intensity_and_places_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ControlError):
        make()  # type: ignore[operator]


def test_a_network_that_cannot_be_steered_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_bundle(tmp_path_factory.mktemp("released") / "a.emotag", Shape(size=16, gaussians=20, steerable=False))
    avatar = Avatar(path, threads=1)
    with pytest.raises(ControlError, match="cannot be steered"):
        avatar.emotion = "happy"
    avatar.emotion = None
    assert stepped(avatar, noise(640 * 6))[-1].emotion.weight == 0


def test_an_emotion_set_before_the_first_frame_holds_from_there_and_is_reported(avatar: Avatar, model: Model) -> None:
    avatar.emotion = Emotion("happy", intensity=0.6)
    frame = stepped(avatar, noise(640 * 6))[-1]
    assert frame.emotion.name == "happy" and frame.emotion.intensity == pytest.approx(0.6, abs=1e-6)
    assert frame.emotion.weight == 1 and frame.emotion.valence == pytest.approx(0.6 * math.cos(math.radians(20)))
    heard = stepped(Avatar(model), noise(640 * 6))[-1]
    assert heard.emotion.weight == 0 and heard.emotion.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert not np.array_equal(heard.expression, frame.expression) and np.array_equal(heard.jaw, frame.jaw)


def test_action_units_are_lifted_where_the_track_has_less(avatar: Avatar) -> None:
    recorded = np.array([0, 5, 0, 1, 0, 3], np.float32)
    avatar.emotion = "happy"
    stepped(avatar, noise(640 * 6))
    wanted = np.float32(action_units(Emotion("happy")))
    assert np.array_equal(avatar._acting.feeling.units(recorded), np.maximum(recorded, wanted))
    avatar.reset()
    avatar.emotion = None
    stepped(avatar, noise(640 * 6))
    assert np.array_equal(avatar._acting.feeling.units(recorded), recorded)


def test_transitions_are_smooth_and_take_their_time(avatar: Avatar) -> None:
    avatar.emotion_seconds = 0.4
    stepped(avatar, noise(640 * 8))
    avatar.emotion = "angry"
    weights = [frame.emotion.weight for frame in stepped(avatar, noise(640 * 40))]
    steps = np.diff([0, *weights])
    assert steps.max() < 0.15 and np.abs(np.diff([0, *steps])).max() < 0.06 and (steps >= 0).all()
    assert 0.6 < weights[9] < 0.85 and weights[-1] > 0.999
    avatar.emotion = None
    assert stepped(avatar, noise(640 * 60))[-1].emotion.weight == 0
    with pytest.raises(ControlError):
        avatar.emotion_seconds = -1


def test_a_timeline_starts_with_the_next_frame_and_anew_in_render(avatar: Avatar) -> None:
    avatar.emotion_seconds = 0
    stepped(avatar, noise(640 * 10))
    avatar.emotion = [(0, "happy"), (0.2, Emotion("sad")), (0.4, None)]
    names = [frame.emotion.asked and frame.emotion.asked.name for frame in stepped(avatar, noise(640 * 12))]
    assert names == ["happy"] * 5 + ["sad"] * 5 + [None] * 2
    names = [f.emotion.asked and f.emotion.asked.name for f in avatar.render(noise(640 * 12), progress=False)]
    assert names == ["happy"] * 5 + ["sad"] * 5 + [None] * 2


def test_chunks_pipelines_and_renders_honour_the_emotion_alike(model: Model) -> None:
    samples, timeline = noise(640 * 20), [(0.1, "happy"), (0.4, "sad")]

    def fresh(pipelined: bool = False) -> Avatar:
        avatar = Avatar(model, pipelined=pipelined)
        avatar.emotion = timeline
        return avatar

    whole = fresh()
    expected = [f for f in [*whole.push(samples), *whole.flush()] if f.index >= 0]
    parts, late = fresh(), fresh(True)
    for found in (
        [*pushed(parts, samples, [100, 5000, 333]), *parts.flush()],
        [*late.push(samples), *late.flush()],
        list(fresh().render(samples, progress=False)),
    ):
        assert all(map(same, [f for f in found if f.index >= 0], expected))
