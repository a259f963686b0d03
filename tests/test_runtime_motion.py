"""The runtime's motion against one that is computed from the whole audio at once, for several definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_bundle import HIDDEN, Array, Shape, cue_tensors, reference_motion, reference_tokens, write_bundle

from emotag.runtime import Avatar, BundleError
from emotag.runtime.cues import CuePlayer
from emotag.runtime.motion import MOTION_NAMES, TokenHistory
from emotag.runtime.tensors import Cues

SHAPES = {
    "one chunk a frame": Shape(),
    "two chunks a frame": Shape(chunk=1, lookahead=3, context=7),
    "a chunk every two frames": Shape(chunk=4, lookahead=4, window_future=4),
    "a chunk that is no multiple of a frame": Shape(chunk=3, lookahead=3, context=9),
    "no look-ahead at all": Shape(lookahead=0, window_future=2, smooth_future=0, steerable=False),
    "no smoothing": Shape(smooth_past=0, smooth_future=0),
    "the released windows": Shape(window_past=8, window_future=8, smooth_past=4, smooth_future=3, lookahead=8),
}


def noise(frames: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(640 * frames) * 0.1).astype(np.float32)


def pingpong(count: int, frames: int) -> list[int]:
    there_and_back = [*range(count), *range(count - 2, 0, -1)]
    return [there_and_back[i % len(there_and_back)] for i in range(frames)]


def windows_of(tokens: Array, shape: Shape) -> Array:
    """Windows of the frames −smooth_past … as docs/bundle.md defines them."""
    last = (len(tokens) - shape.window_future) // 2
    rows = [range(2 * f - shape.window_past, 2 * f + shape.window_future) for f in range(last + 1)]
    before = np.zeros((shape.smooth_past, shape.window, HIDDEN))
    return np.concatenate([before, [tokens[np.maximum(row, 0)] for row in rows]])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_streaming_equals_the_definition_on_the_whole_audio(tmp_path: Path, shape: Shape) -> None:
    avatar = Avatar(write_bundle(tmp_path / "a.emotag", shape))
    samples, count, delay = noise(50), 50, shape.lookahead_frames
    frames = [avatar.step(block) for block in samples.reshape(-1, 640)]
    assert [frame.index for frame in frames] == list(range(-delay, count - delay))
    assert avatar.latency_ms == 40 * delay

    aus = cue_tensors(shape)["aus"][pingpong(shape.frames, count)]
    expected = reference_motion(windows_of(reference_tokens(samples, shape), shape), aus, shape)
    shown = [frame for frame in frames if frame.index >= 0]
    ready = min(len(expected["jaw"]), len(shown))
    assert ready >= count - delay - 2
    for name in MOTION_NAMES:
        found = np.stack([getattr(frame.motion, name) for frame in shown[:ready]])
        np.testing.assert_allclose(found, expected[name][:ready], atol=2e-5, err_msg=name)


def test_first_frames_are_the_rest_pose_with_silence_and_sound_follows_its_picture(tmp_path: Path) -> None:
    shape = Shape()
    avatar = Avatar(write_bundle(tmp_path / "a.emotag", shape))
    samples = noise(12)
    for frame in [avatar.step(block) for block in samples.reshape(-1, 640)]:
        if frame.index < 0:
            assert not frame.expression.any() and not frame.jaw.any() and not frame.audio.any()
        else:
            assert np.array_equal(frame.audio, samples[640 * frame.index : 640 * (frame.index + 1)])
            assert frame.expression.any()


def test_recorded_clip_uses_the_recorded_windows_and_zeros_outside(tmp_path: Path) -> None:
    shape = Shape(windows=True, smooth_past=4, smooth_future=3, frames=9)
    avatar = Avatar(write_bundle(tmp_path / "a.emotag", shape))
    cues = cue_tensors(shape)
    empty = np.zeros((1, shape.window, HIDDEN))
    windows = np.concatenate([empty.repeat(4, 0), cues["windows"], empty.repeat(3, 0)])
    expected = reference_motion(windows, cues["aus"], shape)
    for _ in range(2):  # the second time starts afresh
        frames = list(avatar.cued(progress=False))
        assert [frame.index for frame in frames] == list(range(9))
        for name in MOTION_NAMES:
            found = np.stack([getattr(frame.motion, name) for frame in frames])
            np.testing.assert_allclose(found, expected[name], atol=2e-5, err_msg=name)


def test_a_bundle_without_recorded_windows_cannot_be_cued(tmp_path: Path) -> None:
    avatar = Avatar(write_bundle(tmp_path / "a.emotag"))
    with pytest.raises(BundleError, match="no recorded windows"):
        avatar.cued()
    assert avatar.step(noise(1)).index == -avatar.latency_ms // 40


def test_token_history_repeats_the_first_token_before_the_start() -> None:
    history = TokenHistory(6, 1)
    out = np.zeros((4, 1), np.float32)
    history.append(np.array([[10], [11]], np.float32))
    history.read(-2, out)
    assert out.ravel().tolist() == [10, 10, 10, 11]
    history.append(np.arange(12, 20, dtype=np.float32)[:, None])
    history.read(6, out)
    assert out.ravel().tolist() == [16, 17, 18, 19]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_cues_play_back_and_forth_and_never_jump(count: int) -> None:
    data = cue_tensors(Shape(frames=count))
    player = CuePlayer(Cues(**data, windows_file=None))
    rows = [player.at(frame) for frame in range(-20, 60)]
    assert rows[20:] == (pingpong(count, 60) if count > 1 else [0] * 60)
    assert set(rows) == set(range(count))
    assert max(abs(a - b) for a, b in zip(rows, rows[1:], strict=False)) <= 1


def test_pose_rows_are_rotation_neck_jaw_left_eye_right_eye() -> None:
    data = cue_tensors(Shape())
    pose = np.zeros((5, 3), np.float32)
    CuePlayer(Cues(**data, windows_file=None)).pose(3, np.array([0.3, 0, 0], np.float32), pose)
    expected = [data["rotation"][3], data["neck"][3], [0.3, 0, 0], data["eyes"][3, :3], data["eyes"][3, 3:]]
    np.testing.assert_allclose(pose, np.stack(expected), rtol=1e-6)
