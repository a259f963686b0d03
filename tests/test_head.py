"""The head model: its file, its bake, and Anny's head in FLAME's layout."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emotag.training
from emotag.plugins import Head, skin
from emotag.runtime.errors import CheckpointError
from emotag.training.head import HeadModel

ANNY = Path(emotag.training.__file__).parent / "assets" / "anny_head.npz"
JAW_OPEN = 0.4046
"""The jaw angle (radians) that reproduces Anny's jawOpen."""


def small_head(seed: int = 0, vertices: int = 40, expressions: int = 4) -> HeadModel:
    """A head of random numbers."""
    rng = np.random.default_rng(seed)
    weights = rng.random((vertices, 5))
    regressor = rng.random((5, vertices))
    return HeadModel(
        v_template=rng.normal(size=(vertices, 3), scale=0.1),
        faces=np.stack([rng.permutation(vertices)[:3] for _ in range(60)]),
        shape_basis=rng.normal(size=(vertices, 3, 6), scale=0.01),
        expression_basis=rng.normal(size=(vertices, 3, expressions), scale=0.01),
        pose_basis=rng.normal(size=(vertices, 3, 36), scale=0.001),
        joint_regressor=regressor / regressor.sum(axis=1, keepdims=True),
        weights=weights / weights.sum(axis=1, keepdims=True),
        parents=np.array([-1, 0, 1, 1, 1]),
        expression_names=tuple(f"expression_{index}" for index in range(expressions)),
    )


@pytest.fixture(scope="module")
def anny() -> HeadModel:
    return HeadModel.load(ANNY)


def posed(head: HeadModel, expression: dict[str, float] | None = None, jaw: float = 0.0) -> np.ndarray[Any, Any]:
    """Vertices by the kernels."""
    values = np.zeros(head.expression_count, np.float32)
    for name, value in (expression or {}).items():
        values[head.expression_names.index(name)] = value
    pose = np.zeros((5, 3), np.float32)
    pose[2, 0] = jaw
    return np.asarray(skin(Head(**vars(head.bake())), values, pose, np.zeros(3, np.float32)))


def vertices_of(head: HeadModel, *regions: str) -> np.ndarray[Any, Any]:
    return np.unique(head.faces[head.region(*regions)])


def test_a_head_survives_its_file(tmp_path: Path) -> None:
    head = replace(
        small_head(),
        uv=np.random.default_rng(1).random((60, 3, 2)),
        face_regions=np.arange(60) % 2,
        region_names=("skin", "lips"),
    )
    head.save(tmp_path / "head.npz")
    again = HeadModel.load(tmp_path / "head.npz")
    for name, value in vars(head).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value)
            assert getattr(again, name).dtype == value.dtype
        elif name != "source":
            assert getattr(again, name) == value


def test_a_compact_file_is_within_a_micrometre(tmp_path: Path) -> None:
    head = small_head()
    head.save(tmp_path / "head.npz", compact=True)
    again = HeadModel.load(tmp_path / "head.npz")
    for name in ("shape_basis", "expression_basis", "pose_basis"):
        assert np.abs(getattr(again, name) - getattr(head, name)).max() < 1e-6


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        small_head().save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_bake_gives_the_bundles_tensors() -> None:
    head = small_head()
    tensors = head.bake().tensors()
    shapes = {name: value.shape for name, value in tensors.items()}
    assert shapes == {
        "head.template": (40, 3),
        "head.faces": (60, 3),
        "head.expression_basis": (4, 40, 3),
        "head.pose_basis": (36, 40, 3),
        "head.joints": (5, 3),
        "head.joint_expression_basis": (4, 5, 3),
        "head.weights": (40, 5),
        "head.parents": (5,),
    }
    assert {name for name, value in tensors.items() if value.dtype == np.int32} == {"head.faces", "head.parents"}
    assert all(value.dtype in (np.float32, np.int32) and value.flags.c_contiguous for value in tensors.values())


def test_bake_applies_shape_and_offset_before_the_joints_are_regressed() -> None:
    head, rng = small_head(), np.random.default_rng(3)
    shape, offset = rng.normal(size=4), rng.normal(size=(40, 3), scale=0.01)
    baked = head.bake(shape.astype(np.float32), offset.astype(np.float32))
    expected = head.v_template.astype(np.float64) + head.shape_basis[:, :, :4].astype(np.float64) @ shape + offset
    np.testing.assert_allclose(baked.template, expected, atol=1e-6)
    np.testing.assert_allclose(baked.joints, head.joint_regressor.astype(np.float64) @ expected, atol=1e-6)
    np.testing.assert_allclose(
        baked.joint_expression_basis,
        np.einsum("jv,vce->ejc", head.joint_regressor, head.expression_basis),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("faces", np.full((60, 3), 40), "faces points outside"),
        ("weights", np.ones((40, 5)), "rows that do not sum to one"),
        ("weights", np.ones((39, 5)) / 5, "weights has the shape"),
        ("v_template", np.full((40, 3), np.nan), "v_template holds values"),
        ("pose_basis", np.zeros((40, 3, 35)), "pose_basis has the shape"),
        ("parents", np.array([-1, 0, 3, 1, 1]), "parents is not a tree"),
        ("expression_names", ("a",), "expression_names has 1"),
        ("joint_regressor", np.zeros((5, 41)), "joint_regressor has the shape"),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: Any, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        replace(small_head(), **{name: value})


def test_identity_of_another_head_is_refused() -> None:
    head = small_head()
    with pytest.raises(CheckpointError, match="7 shape coefficients"):
        head.bake(np.zeros(7, np.float32))
    with pytest.raises(CheckpointError, match="static_offset"):
        head.bake(static_offset=np.zeros((41, 3), np.float32))
    with pytest.raises(CheckpointError, match="5 expressions"):
        head.with_expressions(5)


def test_files_that_are_not_heads_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "head.npz"
    with pytest.raises(CheckpointError, match="cannot be read"):
        HeadModel.load(path)
    path.write_bytes(b"not a zip file at all")
    with pytest.raises(CheckpointError, match="not a head model"):
        HeadModel.load(path)
    small_head().save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="not a head model"):
        HeadModel.load(path)
    np.savez(path, v_template=np.zeros((3, 3)))
    with pytest.raises(CheckpointError, match="missing"):
        HeadModel.load(path)
    np.savez(path, v_template=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="not a head model"):
        HeadModel.load(path)
    monkeypatch.setattr("emotag.training.head._MAX_BYTES", 1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for index in range(5):
            bomb.writestr(f"{index}.npy", bytes(1 << 19))
    with pytest.raises(CheckpointError, match="unpacks to more"):
        HeadModel.load(path)


def test_annys_head_has_annys_sizes(anny: HeadModel) -> None:
    assert ANNY.stat().st_size <= 4 << 20
    assert ANNY.with_name("LICENSE-anny_head.md").read_text().count("CC0") > 0
    assert (
        anny.vertex_count - len(vertices_of(anny, "upper_teeth", "lower_teeth", "left_lashes", "right_lashes")) == 4538
    )
    assert anny.expression_count == 52 and anny.expression_names == tuple(sorted(anny.expression_names))
    assert len(anny.shape_names) == anny.shape_basis.shape[2] == 9
    np.testing.assert_allclose(anny.weights.sum(axis=1), 1, atol=1e-5)
    assert anny.uv is not None and -0.01 <= anny.uv.min() and anny.uv.max() <= 1.01


def test_annys_joints_are_in_the_head(anny: HeadModel) -> None:
    root, neck, jaw, left, right = anny.bake().joints
    assert root[1] < neck[1] < jaw[1] < left[1]
    assert left[0] > 0.02 and right[0] < -0.02 and left[2] > 0.03
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-4)


def test_the_jaw_joint_reproduces_jaw_open(anny: HeadModel) -> None:
    opened = posed(anny, {"jawOpen": 1.0})
    turned = posed(anny, jaw=JAW_OPEN)
    assert np.abs(opened - turned).max() < 2e-5


def test_the_jaw_moves_chin_tongue_and_lower_teeth_only(anny: HeadModel) -> None:
    drop = (posed(anny) - posed(anny, jaw=0.25))[:, 1]
    assert drop[vertices_of(anny, "lower_teeth")].max() > 0.012
    assert drop[vertices_of(anny, "tongue")].max() > 0.01
    lips = vertices_of(anny, "lips")
    middle = lips[np.abs(anny.v_template[lips, 0]) < 0.006]
    lower, upper = (middle[half] for half in (anny.v_template[middle, 1] < -0.041, anny.v_template[middle, 1] > -0.034))
    assert drop[lower].min() > 0.008 and np.abs(drop[upper]).max() < 0.003
    assert np.abs(drop[vertices_of(anny, "upper_teeth")]).max() < 1e-4
    assert np.abs(drop[anny.v_template[:, 1] > 0.06]).max() < 1e-4


def lid_gap(head: HeadModel, vertices: np.ndarray[Any, Any]) -> float:
    """Metres between the left eye's upper and lower lid edges in front of the pupil."""
    lids = vertices_of(head, "left_lashes")
    centre = head.bake().joints[3]
    roots = lids[np.linalg.norm(head.v_template[lids] - centre, axis=1) < 0.0168]
    middle = roots[np.abs(head.v_template[roots, 0] - centre[0]) < 0.006]
    upper = middle[head.v_template[middle, 1] > 0.029]
    lower = middle[head.v_template[middle, 1] < 0.029]
    return float(vertices[upper, 1].mean() - vertices[lower, 1].mean())


def test_a_blink_closes_the_lids(anny: HeadModel) -> None:
    still = posed(anny)
    closed = posed(anny, {"eyeBlinkLeft": 1.0})
    assert lid_gap(anny, still) > 0.006
    assert lid_gap(anny, closed) < 0.0025
    right = vertices_of(anny, "right_eye", "right_lashes")
    assert np.abs(closed[right] - still[right]).max() < 1e-5


def test_eyes_turn_by_their_joints_and_not_by_expressions(anny: HeadModel) -> None:
    looks: Sequence[int] = [i for i, name in enumerate(anny.expression_names) if name.startswith("eyeLook")]
    eyes = vertices_of(anny, "left_eye", "right_eye")
    assert len(looks) == 8 and np.abs(anny.expression_basis[eyes][:, :, looks]).max() == 0
    assert (anny.weights[vertices_of(anny, "left_eye"), 3] == 1).all()
    assert (anny.weights[vertices_of(anny, "right_eye"), 4] == 1).all()


def test_the_neck_joint_leaves_the_rim_and_takes_the_chin(anny: HeadModel) -> None:
    rim = anny.v_template[:, 1] < -0.0955
    chin = (anny.v_template[:, 2] > 0.06) & (anny.v_template[:, 1] < -0.06)
    assert rim.any() and chin.any()
    assert anny.weights[rim, 0].min() > 0.95 and anny.weights[chin, 0].max() == 0
