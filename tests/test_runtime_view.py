"""The view: around the head, nearer, another point, another size; pose, gaze and expressions that a caller adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_bundle import Array, Shape, write_bundle
from test_runtime_stream import noise, same, stepped

from emotag.plugins import Camera
from emotag.runtime import Avatar, ControlError, HeadPose, Model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_bundle(tmp_path_factory.mktemp("view") / "a.emotag", Shape(size=32)), threads=1)


@pytest.fixture
def avatar(model: Model) -> Avatar:
    return Avatar(model)


def projected(camera: Camera, point: Array) -> Array:
    x, y, z = camera.view[:3, :3] @ point + camera.view[:3, 3]
    return np.array([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy])


def place(camera: Camera) -> Array:
    position: Array = -camera.view[:3, :3].T @ camera.view[:3, 3]
    return position


def test_orbit_goes_around_the_head_to_the_right_and_up(avatar: Avatar) -> None:
    before, middle = avatar.camera_at(0), avatar.head_middle + avatar.model.cues.cues.translation[0]
    assert avatar.camera.orbit(40) is avatar.camera
    right = avatar.camera_at(0)
    avatar.camera.orbit(0, 30)
    above = avatar.camera_at(0)
    distance = np.linalg.norm(place(before) - middle)
    for camera in (right, above):
        np.testing.assert_allclose(np.linalg.norm(place(camera) - middle), distance, rtol=1e-6)
        np.testing.assert_allclose(projected(camera, middle), projected(before, middle), atol=1e-4)
    assert before.view[0, :3] @ (place(right) - place(before)) > 0  # x is to the right
    assert before.view[1, :3] @ (place(above) - place(before)) < 0  # y is down


def test_zoom_and_look_at_move_the_middle(avatar: Avatar) -> None:
    point = np.array([0.03, 0.05, 0.1])
    before = avatar.camera_at(0)
    avatar.camera.zoom(2).look_at(point)
    camera = avatar.camera_at(0)
    np.testing.assert_allclose(projected(camera, point), [16, 16], atol=1e-6)
    assert camera.fx == 2 * before.fx and np.allclose(place(camera), place(before))
    avatar.camera.look_at(place(before))  # nowhere to turn to
    assert np.allclose(avatar.camera_at(0).view, before.view)
    avatar.camera.look_at(2 * place(before) - point)  # behind
    assert np.isfinite(avatar.camera_at(0).view).all()
    avatar.camera = None
    assert np.array_equal(avatar.camera_at(0).view, before.view)


def test_a_resolution_may_change_between_frames_with_its_background(avatar: Avatar, model: Model) -> None:
    picture = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[None, :, None], (32, 1, 3))
    avatar.background = picture
    sound = noise(640 * 6)
    assert stepped(avatar, sound[:1280])[-1].rgb.shape == (32, 32, 3)
    avatar.camera.resolution = (64, 48)
    frame = stepped(avatar, sound[1280:])[-1]
    assert frame.rgb.shape == (48, 64, 3) and (avatar.width, avatar.height) == (64, 48)
    assert abs(int(frame.rgb[0, 32, 0]) - 127) < 8
    other = Avatar(model, width=64, height=48)
    other.background = avatar.background
    assert same(stepped(other, sound)[-1], frame)


def test_a_pose_is_reached_smoothly_and_left_again(avatar: Avatar) -> None:
    avatar.idle = None
    silence = np.zeros(640 * 30, np.float32)
    stepped(avatar, silence[: 640 * 5])
    avatar.pose = (0.0, 0.6, 0.0)
    turned = [frame.pose[0, 1] for frame in stepped(avatar, silence)]
    assert np.abs(np.diff(turned)).max() < 0.6 / 3 and abs(turned[-1] - 0.6) < 1e-3
    avatar.pose = None
    back = stepped(avatar, silence)[-1]
    assert abs(back.pose[0, 1] - avatar.model.cues.poses[avatar.model.cues.at(back.index), 0, 1]) < 1e-3
    avatar.reset()
    avatar.pose = HeadPose(translation=(0.1, 0.0, 0.0))
    first = avatar.step(silence[:640])  # set before the first frame, it holds from there
    np.testing.assert_allclose(first.translation, [0.1, 0, 0], atol=1e-6)
    assert first.pose[0].any() or first.index < 0


def test_eyes_hold_a_point_while_the_head_turns(avatar: Avatar) -> None:
    avatar.gaze, avatar.idle = (20.0, 10.0), None
    frame = avatar.step(noise(640))
    np.testing.assert_allclose(frame.pose[3:, :2], np.radians([[-10, 20]] * 2), atol=1e-5)
    avatar.reset()
    avatar.gaze = (0.0, 0.05, 5.0)
    avatar.pose = (0.0, 0.3, 0.0)
    frame = avatar.step(noise(640))
    np.testing.assert_allclose(frame.pose[0, 1] + frame.pose[3, 1], 0, atol=0.02)  # turned back by as much
    avatar.gaze = "camera"
    stepped(avatar, noise(640 * 20))


def test_blend_adds_expressions_by_name(avatar: Avatar, model: Model) -> None:
    plain, samples = stepped(Avatar(model), noise(640 * 30)), noise(640 * 30)
    avatar.blend["expression1"] = 0.5
    found = stepped(avatar, samples[: 640 * 5])
    del avatar.blend["expression1"]
    found += stepped(avatar, samples[640 * 5 :])
    added = np.array([a.expression - b.expression for a, b in zip(found, plain, strict=True)])
    np.testing.assert_allclose(added[:5], [[0, 0.5, 0, 0, 0]] * 5, atol=1e-6)
    assert (np.diff(added[4:, 1]) <= 0).all() and np.diff(added[4:, 1]).min() > -0.3 and added[-1, 1] == 0
    assert not avatar.blend


BAD = [
    lambda a: a.camera.orbit(200),
    lambda a: a.camera.orbit(0, 90),
    lambda a: a.camera.orbit(float("nan")),
    lambda a: a.camera.zoom(0),
    lambda a: a.camera.zoom("near"),
    lambda a: a.camera.look_at((1, 2)),
    lambda a: a.camera.look_at((np.nan, 0, 0)),
    lambda a: setattr(a.camera, "resolution", (0, 10)),
    lambda a: setattr(a.camera, "resolution", 512),
    lambda a: setattr(a, "pose", (1, 2)),
    lambda a: setattr(a, "pose", (np.nan, 0, 0)),
    lambda a: setattr(a, "gaze", "there"),
    lambda a: setattr(a, "gaze", (80, 0)),
    lambda a: a.blend.__setitem__("smile", 1.0),
    lambda a: a.blend.__setitem__("expression0", np.inf),
    lambda a: setattr(a, "idle", 3),
]


@pytest.mark.parametrize("wrong", BAD)
def test_what_cannot_be_used_is_refused_and_changes_nothing(model: Model, wrong: object) -> None:
    avatar = Avatar(model)
    with pytest.raises(ControlError):
        wrong(avatar)  # type: ignore[operator]
    assert same(avatar.step(noise(640)), Avatar(model).step(noise(640)))


def test_changing_everything_every_frame_stays_bounded_and_chunks_do_not_matter(model: Model) -> None:
    def play(pipelined: bool) -> list[Array]:
        avatar, rng, out = Avatar(model, pipelined=pipelined), np.random.default_rng(1), []
        for block in noise(640 * 20).reshape(-1, 640):
            avatar.pose, avatar.gaze = rng.uniform(-0.5, 0.5, 3), rng.uniform(-20, 20, 2)
            avatar.camera.orbit(float(rng.uniform(-60, 60))).zoom(float(rng.uniform(0.5, 2)))
            avatar.blend["expression0"] = float(rng.uniform(-1, 1))
            avatar.emotion = rng.choice(["happy", "sad", "angry"])
            out.append(avatar.step(block).expression)
        return out

    found = play(False)
    assert np.isfinite(found).all() and np.abs(np.diff(found, axis=0)).max() < 5
    assert np.isfinite(play(True)).all()


DEMO = Path(__file__).parent.parent / "demo.emotag"


@pytest.mark.skipif(not (DEMO / "manifest.json").is_file(), reason="needs the demo bundle: make demo")
@pytest.mark.parametrize("yaw", [-60, -30, 30, 60])
def test_the_demo_has_no_holes_from_the_side(yaw: float) -> None:
    from scipy import ndimage

    avatar = Avatar(DEMO, threads=1, width=256, height=256)
    avatar.background = None
    avatar.camera.orbit(yaw)
    alpha = avatar.step(np.zeros(640, np.float32)).alpha
    assert alpha is not None
    outside, count = ndimage.label(alpha < 200)
    border = np.unique(np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]]))
    holes = [int((outside == number).sum()) for number in range(1, count + 1) if number not in border]
    assert (alpha > 200).mean() > 0.15 and max(holes, default=0) <= 12, holes  # a few pixels between strands of hair


_BAD_VECTORS: tuple[Any, ...] = (
    b"\x01\x02\x03", "123", {1.0, 2.0, 3.0}, {1: 0, 2: 0, 3: 0}, (float(part) for part in range(3)), ("1", "2", "3"),
    (True, False, True), (1j, 0, 0), (10**400, 0, 0), (float("nan"), 0, 0), (0, float("inf"), 0), (0, 0, 0, 0), 5,
    np.zeros((1, 3)), np.array(["1", "2", "3"]), np.ones(3, bool), object(),
)  # fmt: skip


@pytest.mark.parametrize("value", _BAD_VECTORS, ids=lambda value: repr(value)[:24])
def test_what_is_no_vector_changes_nothing(avatar: Avatar, value: Any) -> None:
    avatar.pose, avatar.gaze = (0.1, 0.2, 0.3), (10, 5)
    avatar.camera.look_at((0.0, 0.1, 0.2))
    before = avatar.camera_at(0)
    with pytest.raises(ControlError):
        avatar.pose = value
    with pytest.raises(ControlError):
        avatar.gaze = value
    with pytest.raises(ControlError):
        avatar.camera.look_at(value)
    assert avatar.pose == HeadPose((0.1, 0.2, 0.3)) and avatar.gaze == (10, 5)
    assert np.array_equal(avatar.camera_at(0).view, before.view)


def test_vectors_of_many_kinds_are_the_same(avatar: Avatar) -> None:
    for value in (
        [0, 1, 2],
        (0.0, 1.0, 2.0),
        np.array([0, 1, 2], np.float32),
        range(3),
        (np.int64(0), np.float16(1), 2),
    ):
        avatar.pose = value
        assert avatar.pose == HeadPose((0.0, 1.0, 2.0))
        avatar.gaze = value
        assert avatar.gaze == (0.0, 1.0, 2.0)


def test_a_blend_may_be_changed_while_others_go_through_it(avatar: Avatar) -> None:
    blend = avatar.blend
    blend["expression0"], blend["expression1"] = 0.1, 0.2
    seen = []
    for name in blend:
        blend["expression1"] = 0.3
        del blend[name]
        seen.append(name)
    assert seen == ["expression0", "expression1"] and not len(blend) and blend.active  # easing back to 0
    with pytest.raises(ControlError):
        blend["expression0"] = 10**400
