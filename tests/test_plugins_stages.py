"""The steps of a frame one by one against float64."""

from __future__ import annotations

import egg
import numpy as np
import pytest
import reference

from emotag import plugins


@pytest.fixture(scope="module")
def head() -> plugins.Head:
    return egg.head()


@pytest.mark.parametrize("isa", plugins.supported_isas())
@pytest.mark.parametrize(("rows", "columns", "expressions"), [(24, 32, 20), (5, 3, 1), (11, 7, 0)])
def test_skin_agrees_with_float64(isa: str, rows: int, columns: int, expressions: int) -> None:
    head = egg.head(rows, columns, expressions)
    controls = egg.controls(head, frame=3)
    vertices = plugins.skin(head, *controls, isa=isa)
    assert vertices.shape == (rows * columns, 3) and vertices.dtype == np.float32
    assert np.abs(vertices - reference.skin(head, *controls)).max() < 3e-7


def test_rest_pose_is_the_template(head: plugins.Head) -> None:
    vertices = plugins.skin(head, np.zeros(20), np.zeros((5, 3)), [0.1, 0.2, 0.3])
    assert np.abs(vertices - head.template - [0.1, 0.2, 0.3]).max() < 1e-7


def test_skin_of_local_expressions(head: plugins.Head) -> None:
    """Bases that leave most blocks of vertices alone are stored without them."""
    basis = head.expression_basis.copy()
    basis[:, 40:700] = 0
    fields = {name: getattr(head, name) for name in ("template", "faces", "pose_basis", "joints", "weights", "parents")}
    local = plugins.Head(expression_basis=basis, joint_expression_basis=head.joint_expression_basis, **fields)
    controls = egg.controls(local)
    assert np.abs(plugins.skin(local, *controls) - reference.skin(local, *controls)).max() < 3e-7


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_bind_agrees_with_float64(head: plugins.Head, activation: str) -> None:
    gaussians = egg.gaussians(head, 2000, activation=activation)
    vertices = plugins.skin(head, *egg.controls(head))
    bound = plugins.bind(vertices, head.faces, gaussians)
    wanted = reference.bind(vertices, head.faces, gaussians)
    assert np.abs(bound.means - wanted.means).max() < 1e-5 * np.abs(wanted.means).max()
    assert (np.abs(bound.scales - wanted.scales) < 2e-5 * wanted.scales).all()
    assert (np.abs((bound.quats * wanted.quats).sum(axis=1)) > 1 - 1e-6).all()


def test_bind_is_precise_at_half_turns() -> None:
    """Triangles turned by nearly 180° about every axis: w is near 0 there."""
    random = np.random.default_rng(0)
    axes = reference.unit(random.normal(size=(300, 3)))
    axes[:3] = np.eye(3)
    turns = np.array([reference.rotation(axis * (np.pi - 1e-4 * i)) for i, axis in enumerate(axes)])
    corners = np.array([[0, 0, 0], [1, 0, 0], [0.3, 0, 1]]) * 0.01
    vertices = np.einsum("nrc,kc->nkr", turns, corners).reshape(-1, 3)
    faces = np.arange(900, dtype=np.int32).reshape(300, 3)
    gaussians = plugins.Gaussians(
        np.arange(300), np.zeros((300, 3)), np.tile([1, 0, 0, 0], (300, 1)), np.zeros((300, 3)), np.zeros(300),
        np.zeros((300, 1, 3)), 0, "exp",
    )  # fmt: skip
    bound = plugins.bind(vertices, faces, gaussians)
    wanted = reference.bind(vertices.astype(np.float32), faces, gaussians).quats
    signs = np.sign((bound.quats * wanted).sum(axis=1, keepdims=True))
    assert np.abs(bound.quats * signs - wanted).max() < 2e-6


def test_degenerate_triangles_stay_finite() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]], np.float32)
    faces = np.array([[3, 3, 3], [0, 1, 2], [0, 0, 1]], np.int32)
    ones = np.ones((3, 3), np.float32)
    gaussians = plugins.Gaussians(
        np.arange(3), ones, np.ones((3, 4)), -3 * ones, np.ones(3), np.ones((3, 1, 3)), 0, "exp"
    )
    for array in plugins.bind(vertices, faces, gaussians):
        assert np.isfinite(array).all()


def test_hash_grid_agrees_with_float64(head: plugins.Head) -> None:
    mouth = egg.mouth(egg.gaussians(head, 100))
    points = np.random.default_rng(5).uniform(-0.18, 0.18, (500, 3)).astype(np.float32)
    points[:4] = [[0.1499, 0.1499, 0.1499], [-0.1499, -0.1499, -0.1499], [0.1499, -0.1499, 0], [0.16, 0, 0]]
    features, wanted = plugins.hash_grid(points, mouth), reference.hash_grid(points, mouth)
    assert features.shape == (500, 36)
    assert np.abs(features - wanted).max() < 2e-5
    assert (features[3, :12] == 0).all() and (features[3, 12:24] != 0).any()  # x outside: only yz is inside


@pytest.mark.parametrize("width", [256, 1, 133])
def test_mouth_agrees_with_float64(head: plugins.Head, width: int) -> None:
    gaussians = egg.gaussians(head, 800)
    mouth = egg.mouth(gaussians, 60, audio=width)
    assert mouth.audio_size == width
    bound = plugins.bind(head.template, head.faces, gaussians)
    audio = np.random.default_rng(7).normal(0, 1, width).astype(np.float32)
    offsets = plugins.mouth_offsets(bound.means[mouth.index], audio, mouth)
    wanted = reference.mouth_offsets(bound.means[mouth.index], audio, mouth)
    for got, want in zip(offsets, wanted, strict=True):
        assert np.abs(got - want).max() < 1e-5 * max(np.abs(want).max(), 1e-3)
    moved = plugins.apply_mouth(bound, mouth, offsets)
    exact = reference.apply_mouth(reference.Bound(*(array.astype(float) for array in bound)), mouth.index, wanted)
    for got, want in zip(moved, exact, strict=True):
        assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()
    others = np.setdiff1d(np.arange(800), mouth.index)
    assert (moved.means[others] == bound.means[others]).all()
    assert np.abs(moved.means[mouth.index] - bound.means[mouth.index]).max() > 1e-4


def test_constants_are_those_of_the_reference() -> None:
    assert plugins.constants.ALPHA_CUT == pytest.approx(1 / 255)
    assert plugins.constants.ALPHA_MAX == pytest.approx(0.99)
    assert plugins.constants.LOW_PASS == pytest.approx(0.3)
    assert plugins.constants.NEAR == pytest.approx(0.2)
    assert plugins.constants.STOP_TRANSMITTANCE == pytest.approx(1e-4)
