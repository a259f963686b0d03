"""One person in training: opened from a scene, drawn, learnt, saved, exported; and scenes that cannot be learnt."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import egg
import numpy as np
import pytest
import torch
from PIL import Image

from emotag import plugins
from emotag.training.checkpoint import CUE_ARRAYS, GAUSSIAN_ARRAYS, HEAD_ARRAYS, check_arrays
from emotag.training.gaussian_cloud import Densification
from emotag.training.head import HeadModel
from emotag.training.losses import LossWeights, total
from emotag.training.render import HeadTensors
from emotag.training.scenes import Scene, open_scene
from emotag.training.subject import Subject, SubjectError, SubjectOptions
from emotag.training.subject_colours import firm_triangles
from emotag.training.subject_frames import scaled_camera

SIZE, FRAMES, EXPRESSIONS, REST_JAW = 64, 20, 4, -0.02
WALL = np.array([0.2, 0.7, 0.4], np.float32)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    baked = egg.head(14, 18, EXPRESSIONS)
    count = len(baked.template)
    regressor = np.random.default_rng(0).random((5, count)).astype(np.float32)
    regions = (np.arange(len(baked.faces)) % 9 == 0).astype(np.int8)
    return HeadModel(
        v_template=baked.template,
        faces=baked.faces,
        shape_basis=np.full((count, 3, 2), 1e-3, np.float32),
        expression_basis=baked.expression_basis.transpose(1, 2, 0),
        pose_basis=baked.pose_basis.transpose(1, 2, 0),
        joint_regressor=regressor / regressor.sum(1, keepdims=True),
        weights=baked.weights,
        parents=baked.parents,
        expression_names=tuple(f"e{i}" for i in range(EXPRESSIONS)),
        face_regions=regions,
        region_names=("skin", "lips"),
    )


def small_camera() -> plugins.Camera:
    """The head takes half of the picture's height."""
    close = egg.camera(SIZE, SIZE)
    return replace(close, fx=0.5 * close.fx, fy=0.5 * close.fy)


@pytest.fixture(scope="module")
def folder(head: HeadModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of a coloured egg before a green wall, drawn by the kernels, in VHAP's layout."""
    root = tmp_path_factory.mktemp("scene")
    for name in ("images", "fg_masks", "flame_param", "depth"):
        (root / name).mkdir()
    baked = plugins.Head(**vars(head.bake(np.array([0.5, -0.5], np.float32))))
    gaussians = egg.gaussians(baked, 2500, 0, 0, size=0.8)
    gaussians = replace(gaussians, opacities=np.full(2500, 4.0, np.float32))
    camera = small_camera()
    pose = np.linalg.inv(camera.view)
    pose[:3, 1:3] *= -1
    rng = np.random.default_rng(3)
    listed = []
    for row in range(FRAMES):
        turns = 0.12 * rng.normal(size=(5, 3)).astype(np.float32)
        expression = 0.5 * rng.normal(size=EXPRESSIONS).astype(np.float32)
        vertices = plugins.skin(baked, expression, turns, np.zeros(3, np.float32))
        bound = plugins.bind(vertices, baked.faces, gaussians)
        rgb, alpha = plugins.rasterize(bound, gaussians.activated_opacities(), gaussians.sh, 0, camera)
        shown = rgb.clip(0, 1) + (1 - alpha[..., None]) * WALL
        name = f"{row:05d}_00.png"
        Image.fromarray((shown.clip(0, 1) * 255).round().astype(np.uint8)).save(root / "images" / name)
        Image.fromarray((alpha * 255).round().astype(np.uint8)).save(root / "fg_masks" / name)
        np.save(root / "depth" / f"{row:05d}_00.npy", np.where(alpha > 0.5, 0.9, 0).astype(np.float32))
        parameters = {
            "shape": np.array([0.5, -0.5]), "expr": expression[None], "rotation": turns[0], "neck_pose": turns[1],
            "jaw_pose": turns[2], "eyes_pose": turns[3:].reshape(1, 6), "translation": np.zeros((1, 3)),
        }  # fmt: skip
        np.savez(root / f"flame_param/{row:05d}.npz", **parameters)
        listed.append(
            {
                "timestep_index": row,
                "camera_index": 0,
                "file_path": f"images/{name}",
                "fg_mask_path": f"fg_masks/{name}",
                "flame_param_path": f"flame_param/{row:05d}.npz",
                "transform_matrix": pose.tolist(),
            }  # fmt: skip
        )
    top = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy, "w": SIZE, "h": SIZE}
    (root / "transforms.json").write_text(json.dumps(top | {"frames": listed}))
    (root / "synth.json").write_text(json.dumps({"rest_jaw": REST_JAW}))
    lines = ["frame, AU01_r, AU04_r, AU05_r, AU06_r, AU07_r, AU45_r"]
    lines += [f"{row + 1}, 0, 1, 2, 3, 4, {row % 5}" for row in range(FRAMES)]
    (root / "au_features.csv").write_text("\n".join(lines) + "\n")
    np.save(root / "emotion_features.npy", np.eye(7, dtype=np.float32)[np.arange(FRAMES) % 7])
    return root


@pytest.fixture
def scene(folder: Path) -> Scene:
    return open_scene(folder)


def opened(scene: Scene, head: HeadModel, **options: object) -> Subject:
    return Subject.open(scene, head, **{"count": 1500, "indices": range(14), **options})  # type: ignore[arg-type]


def learn(subject: Subject, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    generator, losses = torch.Generator().manual_seed(steps.start), []
    for step in steps:
        index = subject.train_indices[step % len(subject.train_indices)]
        background = subject.random_background(generator)
        output = subject.render(index, subject.controls(index), background=background, crop=True)
        loss, _ = total(LossWeights(), output, subject.target(index, background, crop=True))
        loss.backward()
        subject.after_backward(step)
        optimizer.step()
        optimizer.zero_grad()
        subject.densify(step, optimizer)
        losses.append(loss.item())
    return losses


@torch.no_grad()
def judged(subject: Subject) -> float:
    """Of some pictures over one background: what steps see depends on theirs."""
    behind, losses = torch.tensor([0.1, 0.3, 0.8]), []
    for index in subject.train_indices[::3]:
        output = subject.render(index, subject.controls(index), background=behind, crop=True)
        losses.append(total(LossWeights(), output, subject.target(index, behind, crop=True))[0].item())
    return float(np.mean(losses))


def adam(subject: Subject) -> torch.optim.Adam:
    return torch.optim.Adam(subject.parameter_groups(), eps=1e-15)


def test_a_person_is_learnt_and_goes_on_from_its_state(scene: Scene, head: HeadModel) -> None:
    """The loss falls; a subject that resumes from a state, and its optimiser, does the same steps."""
    dense = Densification(ceiling=1500, first=4, every=4, last=40, gradient=1e-5)
    options = SubjectOptions(steps=40, sh_every=10, densification=dense)
    subject = opened(scene, head, options=options)
    before, loss = len(subject.cloud), judged(subject)
    optimizer = adam(subject)
    learn(subject, optimizer, range(30))
    assert judged(subject) < 0.75 * loss
    assert before < len(subject.cloud) <= 1500 and subject.sh_degree == 1
    other = opened(scene, head, options=options, seed=7)
    other.load_state_dict(subject.state_dict())
    resumed = adam(other)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    assert learn(subject, optimizer, range(30, 36)) == learn(other, resumed, range(30, 36))
    for name, leaf in subject.cloud.leaves().items():
        assert torch.equal(leaf, other.cloud.leaves()[name]), name
    assert torch.equal(subject.mouth_index, other.mouth_index)


def test_colours_come_from_the_pictures(scene: Scene, head: HeadModel) -> None:
    grey, coloured = opened(scene, head, colours=False), opened(scene, head)
    errors = []
    for subject in (grey, coloured):
        with torch.no_grad():
            subject.cloud.opacities.fill_(3.0)
            output, target = subject.render(3, subject.controls(3)), subject.target(3)
        errors.append(float(((output.rgb - target.rgb).abs() * target.mask).mean()))
    assert errors[1] < 0.65 * errors[0]
    assert len(grey.cloud) == 1500 and 1200 <= len(coloured.cloud) <= 1500


def test_hair_is_put_where_the_mesh_does_not_reach(folder: Path, head: HeadModel, scene: Scene) -> None:
    """A mask that shows more than the mesh gets Gaussians there, in the colour of the picture."""
    wide = SubjectWithBlock(scene, folder)
    subject = opened(wide.scene, head)
    with torch.no_grad():
        output = subject.render(0, subject.controls(0), background=torch.zeros(3))
    inside = output.alpha[9:14, 29:35]
    assert float(inside.mean()) > 0.4
    colour = output.rgb[:, 9:14, 29:35].sum((1, 2)) / inside.sum()
    assert torch.allclose(colour, torch.from_numpy(wide.colour), atol=0.1)


def test_hair_hangs_from_what_turns_with_the_head_as_one(head: HeadModel) -> None:
    tensors = HeadTensors.of(plugins.Head(**vars(head.bake(np.zeros(2, np.float32)))))
    skull = tensors.template[:, 1] > 0.02
    weights = torch.where(skull[:, None], torch.eye(5)[1], torch.eye(5)[0])
    brow = skull & (tensors.template[:, 2] > 0)
    bases = tensors.bases.reshape(len(tensors.bases), -1, 3) * brow[:, None]
    made = replace(tensors, weights=weights, bases=bases.reshape(len(bases), -1))
    firm = firm_triangles(made)
    assert torch.equal(firm, (skull & ~brow)[made.faces].all(1)) and bool(firm.any()) and not bool(firm.all())


class SubjectWithBlock:
    """The scene with a block of one colour on the crown, in the masks too."""

    colour = np.array([0.9, 0.1, 0.6], np.float32)

    def __init__(self, scene: Scene, folder: Path) -> None:
        root = folder / "block"
        root.mkdir(exist_ok=True)
        pictures = []
        for picture in scene.pictures:
            rgb, mask = picture.rgb().copy(), (picture.mask() * 255).round().astype(np.uint8)
            rgb[8:22, 28:36], mask[8:22, 28:36] = (self.colour * 255).round().astype(np.uint8), 255
            paths = (root / f"rgb{picture.row}.png", root / f"mask{picture.row}.png")
            for path, pixels in zip(paths, (rgb, mask), strict=True):
                Image.fromarray(pixels).save(path)
            pictures.append(replace(picture, path=paths[0], mask_path=paths[1], depth_path=None))
        self.scene = replace(scene, pictures=tuple(pictures))


def test_the_wall_is_exchanged_exactly(scene: Scene, head: HeadModel) -> None:
    """Over the wall itself the target is the picture; over black it is the head alone."""
    subject = opened(scene, head)
    wall = subject.backdrop(0)
    assert wall is not None
    assert torch.allclose(wall, torch.from_numpy(WALL)[:, None, None].expand_as(wall), atol=0.01)
    picture = torch.from_numpy(scene.pictures[2].rgb()).permute(2, 0, 1) / 255
    assert torch.allclose(subject.target(2, wall).rgb, picture, atol=1e-6)
    black = subject.target(2, torch.zeros(3))
    outside = black.mask < 0.01
    assert float(black.rgb[:, outside].max()) < 0.02
    white = subject.target(2)
    assert torch.allclose(white.rgb - black.rgb, (1 - black.mask).expand(3, -1, -1), atol=0.03)
    assert white.metric and white.depth is None and subject.target(2, geometry=True).depth is not None


def test_a_crop_is_that_part_of_the_picture(scene: Scene, head: HeadModel) -> None:
    subject = opened(scene, head)
    background = torch.rand(3, SIZE, SIZE)
    box = subject.frames.box(1)
    assert box.width < SIZE or box.height < SIZE
    with torch.no_grad():
        whole = subject.render(1, subject.controls(1), True, background)
        crop = subject.render(1, subject.controls(1), True, background, crop=True)
    assert whole.depth is not None and crop.depth is not None
    for full, part in ((whole.rgb, crop.rgb), (whole.alpha, crop.alpha), (whole.depth, crop.depth)):
        assert torch.allclose(box.of(full), part, atol=2e-4)
    target, part = subject.target(1, background, True), subject.target(1, background, True, crop=True)
    assert part.share == box.width * box.height / SIZE**2 and target.share == 1
    assert torch.allclose(box.of(target.rgb), part.rgb, atol=3e-3)  # kept in 8 bits


def test_sizes_scale_pictures_and_cameras(scene: Scene, head: HeadModel) -> None:
    subject = opened(scene, head, size=32)
    assert subject.camera(0).width == 32 and subject.camera(0).fx == pytest.approx(small_camera().fx / 2)
    half = subject.target(0)
    subject.use_size(None)
    full = subject.target(0)
    assert half.rgb.shape == (3, 32, 32) and full.rgb.shape == (3, SIZE, SIZE)
    means = torch.nn.functional.avg_pool2d(full.mask[None, None], 2)[0, 0]
    assert torch.allclose(half.mask, means, atol=1e-5)
    wide = scaled_camera(replace(scene.pictures[0].camera, height=48), 32)
    assert (wide.width, wide.height) == (32, 24)


def test_motion_is_told_from_the_shut_mouth(scene: Scene, head: HeadModel) -> None:
    subject = opened(scene, head)
    controls, tracked = subject.controls(5), subject.tracked(5)
    assert tracked.expression is not None and tracked.jaw is not None and tracked.emotion is not None
    assert float(tracked.jaw[0]) == pytest.approx(float(controls.pose[2, 0]) - REST_JAW)
    again = subject.driven(5, tracked.expression, tracked.jaw)
    assert torch.allclose(again.pose, controls.pose) and torch.equal(again.translation, controls.translation)
    assert float(subject.still(5).pose[2, 0]) == pytest.approx(REST_JAW)
    assert int(tracked.emotion.argmax()) == 5
    moved = subject.driven(5, tracked.expression, tracked.jaw, lambda p: (p, p, p))
    assert moved.mouth is not None and torch.equal(moved.mouth.index, subject.mouth_index)
    assert bool(subject.cloud.mouth[subject.mouth_index].all()) and len(subject.mouth_index) > 20


def test_gradients_reach_the_motion(scene: Scene, head: HeadModel) -> None:
    subject = opened(scene, head)
    expression, jaw = torch.zeros(EXPRESSIONS, requires_grad=True), torch.zeros(3, requires_grad=True)
    subject.render(0, subject.driven(0, expression, jaw)).rgb.sum().backward()
    assert expression.grad is not None and float(expression.grad.abs().min()) > 0
    assert jaw.grad is not None and float(jaw.grad.abs().max()) > 0


def test_what_is_exported_is_what_a_checkpoint_asks_for(scene: Scene, head: HeadModel) -> None:
    subject = opened(scene, head)
    avatar, cues = subject.avatar_arrays(), subject.cue_arrays()
    check_arrays(avatar, HEAD_ARRAYS + GAUSSIAN_ARRAYS, "avatar")
    check_arrays(cues, tuple(CUE_ARRAYS), "cues")
    for name, shape in CUE_ARRAYS.items():
        assert cues[name].shape == (14, *shape)
    camera = scene.pictures[0].camera
    assert np.array_equal(cues["view"][0], camera.view) and cues["intrinsics"][0].tolist() == pytest.approx(
        camera.intrinsics
    )
    assert np.array_equal(avatar["mouth.index"], subject.mouth_index.numpy())
    drawn = plugins.Gaussians(
        **{name: avatar[f"gaussians.{name}"] for name in ("face_index", "means", "quats", "scales", "opacities", "sh")},
        active_sh_degree=0,
        scale_activation="exp",
    )
    assert len(drawn) == len(subject.cloud)


def test_scenes_that_cannot_be_learnt_say_why(scene: Scene, head: HeadModel, folder: Path) -> None:
    bare = replace(scene, pictures=tuple(replace(picture, mask_path=None) for picture in scene.pictures))
    with pytest.raises(SubjectError, match="has no mask.*matting"):
        opened(bare, head)
    empty = folder / "empty.png"
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(empty)
    some = [replace(p, mask_path=empty) if p.row < 3 else p for p in scene.pictures]
    subject = opened(replace(scene, pictures=tuple(some)), head)
    assert subject.train_indices == tuple(range(3, 14)) and "3 pictures without a face" in subject.notes[0]
    with pytest.raises(SubjectError, match="shows no face"):
        subject.target(0)
    with pytest.raises(SubjectError, match="5 of 8 training pictures show a face"):
        opened(replace(scene, pictures=tuple(some)), head, indices=range(8))
    with pytest.raises(SubjectError, match="an index is outside"):
        opened(scene, head, indices=[0, 99])
    with pytest.raises(SubjectError, match="ask for 16"):
        opened(scene, head, size=3)
    with pytest.raises(SubjectError, match="expressions"):
        opened(replace(scene, sizes=replace(scene.sizes, expression=2)), head)
    with pytest.raises(SubjectError, match="vertices"):
        opened(replace(scene, sizes=replace(scene.sizes, vertices=5)), head)
    with pytest.raises(SubjectError, match="has no au_features.csv"):
        opened(replace(scene, aus=None), head).cue_arrays()


def test_foreign_states_are_refused(scene: Scene, head: HeadModel) -> None:
    subject = opened(scene, head)
    state = subject.state_dict()
    for broken, message in (
        ({}, "not the state of a subject"),
        (state | {"version": 9}, "version 9"),
        (state | {"mouth": state["mouth"][:-1]}, "do not fit"),
        (state | {"face_index": state["face_index"] + 10_000}, "do not fit"),
    ):
        with pytest.raises(SubjectError, match=message):
            subject.load_state_dict(broken)


def test_what_is_kept_stays_below_its_bound(scene: Scene, head: HeadModel) -> None:
    subject = opened(scene, head, options=SubjectOptions(cache_bytes=30_000))
    for index in subject.train_indices:
        subject.frames.crop(index)
    kept = sum(sample.pixels.nbytes for sample in subject.frames._kept.values())
    assert 0 < kept <= 30_000
