"""Silence: how it is recognised, and what head and mouth do meanwhile."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_bundle import Array, Shape, cue_tensors, write_bundle
from test_runtime_stream import noise, same

from emotag.runtime import Avatar, ControlError, Frame, Idle, Model
from emotag.runtime.cues import CuePlayer
from emotag.runtime.idle import Resting, segment_bounds
from emotag.runtime.loudness import Loudness
from emotag.runtime.manifest import ACTION_UNITS
from emotag.runtime.tensors import Cues
from emotag.training.corpus.cues import demo_cues

HEAD_HEIGHT = 0.24  # metres
SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    shape = Shape(size=16, gaussians=20)
    return Model.load(write_bundle(tmp_path_factory.mktemp("idle") / "a.emotag", shape), threads=1)


@pytest.fixture(scope="module")
def player() -> CuePlayer:
    """The demo's own track."""
    track = demo_cues()
    view = np.tile(np.eye(4), (len(track["aus"]), 1, 1))
    return CuePlayer(Cues(**track, view=view, intrinsics=np.ones((len(view), 4), np.float32), windows_file=None))


def tracks(player: CuePlayer, seconds: int = SECONDS, settings: Idle | None = None) -> tuple[Array, Array, Array]:
    """Pose [T, 6] (rad, head heights), eyes [T, 6] and action units [T, 6] of silence."""
    resting, poses, eyes, units = Resting(player), [], [], []
    resting.settings = settings or Idle()
    for frame in range(seconds * 25):
        resting.advance(True)
        stance = player.stance(resting.place(frame), frame)
        aus = player.cues.aus[player.at(frame)].copy()
        resting.apply(frame, stance, aus)
        poses.append(np.concatenate([stance.joints[0] + stance.joints[1], stance.translation / HEAD_HEIGHT]))
        eyes.append(stance.joints[3:].ravel())
        units.append(aus)
    return np.array(poses), np.array(eyes), np.array(units)


def test_a_minute_of_silence_keeps_within_the_published_bounds(player: CuePlayer) -> None:
    """EmoGene: velocity 0.0175 and acceleration 0.0068 on average; here also: alive, and never twice the same."""
    poses, eyes, units = tracks(player)
    velocity = np.linalg.norm(np.diff(poses, axis=0), axis=1)
    acceleration = np.linalg.norm(np.diff(poses, 2, axis=0), axis=1)
    assert 0.001 <= velocity.mean() <= 0.0175
    assert acceleration.mean() <= 0.0068 and acceleration.max() < 0.01
    seconds = poses.reshape(SECONDS, -1)
    apart = [np.abs(a - b).max() for i, a in enumerate(seconds) for b in seconds[:i]]
    assert min(apart) > 0.002
    seams = np.arange(len(player.cues) - 1, len(velocity), len(player.cues) - 1)
    assert velocity[seams].max() < np.percentile(velocity, 95)
    blinks = units[:, ACTION_UNITS.index("AU45")] > 2.5
    assert (np.diff(blinks.astype(int)) > 0).sum() >= 8 and np.ptp(eyes, axis=0)[:2].min() > 0.02


def test_idle_motion_is_seeded(player: CuePlayer) -> None:
    first, again, other = (tracks(player, 10, Idle(seed=seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and np.abs(first - other).max() > 0.003


def test_bounds_are_the_runs_of_equal_poses() -> None:
    data = cue_tensors(Shape(frames=60))
    for name in ("rotation", "neck", "translation"):
        data[name] = np.zeros((60, 3), np.float32)
    data["rotation"][:20, 1] = np.arange(20) * 0.05
    data["rotation"][20:45, 1] = 1.0  # 25 frames still
    data["rotation"][45:50, 1] = 1.0 + np.arange(1, 6) * 0.05
    data["rotation"][50:, 1] = 1.3  # 10 frames still
    player = CuePlayer(Cues(**data, windows_file=None))
    assert segment_bounds(player) == (10, 25)


def test_a_track_without_life_gets_blinks_and_glances() -> None:
    data = cue_tensors(Shape(frames=2))
    data = {name: np.zeros_like(value) if value.dtype == np.float32 else value for name, value in data.items()}
    data["intrinsics"] += 1
    _, eyes, units = tracks(CuePlayer(Cues(**data, windows_file=None)), 20)
    assert (units[:, ACTION_UNITS.index("AU45")] > 4).any() and np.ptp(eyes, axis=0)[:2].min() > 0.01


def test_loudness_has_hysteresis_and_follows_the_background() -> None:
    loudness, rng = Loudness(), np.random.default_rng(0)

    def hear(level: float, frames: int) -> list[bool]:
        scale = 10 ** (level / 20)
        return [loudness.hear((rng.standard_normal(640) * scale).astype(np.float32)) for _ in range(frames)]

    assert not any(hear(-90, 30))
    assert all(hear(-30, 10))  # at once
    held = hear(-90, 20)
    assert held[:7] == [True] * 7 and not any(held[8:])  # a pause between words is no silence
    assert not hear(-45, 200)[-1]  # noise is learned
    assert all(hear(-25, 50)) and not hear(-45, 40)[-1]
    assert all(hear(-15, 400))  # and a loud sound never taken for noise


def quiet_room(seconds: float, level: float = 1e-4) -> Array:
    return (np.random.default_rng(3).standard_normal(int(seconds * 16000)) * level).astype(np.float32)


def test_the_mouth_is_shut_in_silence_and_speech_resumes_at_once(model: Model) -> None:
    avatar = Avatar(model)
    samples = np.concatenate([noise(640 * 20), quiet_room(2), noise(640 * 20)])
    frames = [f for f in [*avatar.push(samples), *avatar.flush()] if f.index >= 0]
    free = Avatar(model)
    free.idle = False
    open_frames = [f for f in [*free.push(samples), *free.flush()] if f.index >= 0]
    jaws = np.abs([frame.jaw for frame in frames]).max(axis=1)
    assert not jaws[20 + 14 : 68].any() and any(np.abs(frame.jaw).max() > 0 for frame in open_frames[34:68])
    assert not any(frame.speaking for frame in frames[30:68]) and frames[70].speaking
    for frame in (*range(0, 20), *range(70, 90)):  # what is spoken is never touched
        assert np.array_equal(frames[frame].jaw, open_frames[frame].jaw)
    assert all(np.array_equal(f.pose, open_frames[i].pose) for i, f in enumerate(frames[:20]))
    assert np.abs(np.diff([f.pose[0] for f in frames], axis=0)).max() < 0.06  # nor does the head ever jump


def test_idle_frames_do_not_depend_on_chunks(model: Model) -> None:
    samples = np.concatenate([quiet_room(1), noise(640 * 5), quiet_room(2)])
    whole, parts, late = Avatar(model), Avatar(model), Avatar(model, pipelined=True)

    def spoken(frames: list[Frame]) -> list[Frame]:
        return [frame for frame in frames if frame.index >= 0]

    expected = spoken([*whole.push(samples), *whole.flush()])
    found = []
    for start in range(0, len(samples), 777):
        found += parts.push(samples[start : start + 777])
    assert all(map(same, spoken([*found, *parts.flush()]), expected))
    assert all(map(same, spoken([*late.push(samples), *late.flush()]), expected))
    assert all(map(same, Avatar(model).render(samples, progress=False), expected))


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"gap": 0}, {"gap": np.nan}, {"segment": (2, 1)}, {"sway": 9}])
def test_idle_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ControlError, match="idle"):
        Idle(**wrong)  # type: ignore[arg-type]


def test_lips_of_the_demo_head_stay_together_in_silence() -> None:
    """The shut mouth of the real head, whatever noise and feeling ask of its lips: parted by less than 0.5 mm."""
    pytest.importorskip("torch")
    from emotag.runtime.shutter import Shutter
    from emotag.training.demo import lip_geometry
    from emotag.training.demo.assemble import HEAD
    from emotag.training.head import HeadModel

    head = HeadModel.load(HEAD)
    names, geometry = tuple(head.expression_names), lip_geometry(head)
    shutter = Shutter(names, head.bake())
    rng = np.random.default_rng(0)
    for _ in range(50):
        expression = rng.uniform(0, 0.6, len(names)).astype(np.float32)
        jaw = np.array([rng.uniform(0, 0.2), 0, 0], np.float32)
        for side in ("Left", "Right"):  # a mouth does not smile and frown at once
            expression[names.index(rng.choice(["mouthSmile", "mouthFrown"]) + side)] = 0
        shutter.shut(expression, jaw, 1.0)
        assert geometry.gap(expression, jaw) - geometry.gap_rest <= 0.5
