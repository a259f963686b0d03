"""Whole frames of the CUDA kernels, run on the host: against float64, the CPU kernels, and other schedules."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import egg
import numpy as np
import pytest
import reference

from emotag import plugins
from emotag.plugins import cuda

sys.path.append(str(Path(__file__).parent / "cuda_host"))
import emulated  # noqa: E402

COLOUR = (0.2, 0.5, 0.9)


@pytest.fixture(scope="module")
def scene() -> plugins.Scene:
    head = egg.head()
    gaussians = egg.gaussians(head, 2500)
    return plugins.Scene(head, gaussians, egg.mouth(gaussians))


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 1, 256).astype(np.float32)


def truncated(picture: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(picture, 0, 1) * 255)


def test_frame_against_float64_and_the_cpu(scene: plugins.Scene, audio: np.ndarray) -> None:
    controls, camera = egg.controls(scene.head), egg.camera(112, 128)
    picture = emulated.picture(scene, emulated.Controls(*controls, camera, COLOUR, audio=audio))
    wanted, _ = reference.render(scene, *controls, camera, audio, COLOUR)
    on_cpu = plugins.Renderer(scene, 1).draw(*controls, camera, audio, COLOUR)
    assert picture.shape == (128, 112, 3)
    assert reference.decibels(picture, truncated(wanted), 255) > 60
    assert reference.decibels(picture, on_cpu, 255) > 60
    still = emulated.picture(scene, emulated.Controls(*controls, camera, COLOUR))
    assert (still != picture).any()  # the mouth moved


@pytest.mark.parametrize(("stored", "active", "activation"), [(3, 3, "exp"), (3, 1, "softplus"), (2, 2, "exp")]
                         + [(1, 1, "exp"), (0, 0, "softplus"), (3, 0, "exp")])  # fmt: skip
def test_every_degree_and_activation(stored: int, active: int, activation: str) -> None:
    head = egg.head()
    scene = plugins.Scene(head, egg.gaussians(head, 1500, stored, active, activation))
    controls, camera = egg.controls(head, 1), egg.camera(64, 64)
    picture = emulated.picture(scene, emulated.Controls(*controls, camera), pixels="rgba32f")
    wanted, alpha = reference.render(scene, *controls, camera, background=(1, 1, 1))
    assert reference.decibels(picture[..., :3], wanted) > 62
    assert reference.decibels(picture[..., 3], alpha) > 58
    assert 0.2 < alpha.mean() < 0.95  # something is there to compare


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (90, 50), (16, 16), (15, 64), (100, 36)])
@pytest.mark.parametrize("pixels", ["rgb8", "rgba8"])
def test_any_size(scene: plugins.Scene, size: tuple[int, int], pixels: str) -> None:
    controls, camera = egg.controls(scene.head), egg.camera(*size)
    picture = emulated.picture(scene, emulated.Controls(*controls, camera), pixels=pixels)
    wanted, _ = reference.render(scene, *controls, camera, background=(1, 1, 1))
    assert picture.shape == (size[1], size[0], 3 if pixels == "rgb8" else 4)
    assert np.abs(picture[..., :3] - truncated(wanted)).max() <= 4
    assert reference.decibels(picture[..., :3], truncated(wanted), 255) > 48
    assert pixels == "rgb8" or (picture[..., 3] == 255).all()


def test_schedules_change_nothing(scene: plugins.Scene, audio: np.ndarray) -> None:
    """Blocks and threads in any order give the same bytes."""
    controls = emulated.Controls(*egg.controls(scene.head, 2), egg.camera(64, 48), COLOUR, audio=audio)
    wanted = emulated.picture(scene, controls)
    for seed in (1, 2, 3):
        with emulated.schedule(emulated.load(), seed):
            assert (emulated.picture(scene, controls) == wanted).all()


def test_backgrounds(scene: plugins.Scene) -> None:
    controls, camera = egg.controls(scene.head), egg.camera(75, 50)
    image = np.random.default_rng(0).integers(0, 256, (50, 75, 3), np.uint8)
    bare, alpha = reference.render(scene, *controls, camera)
    empty = alpha == 0
    assert empty.mean() > 0.1
    one = emulated.Controls(*controls, camera, (0, 0.5, 1))
    over_bytes = emulated.picture(scene, one, image, background="image_u8")
    over_floats = emulated.picture(scene, one, (image / 255).astype(np.float32), background="image_f32")
    assert (over_bytes[empty] == image[empty]).all()
    assert np.abs(over_floats.astype(int) - over_bytes).max() <= 1
    wanted = bare + (1 - alpha)[..., None] * image / 255
    assert reference.decibels(over_bytes, truncated(wanted), 255) > 58
    assert (emulated.picture(scene, one)[empty] == [0, 127, 255]).all()


def test_rgba_is_straight(scene: plugins.Scene) -> None:
    controls, camera = egg.controls(scene.head), egg.camera(75, 50)
    one = emulated.Controls(*controls, camera)
    picture = emulated.picture(scene, one, pixels="rgba8", background=None)
    on_cpu = plugins.Renderer(scene, 1).draw(*controls, camera, background=None)
    bare, alpha = reference.render(scene, *controls, camera)
    assert reference.decibels(picture[..., 3], truncated(alpha), 255) > 50
    assert (picture[alpha == 0] == 0).all()
    solid = alpha > 0.05
    assert reference.decibels(picture[solid][:, :3], truncated(bare[solid] / alpha[solid][:, None]), 255) > 50
    assert reference.decibels(picture, on_cpu, 255) > 45
    floats = emulated.picture(scene, one, pixels="rgba32f", background=None)
    assert reference.decibels(floats[..., :3], bare) > 60  # premultiplied


def test_several_avatars_at_once(scene: plugins.Scene, audio: np.ndarray) -> None:
    """Five avatars in one plan, each under its own controls and background, as if they were alone."""
    avatars = [
        emulated.Controls(
            *egg.controls(scene.head, i), egg.camera(48, 40, turn=0.3 * i), (0.2 * i, 0.5, 1 - 0.2 * i),
            jaw=np.array([0.1 * i, 0, 0.02], np.float32), audio=audio * (1 - 0.4 * i),
        )
        for i in range(5)
    ]  # fmt: skip
    together = emulated.Drawing(scene, avatars, cuda.Options(0, 0, mouth_moves=True))
    assert not together.run().overflow
    for i, avatar in enumerate(avatars):
        assert (together.picture[i] == emulated.picture(scene, avatar)).all()
        pose = avatar.pose.copy()
        pose[2] = avatar.jaw
        on_cpu = plugins.Renderer(scene, 1).draw(
            avatar.expression, pose, avatar.translation, avatar.camera, avatar.audio, avatar.colour
        )
        assert reference.decibels(together.picture[i], on_cpu, 255) > 55
    images = np.random.default_rng(1).integers(0, 256, (5, 40, 48, 3), np.uint8)
    over = emulated.Drawing(scene, avatars, cuda.Options(0, 0, background="image_u8", mouth_moves=True), images)
    over.run()
    assert (over.picture[3] == emulated.picture(scene, avatars[3], images[3], background="image_u8")).all()


def test_frames_follow_one_another(scene: plugins.Scene) -> None:
    """Nothing of a frame is left in the next: the controls in device memory decide alone."""
    first, second = (emulated.Controls(*egg.controls(scene.head, i), egg.camera(48, 48)) for i in (0, 5))
    drawing = emulated.Drawing(scene, [first], cuda.Options(0, 0))
    one = drawing.run()
    drawing.controls[0] = cuda.controls(second.camera, second.pose, second.translation)
    drawing.expression[0] = second.expression
    two = drawing.run()
    assert two.frames == (one.frames + 1) % 2**32
    assert (drawing.picture[0] == emulated.picture(scene, second)).all()


def test_nothing_visible(scene: plugins.Scene) -> None:
    """Behind the camera, beyond the float range, or without Gaussians at all: the background."""
    controls, camera = egg.controls(scene.head), egg.camera(40, 24)
    away = replace(camera, view=np.diag([1.0, -1.0, -1.0, 1.0]) @ np.array(np.eye(4)))
    for one in (
        emulated.Controls(*controls, replace(away, view=away.view - [[0] * 4, [0] * 4, [0, 0, 0, 5], [0] * 4])),
        emulated.Controls(np.full(scene.head.expressions, 3e38, np.float32), *controls[1:], camera),
    ):
        drawing = emulated.Drawing(scene, [one], cuda.Options(0, 0))
        assert drawing.run().pairs == 0
        assert (drawing.picture == 255).all()
    nobody = plugins.Scene(scene.head, egg.gaussians(scene.head, 0))
    assert (emulated.picture(nobody, emulated.Controls(*controls, camera)) == 255).all()


def test_near_plane_and_jacobian_clamp(scene: plugins.Scene) -> None:
    """A camera inside the cloud: Gaussians behind, too near, and far outside the view."""
    controls = egg.controls(scene.head)
    camera = replace(egg.camera(64, 64, turn=0.4, distance=0.22), fx=60.0, fy=80.0, cx=20.0)
    picture = emulated.picture(scene, emulated.Controls(*controls, camera), pixels="rgba32f")
    wanted, alpha = reference.render(scene, *controls, camera, background=(1, 1, 1))
    assert alpha.mean() > 0.1
    assert reference.decibels(picture[..., :3], wanted) > 55


def test_huge_gaussians_cover_every_tile() -> None:
    """Rectangles of more tiles than a mask has bits."""
    head = egg.head(8, 8)
    scene = plugins.Scene(head, egg.gaussians(head, 60, size=30.0))
    controls, camera = egg.controls(head), egg.camera(160, 144)
    picture = emulated.picture(scene, emulated.Controls(*controls, camera), pairs=60 * 90)
    wanted, _ = reference.render(scene, *controls, camera, background=(1, 1, 1))
    assert np.abs(picture - truncated(wanted)).max() <= 2


def test_overflow_is_reported_and_leaves_the_picture(scene: plugins.Scene) -> None:
    one = emulated.Controls(*egg.controls(scene.head), egg.camera(64, 64))
    drawing = emulated.Drawing(scene, [one], cuda.Options(0, 0, pairs=100))
    before = drawing.picture.copy()
    status = drawing.run()
    assert status.overflow and status.capacity == 100 and status.pairs > 1000
    assert (drawing.picture == before).all()
    drawing.plan = drawing.plan.grown(status)
    drawing.give_workspace()
    again = drawing.run()
    assert not again.overflow and again.pairs == status.pairs and again.capacity == status.pairs + status.pairs // 4
    assert (drawing.picture[0] == emulated.picture(scene, one)).all()
    exact = emulated.Drawing(scene, [one], cuda.Options(0, 0, pairs=status.pairs))
    assert not exact.run().overflow
    assert (exact.picture == drawing.picture).all()
    assert emulated.Drawing(scene, [one], cuda.Options(0, 0, pairs=status.pairs - 1)).run().overflow


def test_tile_lists_hold_only_what_touches(scene: plugins.Scene) -> None:
    """The exact tiles are a good deal fewer than those of the rectangles that 3DGS lists."""
    one = emulated.Controls(*egg.controls(scene.head), egg.camera(256, 256))
    drawing = emulated.Drawing(scene, [one], cuda.Options(0, 0))
    status = drawing.run(cuda.Stages.SKIN | cuda.Stages.PROJECT | cuda.Stages.SORT)
    bound = reference.bind(reference.skin(scene.head, *egg.controls(scene.head)), scene.head.faces, scene.gaussians)
    splats = reference.project(bound, scene.gaussians.activated_opacities(), scene.gaussians.sh, 3, one.camera)
    rectangles = np.prod((splats.tiles[:, 2:] - splats.tiles[:, :2]) // 16, axis=1).sum()
    assert 0.2 * rectangles < status.pairs < 0.8 * rectangles
