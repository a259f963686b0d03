"""Pictures of the kernels against float64, and of each instruction set and thread count against the others."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import egg
import numpy as np
import pytest
import reference

from emotag import plugins
from emotag.plugins.errors import ControlError

ISAS = plugins.supported_isas()


@pytest.fixture(scope="module")
def scene() -> plugins.Scene:
    head = egg.head()
    gaussians = egg.gaussians(head, 4000)
    return plugins.Scene(head, gaussians, egg.mouth(gaussians))


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 1, 256).astype(np.float32)


def truncated(picture: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(picture, 0, 1) * 255)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("stored", "active", "activation"), [(3, 3, "exp"), (3, 1, "softplus"), (2, 2, "exp")]
                         + [(1, 1, "exp"), (0, 0, "softplus"), (3, 0, "exp")])  # fmt: skip
def test_float_picture_against_float64(isa: str, stored: int, active: int, activation: str) -> None:
    head = egg.head()
    gaussians = egg.gaussians(head, 3000, stored, active, activation)
    bound = plugins.bind(plugins.skin(head, *egg.controls(head)), head.faces, gaussians)
    camera = egg.camera(160, 128)
    inputs = (gaussians.activated_opacities(), gaussians.sh, active, camera)
    rgb, alpha = plugins.rasterize(bound, *inputs, background=(1, 1, 1), isa=isa)
    wanted, wanted_alpha = reference.rasterize(reference.Bound(*bound), *inputs, background=(1, 1, 1))
    assert rgb.shape == (128, 160, 3) and alpha.shape == (128, 160) and rgb.dtype == np.float32
    assert reference.decibels(rgb, wanted) > 65
    assert reference.decibels(alpha, wanted_alpha) > 60
    assert 0.2 < wanted_alpha.mean() < 0.9  # something is there to compare


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("share", [0.01, 0.5])
def test_colours_far_above_white(isa: str, share: float) -> None:
    """A Gaussian may be brighter than white, which shows where it is translucent or before a dark one."""
    head = egg.head()
    gaussians = egg.gaussians(head, 3000)
    glowing = np.random.default_rng(0).uniform(size=3000) < share
    sh, opacities = gaussians.sh.copy(), gaussians.opacities.copy()
    sh[glowing, 0] += 7 / 0.2821
    opacities[glowing] = -2.5
    gaussians = replace(gaussians, sh=sh, opacities=opacities)
    bound = plugins.bind(plugins.skin(head, *egg.controls(head)), head.faces, gaussians)
    inputs = (gaussians.activated_opacities(), gaussians.sh, 3, egg.camera(160, 128))
    rgb, _ = plugins.rasterize(bound, *inputs, isa=isa)
    wanted, _ = reference.rasterize(reference.Bound(*bound), *inputs)
    assert reference.decibels(rgb, wanted) > 65
    assert wanted.max() > 1.2 and 0 < glowing.sum() < 2000


@pytest.mark.parametrize("isa", ISAS)
def test_brightness_that_comes_and_goes_with_the_view(isa: str) -> None:
    """A renderer keeps colours as floats for frames that need them; its pictures are those of a new one."""
    head = egg.head()
    gaussians = egg.gaussians(head, 3000)
    sh = gaussians.sh.copy()
    sh[::3, 2] += 6  # brightest from behind, none from the front
    scene = plugins.Scene(head, replace(gaussians, sh=sh))
    controls, used, room = egg.controls(head), plugins.Renderer(scene, 1, isa), []
    for turn in (0.1, 0.2, np.pi, np.pi + 0.2, 0.1, np.pi):
        camera = egg.camera(96, 96, turn)
        picture = used.draw(*controls, camera)
        assert np.array_equal(picture, plugins.Renderer(scene, 1, isa).draw(*controls, camera))
        room.append(used.workspace_bytes)
    assert room[2] >= room[1] + (0 if isa == "plain" else 16 * 3000)  # plain blends nothing but floats
    assert room[0] == room[1] and room[2] == room[5]


@pytest.mark.parametrize("isa", ISAS)
def test_needles_of_full_opacity_have_no_gaps(isa: str) -> None:
    """Rounding may raise their levels above that of an opacity of 1. A faint glow behind is blended in floats."""
    head = egg.head()
    bound = plugins.bind(plugins.skin(head, *egg.controls(head)), head.faces, egg.gaussians(head, 2))
    means = np.array([[0, 0, 0], [0, 0, -0.3]], np.float32)
    scales = np.array([[4, 1e-4, 1e-4], [1.5, 1.5, 1.5]], np.float32)
    seen = 0
    for seed in range(40):
        quats = np.random.default_rng(seed).normal(size=(2, 4)).astype(np.float32)
        quats /= np.linalg.norm(quats, axis=1, keepdims=True)
        alphas = []
        for glow in (0, 4):
            sh = np.zeros((2, 1, 3), np.float32)
            sh[1] = glow / 0.2821
            needle = type(bound)(means, quats, scales)
            opacities = np.array([1, 0.0045], np.float32)
            alphas.append(plugins.rasterize(needle, opacities, sh, 0, egg.camera(512, 512), isa=isa)[1])
        seen += alphas[0].max() > 0.9
        assert np.abs(alphas[1] - alphas[0]).max() < 0.02
    assert seen > 20


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("length", [0.05, 0.3])
def test_needles_against_float64(isa: str, length: float) -> None:
    """Of up to 260 pixels beside half a pixel: where they end is found again for every span."""
    head = egg.head()
    bound = plugins.bind(plugins.skin(head, *egg.controls(head)), head.faces, egg.gaussians(head, 1))
    scales, sh = np.array([[length, 1e-4, 1e-4]], np.float32), np.zeros((1, 1, 3), np.float32)
    inputs = (np.ones(1, np.float32), sh, 0, egg.camera(256, 256))
    seen = 0
    for seed in range(24):
        quats = np.random.default_rng(seed).normal(size=(1, 4)).astype(np.float32)
        quats /= np.linalg.norm(quats, axis=1, keepdims=True)
        needle = type(bound)(np.zeros((1, 3), np.float32), quats, scales)
        alpha = plugins.rasterize(needle, *inputs, isa=isa)[1]
        wanted = reference.rasterize(reference.Bound(*needle), *inputs)[1]
        assert reference.decibels(alpha, wanted) > 65
        seen += wanted.max() > 0.9
    assert seen > 20


@pytest.mark.parametrize("isa", ISAS)
def test_whole_frame_against_float64(scene: plugins.Scene, audio: np.ndarray, isa: str) -> None:
    controls, camera = egg.controls(scene.head), egg.camera(192, 192)
    picture = plugins.Renderer(scene, 1, isa).draw(*controls, camera, audio, (0.2, 0.5, 0.9))
    wanted, _ = reference.render(scene, *controls, camera, audio, (0.2, 0.5, 0.9))
    assert reference.decibels(picture, truncated(wanted), 255) > 58


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (300, 200), (16, 16), (15, 64)])
def test_any_size(scene: plugins.Scene, size: tuple[int, int]) -> None:
    controls, camera = egg.controls(scene.head), egg.camera(*size)
    wanted, _ = reference.render(scene, *controls, camera, background=(1, 1, 1))
    for isa in ISAS:
        picture = plugins.Renderer(scene, 2, isa).draw(*controls, camera)
        assert picture.shape == (size[1], size[0], 3)
        assert np.abs(picture - truncated(wanted)).max() <= 4
        assert reference.decibels(picture, truncated(wanted), 255) > 48  # one level in one of a few pixels counts


def test_instruction_sets_agree(scene: plugins.Scene, audio: np.ndarray) -> None:
    controls, camera = egg.controls(scene.head, 2), egg.camera(256, 256)
    pictures = [plugins.Renderer(scene, 1, isa).draw(*controls, camera, audio) for isa in ISAS]
    for picture in pictures[1:]:
        assert reference.decibels(picture, pictures[0], 255) > 60


@pytest.mark.parametrize("isa", ISAS)
def test_thread_count_changes_nothing(scene: plugins.Scene, audio: np.ndarray, isa: str) -> None:
    renderers = [plugins.Renderer(scene, threads, isa) for threads in (1, 2, 3, 8)]
    for frame in range(3):
        controls, camera = egg.controls(scene.head, frame), egg.camera(200, 120, turn=0.3 * frame)
        first, *others = [renderer.draw(*controls, camera, audio, None) for renderer in renderers]
        for other in others:
            assert (other == first).all()


def test_drawing_alone_changes_nothing(scene: plugins.Scene, audio: np.ndarray) -> None:
    shared, camera = plugins.Renderer(scene, 2), egg.camera(200, 120)
    for frame, alone in enumerate((False, True, True, False)):
        controls = egg.controls(scene.head, frame)
        shared.draw_alone(alone)
        wanted = plugins.Renderer(scene, 1).draw(*controls, camera, audio)
        assert (shared.draw(*controls, camera, audio) == wanted).all()


def test_drawing_alone_is_alone(scene: plugins.Scene, audio: np.ndarray) -> None:
    renderer, controls, camera = plugins.Renderer(scene, 4), egg.controls(scene.head), egg.camera(512, 512)
    renderer.draw_alone(True)
    renderer.draw(*controls, camera, audio)
    everybody, caller = time.process_time(), time.thread_time()
    for _ in range(10):
        renderer.draw(*controls, camera, audio)
    caller = time.thread_time() - caller
    assert time.process_time() - everybody - caller < 0.2 * caller


def test_renderers_in_several_threads(scene: plugins.Scene, audio: np.ndarray) -> None:
    """Two renderers, and one renderer shared by two threads, draw what one alone draws."""
    camera = egg.camera(128, 128)
    frames = [egg.controls(scene.head, i) for i in range(4)]
    alone = plugins.Renderer(scene, 1)
    wanted = [alone.draw(*frame, camera, audio) for frame in frames]
    shared, own = plugins.Renderer(scene, 2), plugins.Renderer(scene, 2)
    wrong: list[int] = []

    def draw(renderer: plugins.Renderer) -> None:
        for i in list(range(4)) * 5:
            if not (renderer.draw(*frames[i], camera, audio) == wanted[i]).all():
                wrong.append(i)

    threads = [threading.Thread(target=draw, args=(renderer,)) for renderer in (shared, shared, own)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("isa", ISAS)
def test_backgrounds(scene: plugins.Scene, isa: str) -> None:
    controls, camera = egg.controls(scene.head), egg.camera(150, 100)
    renderer = plugins.Renderer(scene, 1, isa)
    image = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    bare, alpha = reference.render(scene, *controls, camera)
    empty = alpha == 0
    assert empty.mean() > 0.1
    over_bytes = renderer.draw(*controls, camera, background=image)
    over_floats = renderer.draw(*controls, camera, background=(image / 255).astype(np.float32))
    assert (over_bytes[empty] == image[empty]).all()
    assert np.abs(over_floats.astype(int) - over_bytes).max() <= 1
    wanted = bare + (1 - alpha)[..., None] * image / 255
    assert reference.decibels(over_bytes, truncated(wanted), 255) > 58
    assert (renderer.draw(*controls, camera, background=(0, 0.5, 1))[empty] == [0, 127, 255]).all()


@pytest.mark.parametrize("isa", ISAS)
def test_rgba_is_straight(scene: plugins.Scene, isa: str) -> None:
    controls, camera = egg.controls(scene.head), egg.camera(150, 100)
    picture = plugins.Renderer(scene, 1, isa).draw(*controls, camera, background=None)
    bare, alpha = reference.render(scene, *controls, camera)
    assert picture.shape == (100, 150, 4)
    assert reference.decibels(picture[..., 3], truncated(alpha), 255) > 50
    assert (picture[alpha == 0] == 0).all()
    solid = alpha > 0.05
    straight = bare[solid] / alpha[solid][:, None]
    assert reference.decibels(picture[solid][:, :3], truncated(straight), 255) > 50


def test_out_is_drawn_into(scene: plugins.Scene) -> None:
    controls, camera, renderer = egg.controls(scene.head), egg.camera(64, 48), plugins.Renderer(scene, 1)
    out = np.empty((48, 64, 3), np.uint8)
    assert renderer.draw(*controls, camera, out=out) is out
    assert (out == renderer.draw(*controls, camera)).all()


def test_size_may_change_between_frames(scene: plugins.Scene) -> None:
    controls, renderer = egg.controls(scene.head), plugins.Renderer(scene, 2)
    for size in ((64, 64), (333, 222), (1, 1), (64, 64)):
        camera = egg.camera(*size)
        assert (renderer.draw(*controls, camera) == plugins.Renderer(scene, 1).draw(*controls, camera)).all()


def test_huge_gaussians_overflow_no_list() -> None:
    """Every Gaussian on every tile: far more pairs than the list first has room for."""
    head = egg.head(8, 8)
    gaussians = egg.gaussians(head, 700, size=30.0)
    scene, camera = plugins.Scene(head, gaussians), egg.camera(320, 320)
    controls = egg.controls(head)
    picture = plugins.Renderer(scene, 2).draw(*controls, camera)
    wanted, _ = reference.render(scene, *controls, camera, background=(1, 1, 1))
    assert np.abs(picture - truncated(wanted)).max() <= 2  # one flat colour: a level is missed everywhere or nowhere


@pytest.mark.parametrize("scales", [(0.3, 0.1, 4.0), (4.0, 0.1, 0.3), (3.0, 0.3, 3.0)])
@pytest.mark.parametrize("isa", ISAS)
def test_gaussians_on_several_spans(isa: str, scales: tuple[float, float, float]) -> None:
    """Tall, wide and large ones: each kind of rectangle is listed in another way; shares of threads change nothing."""
    head = egg.head()
    large = replace(egg.gaussians(head, 250, 0, 0), scales=np.tile(np.log(np.float32(scales)), (250, 1)))
    scene, camera = plugins.Scene(head, large), egg.camera(150, 170)
    controls = egg.controls(head)
    pictures = [plugins.Renderer(scene, threads, isa).draw(*controls, camera) for threads in (1, 2, 5)]
    assert (pictures[1] == pictures[0]).all() and (pictures[2] == pictures[0]).all()
    wanted, _ = reference.render(scene, *controls, camera, background=(1, 1, 1))
    assert reference.decibels(pictures[0], truncated(wanted), 255) > 50


def test_many_gaussians_on_the_largest_picture() -> None:
    """A span's and a record's number need more than 32 bits here; invisible Gaussians make the difference."""
    head = egg.head(8, 8, 1)
    many = egg.gaussians(head, 66_000, 0, 0, size=0.02)
    seen = np.arange(66_000) < 65_000
    arrays = {name: getattr(many, name) for name in ("face_index", "means", "quats", "scales", "sh")}
    faint = replace(many, opacities=np.where(seen, many.opacities, -20.0))
    fewer = replace(many, opacities=many.opacities[seen], **{name: array[seen] for name, array in arrays.items()})
    camera, controls = egg.camera(4096, 4096), egg.controls(head)
    first, second = (plugins.Renderer(plugins.Scene(head, g), 2).draw(*controls, camera) for g in (faint, fewer))
    assert np.array_equal(first, second) and (first < 255).mean() > 0.01


@pytest.mark.parametrize("isa", ISAS)
def test_history_changes_nothing(scene: plugins.Scene, audio: np.ndarray, isa: str) -> None:
    """A renderer that has drawn other poses, cameras and sizes draws the same bytes as a fresh one."""
    used = plugins.Renderer(scene, 1, isa)
    for frame, (width, height) in enumerate(((200, 120), (64, 64), (200, 120), (130, 260))):
        controls, camera = egg.controls(scene.head, 3 * frame), egg.camera(width, height, turn=1.5 * frame)
        fresh = plugins.Renderer(scene, 1, isa).draw(*controls, camera, audio, None)
        assert (used.draw(*controls, camera, audio, None) == fresh).all()


def test_near_plane_and_jacobian_clamp() -> None:
    """A camera inside the cloud: Gaussians behind, too near, and far outside the view."""
    head = egg.head()
    gaussians = egg.gaussians(head, 2000)
    bound = plugins.bind(head.template * 8, head.faces, gaussians)
    camera = replace(egg.camera(96, 96, turn=0.4, distance=0.3), fx=90.0, fy=120.0, cx=30.0)
    inputs = (gaussians.activated_opacities(), gaussians.sh, 3, camera)
    wanted, _ = reference.rasterize(reference.Bound(*bound), *inputs)
    for isa in ISAS:
        rgb, _ = plugins.rasterize(bound, *inputs, isa=isa)
        assert reference.decibels(rgb, wanted) > 60


def test_degenerate_poses_give_clean_pictures(scene: plugins.Scene) -> None:
    """All vertices in one point, and vertices beyond the float range: no crash, no stray pixel."""
    flat = plugins.Head(
        np.zeros_like(scene.head.template), scene.head.faces, scene.head.expression_basis * 0,
        scene.head.pose_basis * 0, scene.head.joints, scene.head.joint_expression_basis, scene.head.weights,
        scene.head.parents,
    )  # fmt: skip
    controls, camera = egg.controls(flat), egg.camera(64, 64)
    for isa in ISAS:
        picture = plugins.Renderer(plugins.Scene(flat, scene.gaussians), 1, isa).draw(*controls, camera)
        wanted, _ = reference.render(plugins.Scene(flat, scene.gaussians), *controls, camera, background=(1, 1, 1))
        assert np.abs(picture - truncated(wanted)).max() <= 4
        wild = (np.full(scene.head.expressions, 3e38, np.float32), *controls[1:])
        assert (plugins.Renderer(scene, 1, isa).draw(*wild, camera) == 255).all()


def test_workspace_is_small() -> None:
    head = egg.head(71, 71, 5)
    renderer = plugins.Renderer(plugins.Scene(head, egg.gaussians(head, 60000, 0, 0)), 2)
    renderer.draw(*egg.controls(head), egg.camera(512, 512))
    assert renderer.workspace_bytes < 25e6
    assert set(renderer.timings) == {"skin", "mouth", "project", "sort", "blend"}
    assert all(time >= 0 for time in renderer.timings.values())


def test_mouths_of_other_audio_widths_move(scene: plugins.Scene) -> None:
    """The renderer reads as much encoded audio as the network's first layer does."""
    mouth = egg.mouth(scene.gaussians, audio=24)
    controls, camera = egg.controls(scene.head), egg.camera(96, 96)
    audio = np.random.default_rng(4).normal(size=24).astype(np.float32)
    picture = plugins.Renderer(plugins.Scene(scene.head, scene.gaussians, mouth), 1).draw(*controls, camera, audio)
    wanted, _ = reference.render(
        plugins.Scene(scene.head, scene.gaussians, mouth), *controls, camera, audio, background=(1, 1, 1)
    )
    assert reference.decibels(picture, truncated(wanted), 255) > 50


def test_too_many_pairs_are_refused() -> None:
    """34,000 Gaussians on each of 32,768 spans are more than a list can number; found before it is allocated."""
    head = egg.head(8, 8, 1)
    small = egg.gaussians(head, 34_000, 0, 0)
    huge = plugins.Gaussians(
        small.face_index, small.means, small.quats, np.full((34_000, 3), 3.0), np.full(34_000, 2.0), small.sh, 0, "exp"
    )
    renderer = plugins.Renderer(plugins.Scene(head, huge), 1)
    with pytest.raises(ControlError, match="smaller picture"):
        renderer.draw(*egg.controls(head), egg.camera(4096, 4096))
    assert renderer.draw(*egg.controls(head), egg.camera(16, 16)).shape == (16, 16, 3)
