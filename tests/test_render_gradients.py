"""The differentiable renderer against the definition: float64 finite differences, and float64 autograd."""

from __future__ import annotations

import sys
from collections.abc import Callable

import egg
import numpy as np
import pytest
import reference
import torch
import torch_reference
from torch import Tensor

from emotag import plugins
from emotag.runtime.errors import BackendError, ControlError
from emotag.training import posing
from emotag.training import render as training
from emotag.training.render import GaussianParameters, HeadTensors, Motion, Mouth, ScaleActivation

COUNT = 60
GROUPS = ("means", "quats", "scales", "opacities", "sh")


def gaussians_on(head: plugins.Head, degree: int = 3, activation: str = "exp") -> plugins.Gaussians:
    return egg.gaussians(head, COUNT, degree, degree, activation, size=1.2)


@pytest.fixture(scope="module")
def head() -> plugins.Head:
    return egg.head(8, 10, 4)


@pytest.fixture(scope="module")
def camera() -> plugins.Camera:
    return egg.camera(28, 22, turn=0.2)


def loss_weights(camera: plugins.Camera, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a linear loss over the picture and alpha: smooth, so that no gradient is a small difference."""
    y, x = np.mgrid[: camera.height, : camera.width] / camera.width
    waves = [np.sin(3 * x + 2 * c) + np.cos(4 * y - c) for c in range(channels)]
    return np.array(waves, np.float32), (0.5 - x * y).astype(np.float32)


def relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def world_inputs(head: plugins.Head, degree: int) -> tuple[plugins.Bound, np.ndarray, np.ndarray, np.ndarray]:
    gaussians = gaussians_on(head, degree)
    features = np.random.default_rng(3).normal(size=(COUNT, 4)).astype(np.float32)
    bound = plugins.bind(head.template, head.faces, gaussians)
    return bound, gaussians.activated_opacities(), gaussians.sh, features


@pytest.mark.parametrize("isa", plugins.supported_isas())
@pytest.mark.parametrize("degree", range(4))
def test_kernels_agree_with_float64_autograd(head: plugins.Head, camera: plugins.Camera, isa: str, degree: int) -> None:
    """Picture, alpha, and the gradient of every input, projected means included; with and without features."""
    bound, opacities, sh, features = world_inputs(head, degree)
    inputs = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in (*bound, opacities, sh, features)]
    points = torch.zeros(COUNT, 2, dtype=torch.float64, requires_grad=True)
    picture, alpha = torch_reference.rasterize(*inputs, degree, camera, points)
    tracer = plugins.Tracer(1, isa)
    for channels in (7, 3):
        weights, alpha_weights = loss_weights(camera, channels)
        loss = (picture[:channels] * torch.from_numpy(weights)).sum() + (alpha * torch.from_numpy(alpha_weights)).sum()
        wanted = torch.autograd.grad(loss, [*inputs, points], retain_graph=True, allow_unused=True)
        traced = tracer.forward(bound, opacities, sh, degree, camera, features if channels == 7 else None)
        assert np.abs(traced.picture - picture[:channels].detach().numpy()).max() < 1e-4
        assert np.abs(traced.alpha - alpha.detach().numpy()).max() < 1e-4
        gradients = tracer.backward(traced, weights, alpha_weights)
        for name, want in zip(gradients._fields, wanted, strict=True):
            if name == "features" and channels == 3:
                assert gradients.features.shape == (COUNT, 0)
                continue
            assert relative(getattr(gradients, name), want.numpy()) < 5e-4, name


def test_opaque_piles_stop_and_saturate(camera: plugins.Camera) -> None:
    """Many nearly opaque layers: alpha is cut at 0.99, and blending stops at a transmittance of 1e-4."""
    random = np.random.default_rng(8)
    means = np.concatenate([random.normal(0, 0.01, (40, 2)), np.linspace(-0.1, 0.1, 40)[:, None]], 1)
    bound = plugins.Bound(means, random.normal(size=(40, 4)), random.uniform(0.005, 0.02, (40, 3)))
    opacities = np.where(np.arange(40) % 3 == 0, 0.999, 0.6)
    sh = random.normal(0, 0.5, (40, 4, 3))
    bound = plugins.Bound(*(a.astype(np.float32) for a in bound))
    arrays = [*bound, opacities.astype(np.float32), sh.astype(np.float32), np.zeros((40, 4), np.float32)]
    inputs = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    picture, alpha = torch_reference.rasterize(*inputs, 1, camera)
    weights, alpha_weights = loss_weights(camera, 3)
    loss = (picture[:3] * torch.from_numpy(weights)).sum() + (alpha * torch.from_numpy(alpha_weights)).sum()
    loss.backward()
    assert 1 - float(alpha.detach().max()) < 1e-3
    for isa in plugins.supported_isas():
        tracer = plugins.Tracer(1, isa)
        traced = tracer.forward(bound, arrays[3], arrays[4], 1, camera)
        assert np.abs(traced.picture - picture[:3].detach().numpy()).max() < 1e-3
        gradients = tracer.backward(traced, weights, alpha_weights)
        for name, value in zip(gradients._fields[:5], inputs, strict=False):
            assert relative(getattr(gradients, name), value.grad.numpy()) < 5e-3, name


def test_hundreds_of_layers_agree_with_float64_autograd() -> None:
    """More Gaussians a tile than are loaded at once; some parts of the picture stop early, others never."""
    count, camera = 400, egg.camera(45, 26)
    random = np.random.default_rng(5)
    means = np.concatenate([random.normal(0, [0.05, 0.03], (count, 2)), random.uniform(-0.2, 0.2, (count, 1))], 1)
    means[:, 0] += 0.04
    arrays = [means, random.normal(size=(count, 4)), random.uniform(0.004, 0.025, (count, 3))]
    arrays += [random.uniform(0.02, 0.95, count), random.normal(0, 0.5, (count, 1, 3)), random.normal(size=(count, 4))]
    arrays = [a.astype(np.float32) for a in arrays]
    inputs = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    picture, alpha = torch_reference.rasterize(*inputs, 0, camera)
    covered = alpha.detach() > 1 - 1e-3
    assert 0.1 < float(covered.double().mean()) < 0.9
    weights, alpha_weights = loss_weights(camera, 7)
    loss = (picture * torch.from_numpy(weights)).sum() + (alpha * torch.from_numpy(alpha_weights)).sum()
    loss.backward()
    for isa in plugins.supported_isas():
        tracer = plugins.Tracer(1, isa)
        traced = tracer.forward(plugins.Bound(*arrays[:3]), arrays[3], arrays[4], 0, camera, arrays[5])
        assert np.abs(traced.picture - picture.detach().numpy()).max() < 1e-3
        gradients = tracer.backward(traced, weights, alpha_weights)
        for name, value in zip(gradients._fields[:6], inputs, strict=False):
            assert relative(getattr(gradients, name), value.grad.numpy()) < 5e-4, name


@pytest.mark.parametrize("degree", [0, 3])
def test_forward_is_the_picture_of_rasterize(head: plugins.Head, camera: plugins.Camera, degree: int) -> None:
    bound, opacities, sh, _ = world_inputs(head, degree)
    traced = plugins.Tracer().forward(bound, opacities, sh, degree, camera)
    rgb, alpha = plugins.rasterize(bound, opacities, sh, degree, camera)
    exact, exact_alpha = reference.rasterize(reference.Bound(*bound), opacities, sh, degree, camera)
    # Drawing stops earlier and rounds the exponential and the harmonics; training does not.
    assert reference.decibels(traced.picture.transpose(1, 2, 0), rgb) > 50
    assert reference.decibels(traced.picture.transpose(1, 2, 0), exact) > 90
    assert reference.decibels(traced.alpha, exact_alpha) > 90
    assert reference.decibels(traced.alpha, alpha) > 50


def test_threads_change_nothing_but_rounding(head: plugins.Head) -> None:
    camera = egg.camera(100, 90)
    bound, opacities, sh, features = world_inputs(head, 2)
    weights, alpha_weights = loss_weights(camera, 7)

    def run(threads: int) -> tuple[np.ndarray, ...]:
        tracer = plugins.Tracer(threads)
        traced = tracer.forward(bound, opacities, sh, 2, camera, features)
        return (traced.picture, traced.alpha, *tracer.backward(traced, weights, alpha_weights))

    one, again, two, two_again = run(1), run(1), run(2), run(2)
    for a, b, c, d in zip(one, again, two, two_again, strict=True):
        assert (a == b).all() and (c == d).all()
        assert np.abs(a - c).max() <= 1e-5 * np.abs(a).max()
    assert (one[0] == two[0]).all()


def model(
    head: plugins.Head, activation: str = "exp"
) -> tuple[plugins.Scene, HeadTensors, GaussianParameters, Motion, dict[str, Tensor]]:
    """A posed avatar with an explicit offset for a dozen mouth Gaussians, and its named leaves."""
    gaussians = gaussians_on(head, 1, activation)
    parameters = GaussianParameters.of(gaussians)
    random = np.random.default_rng(11)
    expression, pose, translation = (torch.tensor(a, requires_grad=True) for a in egg.controls(head, 2))
    offsets = {
        "d_mu": torch.tensor(random.normal(0, 2e-3, (12, 3)).astype(np.float32), requires_grad=True),
        "d_rot": torch.tensor(random.normal(0, 1, (12, 4)).astype(np.float32), requires_grad=True),
        "d_scale": torch.tensor(random.normal(0, 0.1, (12, 3)).astype(np.float32), requires_grad=True),
    }
    mouth = Mouth(torch.arange(20, 32), lambda points: tuple(offsets.values()))  # type: ignore[arg-type,return-value]
    motion = Motion(expression, pose, translation, mouth)
    leaves = {"expression": expression, "pose": pose, "translation": translation, **offsets}
    leaves |= {name: getattr(parameters, name) for name in GROUPS}
    return plugins.Scene(head, gaussians), HeadTensors.of(head), parameters, motion, leaves


def definition(
    scene: plugins.Scene, camera: plugins.Camera, values: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Picture and alpha in float64 NumPy for the leaves of `model`, by the reference of the kernels' tests."""
    raw = plugins.Gaussians.__new__(plugins.Gaussians)  # holds float64, which the checked class would round
    for name in ("face_index", "scale_activation"):
        object.__setattr__(raw, name, getattr(scene.gaussians, name))
    for name in GROUPS:
        object.__setattr__(raw, name, values[name])
    vertices = reference.skin(scene.head, values["expression"], values["pose"], values["translation"])
    bound = reference.bind(vertices, scene.head.faces, raw)
    offsets = (values["d_mu"], values["d_rot"], values["d_scale"])
    bound = reference.apply_mouth(bound, np.arange(20, 32), offsets)
    return reference.rasterize(bound, 1 / (1 + np.exp(-values["opacities"])), values["sh"], 1, camera)


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_every_parameter_agrees_with_finite_differences(
    head: plugins.Head, camera: plugins.Camera, activation: str
) -> None:
    """Central differences in float64 of the definition, along two random directions of each group of parameters."""
    scene, tensors, parameters, motion, leaves = model(head, activation)
    colour = torch.tensor([0.2, 0.5, 0.9], requires_grad=True)
    leaves["background"] = colour
    output = training.render(tensors, parameters, motion, camera, colour)
    weights, alpha_weights = loss_weights(camera, 3)
    loss = (output.rgb * torch.from_numpy(weights)).sum() + (output.alpha * torch.from_numpy(alpha_weights)).sum()
    loss.backward()
    values = {name: leaf.detach().numpy().astype(np.float64) for name, leaf in leaves.items()}

    def exact(values: dict[str, np.ndarray]) -> float:
        rgb, alpha = definition(scene, camera, values)
        rgb = rgb + (1 - alpha)[..., None] * values["background"]
        return float((rgb.transpose(2, 0, 1) * weights).sum() + (alpha * alpha_weights).sum())

    random = np.random.default_rng(5)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        gradient = leaf.grad.numpy().astype(np.float64)
        for _ in range(2):
            # Half along the gradient, so that the difference is not one of a direction in which little happens.
            direction = (
                random.normal(size=gradient.shape) * np.linalg.norm(gradient) / np.sqrt(gradient.size) + gradient
            )
            step = 1e-6 * direction / np.linalg.norm(direction)
            change = exact(values | {name: values[name] + step}) - exact(values | {name: values[name] - step})
            assert change / 2 == pytest.approx(float((gradient * step).sum()), rel=5e-3), name


def test_depth_and_normals(head: plugins.Head, camera: plugins.Camera) -> None:
    """An egg one metre away, seen from the front: depth is about a metre, normals look at the camera."""
    _, tensors, parameters, motion, leaves = model(head)
    plain = training.render(tensors, parameters, motion, camera, torch.zeros(3))
    assert plain.depth is None and plain.normal is None
    output = training.render(tensors, parameters, motion, camera, torch.zeros(3), geometry=True)
    assert torch.allclose(output.rgb, plain.rgb, atol=1e-6)
    assert output.depth is not None and output.normal is not None
    solid = output.alpha > 0.9
    depth = (output.depth / output.alpha)[solid]
    assert solid.sum() > 30 and depth.min() > 0.8 and depth.max() < 1.1
    assert (output.normal[2][solid] < 0).float().mean() > 0.9
    (output.depth.sum() + output.normal[0].sum()).backward()
    assert all(leaf.grad is not None for name, leaf in leaves.items() if name != "sh")
    assert float(leaves["translation"].grad.abs().max()) > 0


def test_geometry_agrees_with_finite_differences(head: plugins.Head, camera: plugins.Camera) -> None:
    """Of the blended depth, with respect to the translation along the view: the reference blends the same features."""
    _, tensors, parameters, motion, leaves = model(head)
    output = training.render(tensors, parameters, motion, camera, torch.zeros(3), geometry=True)
    assert output.depth is not None and output.normal is not None
    weights, _ = loss_weights(camera, 4)
    planes = torch.cat([output.depth[None], output.normal])
    (planes * torch.from_numpy(weights)).sum().backward()

    exact_leaves = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    bound = training.bind(
        training.skin(_doubled(tensors), Motion(*(exact_leaves[n] for n in ("expression", "pose", "translation")))),
        tensors,
        GaussianParameters(parameters.face_index, *(exact_leaves[n] for n in GROUPS), 1),
    )
    bound = posing.moved(
        bound,
        Mouth(torch.arange(20, 32), lambda _: (exact_leaves["d_mu"], exact_leaves["d_rot"], exact_leaves["d_scale"])),
    )
    features = training._geometry(bound, camera)
    world = (bound.means, bound.quats, bound.scales, exact_leaves["opacities"].sigmoid(), exact_leaves["sh"], features)
    picture, _ = torch_reference.rasterize(*world, 1, camera)
    (picture[3:] * torch.from_numpy(weights)).sum().backward()
    for name in set(leaves) - {"sh"}:
        assert relative(leaves[name].grad.numpy(), exact_leaves[name].grad.numpy()) < 2e-3, name


def _doubled(head: HeadTensors) -> HeadTensors:
    constants = (head.bases, head.joints, head.joint_expression_basis, head.weights)
    return HeadTensors(head.template.double(), head.faces, *(c.double() for c in constants), head.parents)


def leaves_of_binding(head: plugins.Head, count: int = 500) -> tuple[dict[str, Tensor], Tensor]:
    """Float64 leaves of a binding whose triangles turn every way, and the triangles."""
    random = np.random.default_rng(21)
    leaves = {
        "vertices": head.template + random.normal(0, 0.02, head.template.shape),
        "means": random.normal(0, 1, (count, 3)),
        "quats": random.normal(0, 2, (count, 4)),
        "scales": random.normal(-1, 0.5, (count, 3)),
    }
    index = torch.from_numpy(random.integers(0, len(head.faces) - 4, count))
    # What float32 can hold, so that both sides start from the same numbers.
    return {name: torch.tensor(a.astype(np.float32)).double().requires_grad_() for name, a in leaves.items()}, index


def with_flat_triangles(head: plugins.Head) -> HeadTensors:
    """Two triangles have an edge of no length."""
    tensors = HeadTensors.of(head)
    tensors.faces[3, 1], tensors.faces[5, 2] = tensors.faces[3, 0].clone(), tensors.faces[5, 0].clone()
    return tensors


def bound_by(
    head: HeadTensors, leaves: dict[str, Tensor], index: Tensor, activation: ScaleActivation = "exp"
) -> training.Bound:
    count, one = len(index), leaves["means"]
    gaussians = GaussianParameters(
        index,
        *(leaves[name] for name in ("means", "quats", "scales")),
        one[:, 0],
        one.reshape(count, 1, 3),
        0,
        activation,
    )
    return training.bind(leaves["vertices"], head, gaussians)


def weighted(bound: training.Bound, seed: int = 0) -> Tensor:
    """A linear loss of all that is bound."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in bound]
    return sum(((part * w.to(part)).sum() for part, w in zip(bound, weights, strict=True)), torch.zeros(()))


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_binding_is_that_of_torch(head: plugins.Head, activation: ScaleActivation) -> None:
    """Forward to 1e-6, and every gradient, against torch's own in float64 and in float32."""
    exact, index = leaves_of_binding(head)
    mesh = with_flat_triangles(head)
    wanted = bound_by(mesh, exact, index, activation)
    single = {name: leaf.detach().float().requires_grad_() for name, leaf in exact.items()}
    got = bound_by(mesh, single, index, activation)
    assert got.means.grad_fn.name() == "BindFunctionBackward"  # type: ignore[union-attr]
    for name, one, other in zip(got._fields, got, wanted, strict=True):
        assert float((one.detach().double() - other.detach()).abs().max()) < 1e-6, name
    weighted(wanted).backward()
    weighted(got).backward()
    torch_alone = {name: leaf.detach().clone().requires_grad_() for name, leaf in single.items()}
    scales = torch_alone["scales"]
    opened = scales.exp() if activation == "exp" else torch.nn.functional.softplus(scales)
    world = (*(torch_alone[name] for name in ("vertices", "means", "quats")), opened)
    weighted(posing.bind_in_torch(*world, mesh.faces, index)).backward()
    # An edge of no length has no direction: its gradient is as large as the smallest length that counts is small.
    flat = torch.zeros(len(head.template), dtype=torch.bool)
    flat[mesh.faces[[3, 5]].reshape(-1)] = True
    for name, leaf in single.items():
        rows = ~flat if name == "vertices" else slice(None)
        for other in (exact[name].grad, torch_alone[name].grad):
            assert relative(leaf.grad[rows].numpy(), other[rows].double().numpy()) < 2e-5, name  # type: ignore[index]
    assert bool(single["vertices"].grad.isfinite().all())  # type: ignore[union-attr]


def test_binding_agrees_with_finite_differences(head: plugins.Head) -> None:
    """Float32 gradients against central differences of torch's binding in float64, in random directions."""
    exact, index = leaves_of_binding(head)
    mesh = HeadTensors.of(head)
    single = {name: leaf.detach().float().requires_grad_() for name, leaf in exact.items()}
    weighted(bound_by(mesh, single, index)).backward()
    base = {name: leaf.detach().double() for name, leaf in single.items()}
    generator = torch.Generator().manual_seed(9)
    for name, leaf in single.items():
        gradient = leaf.grad.double()  # type: ignore[union-attr]
        noise = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        direction = gradient / gradient.norm() + 0.3 * noise / noise.norm()
        step = 1e-7 * direction
        moved = [weighted(bound_by(mesh, base | {name: base[name] + s * step}, index)) for s in (1, -1)]
        assert float(moved[0] - moved[1]) / 2 == pytest.approx(float((gradient * step).sum()), rel=1e-4), name


def test_binding_is_the_same_for_any_number_of_threads(head: plugins.Head) -> None:
    """To the bit, with more Gaussians than one thread takes at once; and without the vertices' gradient."""
    leaves, index = leaves_of_binding(head, 9001)
    arrays = {name: leaf.detach().float().numpy() for name, leaf in leaves.items()}
    faces = HeadTensors.of(head).faces.numpy()
    rig = plugins.Rig(arrays["vertices"], faces, index.numpy(), arrays["means"], arrays["quats"], arrays["scales"])
    results = []
    for threads in (1, 2, 3):
        binder = plugins.Binder(threads)
        attached = binder.forward(rig)
        upstream = [np.cos(np.arange(part.size, dtype=np.float32)).reshape(part.shape) for part in attached[1:]]
        results.append((*attached, *binder.backward(rig, attached.frames, *upstream)))
        still = binder.backward(rig, attached.frames, *upstream, to_vertices=False)
        assert still.vertices.shape == (0, 3)
        assert all((a == b).all() for a, b in zip(still[:3], results[-1][5:8], strict=True))
        none = binder.backward(rig, attached.frames, None, None, None, None)
        assert all((part == 0).all() for part in none)
    for other in results[1:]:
        assert all((a == b).all() for a, b in zip(results[0], other, strict=True))


def test_binding_refuses_what_is_not_there(head: plugins.Head) -> None:
    leaves, index = leaves_of_binding(head, 8)
    mesh = HeadTensors.of(head)
    single = {name: leaf.detach().float() for name, leaf in leaves.items()}
    with pytest.raises(ControlError, match=f"triangle {len(head.faces)} of {len(head.faces)}"):
        bound_by(mesh, single, index * 0 + len(head.faces))
    with pytest.raises(ControlError, match="triangle -1"):
        bound_by(mesh, single, index * 0 - 1)
    with pytest.raises(ControlError, match="vertex"):
        bound_by(mesh, single | {"vertices": single["vertices"][:5]}, index)
    with pytest.raises(ControlError, match="quats"):
        bound_by(mesh, single | {"quats": single["quats"][:5]}, index)
    empty = {name: leaf if name == "vertices" else leaf[:0] for name, leaf in single.items()}
    assert bound_by(mesh, empty, index[:0]).means.shape == (0, 3)


def test_screen_gradient_and_visibility(head: plugins.Head, camera: plugins.Camera) -> None:
    _, tensors, parameters, motion, _ = model(head)
    output = training.render(tensors, parameters, motion, camera, torch.zeros(3, camera.height, camera.width))
    with pytest.raises(ControlError, match="backward"):
        output.screen_gradient()
    output.rgb.square().sum().backward()
    gradient = output.screen_gradient()
    assert gradient.shape == (COUNT, 2) and output.visible.shape == (COUNT,)
    assert (gradient[~output.visible] == 0).all() and (gradient[output.visible] != 0).any()


def test_posing_is_that_of_the_kernels(head: plugins.Head) -> None:
    scene, tensors, parameters, motion, _ = model(head, "softplus")
    vertices = training.skin(tensors, motion)
    controls = [t.detach().numpy() for t in (motion.expression, motion.pose, motion.translation)]
    assert np.abs(vertices.detach().numpy() - plugins.skin(head, *controls)).max() < 5e-7
    bound = training.bind(vertices, tensors, parameters)
    wanted = plugins.bind(vertices.detach().numpy(), head.faces, scene.gaussians)
    assert np.abs(bound.means.detach().numpy() - wanted.means).max() < 1e-6
    assert relative(bound.scales.detach().numpy(), wanted.scales) < 1e-5
    assert (np.abs((bound.quats.detach().numpy() * wanted.quats).sum(1)) > 1 - 1e-5).all()


def test_rest_pose_has_gradients(head: plugins.Head, camera: plugins.Camera) -> None:
    """Rodrigues divides by the angle: at zero the gradient must still be that of a small turn."""
    _, tensors, parameters, motion, _ = model(head)
    gradients = []
    for angle in (0.0, 1e-3):
        pose = torch.full((5, 3), angle, requires_grad=True)
        output = training.render(
            tensors, parameters, Motion(motion.expression, pose, motion.translation), camera, torch.ones(3)
        )
        output.rgb.square().sum().backward()
        assert pose.grad is not None and bool(pose.grad.isfinite().all())
        gradients.append(pose.grad.numpy())
    assert relative(gradients[0], gradients[1]) < 0.1


def test_bad_inputs(head: plugins.Head, camera: plugins.Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tensors, parameters, motion, _ = model(head)
    with pytest.raises(ControlError, match="background"):
        training.render(tensors, parameters, motion, camera, torch.zeros(4))
    output = training.render(tensors, parameters, motion, camera, torch.zeros(3))
    with pytest.raises(ControlError, match="not finite"):
        (output.rgb * float("nan")).sum().backward()
    bound, opacities, sh, features = world_inputs(head, 0)
    forward: Callable[..., plugins.Traced] = plugins.Tracer().forward
    with pytest.raises(ControlError, match="features"):
        forward(bound, opacities, sh, 0, camera, features[:, :3])
    with pytest.raises(ControlError, match="opacities"):
        forward(bound, opacities + 1, sh, 0, camera)
    with pytest.raises(ControlError, match="no Gaussians"):
        forward(plugins.Bound(*(a[:0] for a in bound)), opacities[:0], sh[:0], 0, camera)
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(BackendError, match="gsplat"):
        training._gsplat()
