"""The demo avatar's appearance: counts, values, and that nothing shows through, drawn with the kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emotag.training
from emotag.plugins import Camera, Renderer
from emotag.runtime.errors import CheckpointError
from emotag.training.appearance import bake_appearance, demo_camera
from emotag.training.appearance_sheet import contact_sheet, save_png, scene_of
from emotag.training.appearance_surface import even_subset
from emotag.training.head import HeadModel

ANNY = Path(emotag.training.__file__).parent / "assets" / "anny_head.npz"
SIZE = 256


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return HeadModel.load(ANNY)


@pytest.fixture(scope="module")
def baked(head: HeadModel) -> dict[str, Any]:
    return bake_appearance(head)


@pytest.fixture(scope="module")
def renderer(head: HeadModel, baked: dict[str, Any]) -> Renderer:
    return Renderer(scene_of(head, baked))


def draw(
    renderer: Renderer, head: HeadModel, yaw: float = 0.0, jaw: float = 0.0, *names: str
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """RGBA (SIZE,SIZE,4)"""
    view, (fx, fy, cx, cy) = demo_camera(SIZE, SIZE, yaw)
    expression = np.zeros(head.expression_count, np.float32)
    expression[[head.expression_names.index(name) for name in names]] = 1
    pose = np.zeros((5, 3), np.float32)
    pose[2, 0] = jaw
    camera = Camera(view, fx, fy, cx, cy, SIZE, SIZE)
    return renderer.draw(expression, pose, np.zeros(3, np.float32), camera, background=None)


def pixels(points: np.ndarray[Any, Any], yaw: float) -> np.ndarray[Any, Any]:
    """(N,2) column and row of world points."""
    view, (fx, fy, cx, cy) = demo_camera(SIZE, SIZE, yaw)
    seen = points @ view[:3, :3].T + view[:3, 3]
    return np.stack([fx * seen[:, 0] / seen[:, 2] + cx - 0.5, fy * seen[:, 1] / seen[:, 2] + cy - 0.5], axis=1)


def colour_at(picture: np.ndarray[Any, Any], point: tuple[float, float, float], yaw: float = 0.0) -> Any:
    """Mean colour of the 3×3 pixels about a world point."""
    column, row = np.rint(pixels(np.array([point]), yaw)[0]).astype(int)
    return picture[row - 1 : row + 2, column - 1 : column + 2, :3].reshape(-1, 3).mean(axis=0)


def test_the_tensors_are_a_bundles(head: HeadModel, baked: dict[str, Any]) -> None:
    count = 60_000
    assert {key: value.shape for key, value in baked.items()} == {
        "gaussians.face_index": (count,),
        "gaussians.means": (count, 3),
        "gaussians.quats": (count, 4),
        "gaussians.scales": (count, 3),
        "gaussians.opacities": (count,),
        "gaussians.sh": (count, 1, 3),
    }
    index = baked.pop("gaussians.face_index")
    assert index.dtype == np.int32 and index.min() >= 0 and index.max() < len(head.faces)
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in baked.values())
    baked["gaussians.face_index"] = index
    np.testing.assert_allclose(np.linalg.norm(baked["gaussians.quats"], axis=1), 1, atol=1e-5)


def test_it_is_drawn_from_its_seed(head: HeadModel, baked: dict[str, Any]) -> None:
    again = bake_appearance(head)
    for key, value in baked.items():
        np.testing.assert_array_equal(again[key], value)


@pytest.mark.parametrize("yaw", [-1.047, -0.6, 0.0, 0.6, 1.047, np.pi])
@pytest.mark.parametrize("jaw", [0.0, 0.25])
def test_nothing_shows_through(renderer: Renderer, head: HeadModel, yaw: float, jaw: float) -> None:
    """Wherever the head's own mesh is, the picture is opaque."""
    alpha = draw(renderer, head, yaw, jaw)[..., 3]
    inner = np.unique(head.faces[head.region("skin", "lips", "eyelids")])
    seen = np.rint(pixels(head.v_template[inner].astype(float), yaw)).astype(int)
    covered = alpha[seen[:, 1], seen[:, 0]]
    # Vertices on the outline lie on its soft edge.
    silhouette = np.zeros((SIZE, SIZE), bool)
    silhouette[seen[:, 1], seen[:, 0]] = True
    inside = np.array(
        [alpha[max(r - 3, 0) : r + 4, max(c - 3, 0) : c + 4].min() > 0 for c, r in seen.tolist()], dtype=bool
    )
    assert inside.mean() > 0.8
    assert (covered[inside] >= 250).mean() > 0.995
    assert covered[inside].min() > 200


def test_a_closed_mouth_shows_lips_only(renderer: Renderer, head: HeadModel) -> None:
    picture = draw(renderer, head)[..., :3].astype(float)
    columns, rows = pixels(np.array([[-0.018, -0.031, 0.08], [0.018, -0.046, 0.08]]), 0.0).T
    mouth = picture[int(rows[0]) : int(rows[1]) + 1, int(columns[0]) : int(columns[1]) + 1].reshape(-1, 3)
    assert len(mouth) > 100
    whitest = mouth.min(axis=1).max()
    assert whitest < 150, "something as white as a tooth"
    assert (mouth[:, 0] > mouth[:, 2] - 5).all()


def test_an_open_mouth_shows_a_dark_inside_and_teeth(renderer: Renderer, head: HeadModel) -> None:
    closed, opened = draw(renderer, head), draw(renderer, head, 0.0, 0.3)
    inside = colour_at(opened, (0.0, -0.046, 0.07))
    assert inside.sum() < 0.6 * colour_at(closed, (0.0, -0.046, 0.07)).sum()
    smile = draw(
        renderer, head, 0.0, 0.08, "mouthSmileLeft", "mouthSmileRight", "mouthUpperUpLeft", "mouthUpperUpRight"
    )
    tooth = colour_at(smile, (0.004, -0.0335, 0.07))
    assert tooth.min() > 140


def test_a_blink_hides_the_eyes(renderer: Renderer, head: HeadModel) -> None:
    middle = (0.0308, 0.0295, 0.061)
    cheek = colour_at(draw(renderer, head), (0.036, -0.002, 0.06))
    assert colour_at(draw(renderer, head), middle).sum() < 0.6 * cheek.sum()
    lid = colour_at(draw(renderer, head, 0.0, 0.0, "eyeBlinkLeft", "eyeBlinkRight"), (0.0308, 0.034, 0.061))
    assert np.abs(lid - cheek).max() < 70 and lid[0] > lid[2] + 20


def test_the_picture_is_framed(renderer: Renderer, head: HeadModel) -> None:
    alpha = draw(renderer, head)[..., 3]
    assert alpha[:4].max() == 0, "room above the hair"
    assert alpha[-1].min() > 240, "clothes to the lower edge"
    columns = np.flatnonzero(alpha[SIZE // 2] > 128)
    assert abs(columns.mean() - (SIZE - 1) / 2) < 6


def test_even_subset_is_even_and_full() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.random((4000, 2)), np.zeros((4000, 1))], axis=1)
    up = np.broadcast_to([0.0, 0.0, 1.0], points.shape)
    kept = points[even_subset(points, up, 0.05)]
    between = np.linalg.norm(kept[:, None] - kept, axis=2) + np.eye(len(kept))
    assert between.min() >= 0.05
    assert np.linalg.norm(points[:, None] - kept, axis=2).min(axis=1).max() <= 0.05


def test_other_heads_and_counts_are_refused(head: HeadModel) -> None:
    with pytest.raises(CheckpointError, match="no painted regions"):
        bake_appearance(replace(head, face_regions=None, region_names=()))
    with pytest.raises(CheckpointError, match="too small"):
        bake_appearance(head, count=1000)


def test_the_contact_sheet(head: HeadModel, baked: dict[str, Any], tmp_path: Path) -> None:
    sheet = contact_sheet(head, baked, demo_camera, size=48)
    assert sheet.shape == (3 * 48, 5 * 48, 3) and sheet.std() > 20
    save_png(sheet, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("side", [1, -1])
def test_a_squint_shows_no_dark_of_the_fold_behind_the_lower_lid(
    renderer: Renderer, head: HeadModel, side: int
) -> None:
    expression = np.zeros(head.expression_count, np.float32)
    for name in ("cheekSquint", "eyeSquint", "noseSneer"):
        for end in ("Left", "Right"):
            expression[head.expression_names.index(name + end)] = 0.8
    view, (fx, fy, cx, cy) = demo_camera(SIZE, SIZE)
    column, row = pixels(np.array([[side * 0.034, 0.018, 0.05]]), 0.0)[0]  # 12 mm below the eye
    near = 4 * np.array([fx, fy, cx - column, cy - row])
    camera = Camera(view, near[0], near[1], near[2] + SIZE / 2, near[3] + SIZE / 2, SIZE, SIZE)
    drawn = renderer.draw(expression, np.zeros((5, 3), np.float32), np.zeros(3, np.float32), camera, background=None)
    patch = drawn[SIZE // 2 - 12 : SIZE // 2 + 24, SIZE // 2 - 24 : SIZE // 2 + 24, :3].mean(axis=-1)
    assert patch.min() > 0.8 * np.median(patch)


def test_shut_lids_hide_the_eyes(head: HeadModel, baked: dict[str, Any], renderer: Renderer) -> None:
    eyes = head.region("left_eye", "right_eye")[baked["gaussians.face_index"]]
    green = baked["gaussians.sh"].copy()
    green[eyes, 0] = [-1.77, 1.77, -1.77]
    other = Renderer(scene_of(head, {**baked, "gaussians.sh": green}))

    def differ(*names: str) -> int:
        one, two = (draw(each, head, 0.0, 0.0, *names).astype(int) for each in (renderer, other))
        return int(np.abs(one - two).max())

    assert differ() > 100
    assert differ("eyeBlinkLeft", "eyeBlinkRight") <= 10  # 58 with gaps between the rows of the lids
