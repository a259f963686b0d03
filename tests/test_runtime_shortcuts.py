"""Ways that a step takes because they are shorter: each must say what the long way says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from synthetic_bundle import Array, Shape, cue_tensors, write_bundle
from test_runtime_stream import noise

from emotag.plugins import Camera
from emotag.plugins._checks import floats
from emotag.plugins.renderer import _background
from emotag.runtime import AudioError, Avatar, ControlError, Model
from emotag.runtime.audio import check_samples
from emotag.runtime.cues import CuePlayer
from emotag.runtime.easing import Eased, EasedArray
from emotag.runtime.loudness import Loudness
from emotag.runtime.motion import TokenHistory
from emotag.runtime.stats import KERNELS, STAGES, StageClock
from emotag.runtime.tensors import Cues


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    shape = Shape(size=16, gaussians=20, frames=7)
    return Model.load(write_bundle(tmp_path_factory.mktemp("short") / "a.emotag", shape), threads=1)


def player_of(**changes: Array) -> CuePlayer:
    return CuePlayer(Cues(**{**cue_tensors(Shape(frames=7)), **changes}, windows_file=None))


@pytest.mark.filterwarnings("ignore:overflow")
def test_samples_are_judged_by_the_largest_however_their_squares_add_up() -> None:
    quiet, loud = np.full(640, 0.1, np.float32), np.full(640, -3.9, np.float32)
    for good in (quiet, loud, np.zeros(640, np.float32), noise(640)):
        assert check_samples(good, 640) is good
    for bad, message in ((np.nan, "NaN"), (np.inf, "NaN"), (-4.1, "reach 4"), (1e30, "reach")):
        samples = quiet * 0
        samples[17] = bad
        with pytest.raises(AudioError, match=message):
            check_samples(samples, 640)
    with pytest.raises(AudioError, match="exactly 640"):
        check_samples(quiet[:639], 640)
    with pytest.raises(AudioError, match="one dimension"):
        check_samples(quiet[None], 640)
    with pytest.raises(AudioError, match="float64"):
        check_samples(quiet.astype(np.float64), 640)


def test_the_background_is_the_least_of_the_newest_four_seconds() -> None:
    rng, loudness, levels = np.random.default_rng(0), Loudness(), [-66.0] * 100
    for frame in range(700):
        level = max(-60 + 30 * math.sin(frame / 40) + float(rng.normal(0, 3)), -66.0)
        levels = [*levels[1:], level]
        assert loudness._least(level) == min(levels)
        if frame == 400:
            loudness.reset()
            levels = [-66.0] * 100


def test_statistics_are_those_of_the_newest_frames() -> None:
    clock, rows = StageClock(), np.random.default_rng(1).random((4096 + 777, len(STAGES) + len(KERNELS)))
    assert clock.stats().frames == 0 and not clock.stats().stages
    for number, row in enumerate(rows):
        clock.record(*row[: len(STAGES)].tolist(), row[len(STAGES) :].tolist())
        if number in (0, 62, 63, 64, 4095, 4096, 4160, len(rows) - 1):
            stats, newest = clock.stats(), rows[max(number - 4095, 0) : number + 1]
            assert stats.frames == number + 1
            assert stats.stages["step"].p50 == pytest.approx(1000 * np.median(newest[:, len(STAGES) - 1]))
            assert stats.kernels["skin"].mean == pytest.approx(newest[:, len(STAGES)].mean())


def test_a_stance_lies_between_its_two_rows() -> None:
    player = player_of()
    for place in (0.0, 2.25, 5.75, 6.0, 9.5):
        stance, first = player.stance(place, 3), math.floor(place)
        rows, share = (player.at(first), player.at(first + 1)), place - first
        joints = (1 - share) * player.poses[rows[0]] + share * player.poses[rows[1]]
        joints[3:] = player.poses[3, 3:]
        translation = (1 - share) * player.cues.translation[rows[0]] + share * player.cues.translation[rows[1]]
        np.testing.assert_allclose(stance.joints, joints, atol=1e-6)
        np.testing.assert_allclose(stance.translation, translation, atol=1e-6)
        assert (stance.view is None) == (not share)  # this camera drifts
        assert stance.joints.flags.c_contiguous and not np.shares_memory(stance.joints, player._stances)


def test_a_track_has_one_camera_only_if_place_and_lens_never_change() -> None:
    still = np.tile(np.eye(4), (7, 1, 1))
    lens = np.full((7, 4), 100, np.float32)
    zoomed = lens.copy()
    zoomed[3, 0] = 101
    assert player_of(view=still, intrinsics=lens).one_camera
    assert not player_of(view=still, intrinsics=zoomed).one_camera
    assert not player_of(intrinsics=lens).one_camera


def test_every_frame_of_a_moving_camera_is_drawn_by_its_own(model: Model) -> None:
    avatar = Avatar(model)
    views = [avatar.camera_at(index).view for index in range(7)]
    assert all(np.array_equal(view, model.cues.cues.view[row]) for row, view in enumerate(views))


def test_a_moved_camera_is_the_same_one_elsewhere() -> None:
    camera = Camera(np.eye(4), 100.0, 101.0, 30.0, 31.0, 64, 62)
    view = np.eye(4)
    view[0, 3] = 2
    moved = camera.moved(view)
    assert moved.view is view and camera.view[0, 3] == 0
    assert moved.intrinsics == camera.intrinsics and (moved.width, moved.height) == (64, 62)


def test_a_frame_s_emotion_is_what_it_was_made_with_however_late_it_is_asked(model: Model) -> None:
    def frames(avatar: Avatar) -> Iterator[Array]:
        avatar.emotion_seconds = 0.2
        made = []
        for number, samples in enumerate(noise(640 * 12).reshape(-1, 640)):
            if number == 6:
                avatar.emotion = "angry"
            made.append(avatar.step(samples))
            if asked:
                assert made[-1].emotion.probabilities.sum() == pytest.approx(1, abs=1e-5)
        return iter([np.append(frame.emotion.probabilities, frame.emotion.weight) for frame in made])

    asked = True
    at_once = list(frames(Avatar(model)))
    asked = False
    late = list(frames(Avatar(model)))
    assert len({tuple(row) for row in late}) > 6
    np.testing.assert_array_equal(at_once, late)


@pytest.mark.parametrize("kind", [Eased, EasedArray])
def test_what_eased_hands_out_stays_as_it_is(kind: type[Eased] | type[EasedArray]) -> None:
    eased: Any = kind(3, 0.2)
    eased.aim(np.ones(3, np.float32))
    given = [eased.advance() for _ in range(60)]
    copies = [np.array(value) for value in given]
    assert eased.still and np.array_equal(given[-1], np.ones(3))
    eased.aim(np.zeros(3, np.float32))
    assert not eased.still
    for _ in range(10):
        eased.advance()
    np.testing.assert_array_equal(given, copies)


@pytest.mark.parametrize("kind", [Eased, EasedArray])
def test_two_low_passes_are_what_eases(kind: type[Eased] | type[EasedArray]) -> None:
    eased: Any = kind(1, 0.2)
    eased.aim(np.ones(1, np.float32))
    share, first, second = 1 - math.exp(-2.6 / (0.2 * 25)), 0.0, 0.0
    for _ in range(4):
        first += share * (1 - first)
        second += share * (first - second)
        assert eased.advance()[0] == pytest.approx(second, abs=1e-6)


@pytest.mark.parametrize("kind", [Eased, EasedArray])
def test_a_target_that_comes_while_one_is_reached_is_eased_to(kind: type[Eased] | type[EasedArray]) -> None:
    class Hurried(kind):  # type: ignore[misc, valid-type]
        def _near(self, numbers: Any, target: Any) -> bool:
            near: bool = super()._near(numbers, target)
            if near and self.target[0] == 1:
                self.aim(np.full(1, 5, np.float32))  # as another thread might, at the worst moment
            return near

    eased: Any = Hurried(1, 0.2)
    eased.aim(np.ones(1, np.float32))
    values = [0.0, *(float(eased.advance()[0]) for _ in range(60))]
    assert max(np.diff(values)) < 2.5 and values[-1] == 5


def test_few_and_many_numbers_ease_alike() -> None:
    rng, few, many = np.random.default_rng(3), Eased(4, 0.15), EasedArray(4, 0.15)
    for frame in range(80):
        if frame % 7 == 0 and frame < 50:
            target = rng.random(4, np.float32)
            few.aim(target.tolist())
            many.aim(target)
        np.testing.assert_allclose(few.advance(), many.advance(), atol=2e-4)
    assert few.still and many.still
    few.seconds = many.seconds = 0.0
    few.aim([1.0, 0.0, 0.5, 0.25])
    many.aim(np.array([1, 0, 0.5, 0.25], np.float32))
    assert list(few.advance()) == many.advance().tolist() == [1.0, 0.0, 0.5, 0.25]


def test_a_history_is_that_of_all_tokens_however_it_wraps() -> None:
    rng, history, heard = np.random.default_rng(2), TokenHistory(7, 2), np.zeros((0, 2), np.float32)
    for count in rng.integers(1, 10, 60):
        new = rng.random((count, 2), np.float32)
        history.append(new)
        heard = np.concatenate([heard, new])
        assert history.count == len(heard)
        for size in range(1, 8):
            out = np.empty((size, 2), np.float32)
            history.read(len(heard) - size, out)
            expected = heard[np.maximum(np.arange(len(heard) - size, len(heard)), 0)]
            np.testing.assert_array_equal(out, expected)
    early, out = TokenHistory(7, 2), np.empty((5, 2), np.float32)
    early.append(heard[:3])
    for first in (-9, -5, -4, -2, 0):
        early.read(first, out[: max(min(5, 3 - first), 1)])
        rows = np.maximum(np.arange(first, first + 5), 0)[: max(min(5, 3 - first), 1)]
        np.testing.assert_array_equal(out[: len(rows)], heard[rows])


@pytest.mark.filterwarnings("error")
def test_arrays_that_need_no_copy_are_still_checked() -> None:
    good = np.full((5, 3), 0.5, np.float32)
    assert floats("pose", good, (5, 3), ControlError) is good
    large = np.full(3, 3e38, np.float32)  # finite, though their sum as such floats is not
    assert floats("place", large, (3,), ControlError) is large
    for bad in (np.nan, np.inf, -np.inf):
        wrong = good.copy()
        wrong[3, 1] = bad
        with pytest.raises(ControlError, match="not finite"):
            floats("pose", wrong, (5, 3), ControlError)
    turned = np.asfortranarray(np.arange(15, dtype=np.float32).reshape(5, 3))
    assert floats("pose", turned, (5, 3), ControlError).flags.c_contiguous
    for wrong in (good[:4], good.reshape(-1)):
        with pytest.raises(ControlError, match="shape"):
            floats("pose", wrong, (5, 3), ControlError)


def test_a_background_is_checked_whatever_it_is_given_as() -> None:
    camera = Camera(np.eye(4), 100.0, 101.0, 30.0, 31.0, 64, 62)
    for given in ((0.5, 0.25, 1.0), [0.5, 0.25, 1.0], np.array([0.5, 0.25, 1.0]), (np.float32(0.5), 0.25, 1)):
        assert _background(given, camera) == ((0.5, 0.25, 1.0), None, None)
    for bad in ((1.0, math.nan, 1.0), (math.inf, 1.0, 1.0), (1e39, 0.0, 0.0), (1.0, 1.0), ("a", "b", "c")):
        with pytest.raises(ControlError, match="background"):
            _background(bad, camera)
