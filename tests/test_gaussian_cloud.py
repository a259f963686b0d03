"""Gaussians in training: where they start, and that edits keep binding, mouth mask and moments together."""

from __future__ import annotations

from dataclasses import replace

import egg
import numpy as np
import pytest
import torch

from emotag.runtime.errors import ControlError
from emotag.training import gaussian_cloud as clouds
from emotag.training.densification import Edit, apply_edit, densify, reset_opacity
from emotag.training.gaussian_cloud import Bounds, Cloud, Densification, Statistics
from emotag.training.render import HeadTensors, bind

COUNT = 3000


@pytest.fixture(scope="module")
def head() -> HeadTensors:
    return HeadTensors.of(egg.head(12, 16, 3))


def cloud_on(head: HeadTensors, count: int = COUNT, **options: object) -> Cloud:
    mouth = torch.zeros(len(head.faces), dtype=torch.bool)
    mouth[40:80] = True
    generator = torch.Generator().manual_seed(1)
    return clouds.initial_cloud(head, count, generator, mouth_faces=mouth, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_a_cloud_starts_evenly_on_its_triangles(head: HeadTensors, activation: str) -> None:
    cloud = cloud_on(head, scale_activation=activation, sh_degree=2)
    bound = bind(head.template, head, cloud.parameters(0))
    corners = head.template[head.faces[cloud.face_index]]
    normal = torch.nn.functional.normalize(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    )
    off = ((bound.means - corners[:, 0]) * normal).sum(1)
    assert float(off.abs().max()) < 1e-6  # in the plane
    edges = corners.roll(-1, 1) - corners
    sides = torch.linalg.cross(edges, bound.means[:, None] - corners) @ normal[:, :, None]
    assert float(sides.min()) > -1e-8  # and inside
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    shares = torch.bincount(cloud.face_index, minlength=len(head.faces)).double()
    own = torch.zeros(len(head.faces), dtype=torch.double)
    own[cloud.face_index] = area.double()
    assert np.corrcoef(shares.numpy(), own.numpy())[0, 1] > 0.8
    # One size for all, whatever their triangles', and thin across the surface (the frame's second axis).
    assert float(bound.scales.std(0).max() / bound.scales.mean()) < 1e-3
    assert float(bound.scales[0, 1]) == pytest.approx(float(bound.scales[0, 0]) / 3, rel=1e-4)
    assert cloud.stored_degree == 2 and cloud.parameters(1).sh.shape == (COUNT, 9, 3)
    assert bool(cloud.mouth.any()) and bool(((cloud.face_index >= 40) & (cloud.face_index < 80) == cloud.mouth).all())


def test_a_cloud_is_the_same_for_a_seed(head: HeadTensors) -> None:
    first, again = cloud_on(head, 50), cloud_on(head, 50)
    assert all(torch.equal(a, b) for a, b in zip(first.leaves().values(), again.leaves().values(), strict=True))
    for bad in ({"count": 0}, {"sh_degree": 4}, {"opacity": 1.0}):
        with pytest.raises(ControlError, match="Gaussians of SH degree"):
            cloud_on(head, **{"count": 5, **bad})  # type: ignore[arg-type]


def trained(cloud: Cloud) -> torch.optim.Adam:
    """An optimiser whose moments are the row's number."""
    optimizer = torch.optim.Adam(clouds.parameter_groups(cloud), eps=1e-15)
    for leaf in cloud.leaves().values():
        leaf.grad = torch.zeros_like(leaf)
    optimizer.step()
    optimizer.zero_grad()
    for leaf in cloud.leaves().values():
        rows = torch.arange(1, len(leaf) + 1).reshape(-1, *[1] * (leaf.ndim - 1))
        optimizer.state[leaf]["exp_avg"] = torch.zeros_like(leaf) + rows
        optimizer.state[leaf]["exp_avg_sq"] = torch.zeros_like(leaf) + rows
    return optimizer


def test_an_edit_carries_binding_mouth_and_moments(head: HeadTensors) -> None:
    cloud = cloud_on(head, 40)
    optimizer = trained(cloud)
    source = torch.tensor([5, 7, 7, 39])
    fresh = torch.tensor([False, False, True, False])
    edit = Edit(source, fresh, {name: leaf.detach()[source] for name, leaf in cloud.leaves().items()})
    after = apply_edit(cloud, edit, optimizer)
    assert torch.equal(after.face_index, cloud.face_index[source]) and torch.equal(after.mouth, cloud.mouth[source])
    for name, leaf in after.leaves().items():
        group = next(g for g in optimizer.param_groups if g["name"] == f"gaussians.{name}")
        assert group["params"][0] is leaf and leaf.requires_grad and leaf.is_leaf
        state = optimizer.state[leaf]
        for moment in ("exp_avg", "exp_avg_sq"):
            if leaf.numel():
                assert state[moment].reshape(4, -1)[:, 0].tolist() == [6.0, 8.0, 0.0, 40.0]
        assert float(state["step"]) == 1
    assert len(optimizer.state) == len(after.leaves())
    after.parameters(1).sh.sum().backward()
    optimizer.step()  # goes on
    with pytest.raises(ControlError, match="does not hold"):
        apply_edit(cloud, edit, optimizer)


def seen(cloud: Cloud, gradient: dict[int, float]) -> Statistics:
    statistics = Statistics.zeros(len(cloud))
    pixels = torch.zeros(len(cloud), 2)
    for row, value in gradient.items():
        pixels[row, 0] = value / 32
    visible = torch.ones(len(cloud), dtype=torch.bool)
    visible[-1] = False
    statistics.add(pixels, visible, 64, 48)
    statistics.add(pixels, visible, 64, 48)
    return statistics


def test_statistics_count_half_picture_sizes_of_the_visible(head: HeadTensors) -> None:
    cloud = cloud_on(head, 10)
    statistics = seen(cloud, {3: 0.25, 9: 1.0})
    assert statistics.gradient[[3, 9]].tolist() == [0.5, 0.0] and statistics.seen[[3, 9]].tolist() == [2.0, 0.0]


def test_densify_clones_splits_and_prunes(head: HeadTensors) -> None:
    cloud = cloud_on(head, 30)
    with torch.no_grad():
        cloud.scales.fill_(np.log(0.2))
        cloud.scales[4] = float(np.log(2.0))  # coarse: split
        cloud.scales[6, 1] = float(np.log(20.0))  # far too large: pruned
        cloud.opacities[8] = -9.0  # invisible: pruned
    options = Densification(ceiling=100)
    edit = densify(cloud, seen(cloud, {2: 1.0, 4: 1.0, 6: 1.0}), options, torch.Generator().manual_seed(0))
    assert edit is not None
    kept = [row for row in range(30) if row not in (6, 8)]
    assert edit.source.tolist() == [*kept, 2, 4]
    assert torch.nonzero(edit.fresh).squeeze(1).tolist() == [kept.index(4), 28, 29]
    clone, first, second = 28, kept.index(4), 29
    assert torch.equal(edit.values["means"][clone], cloud.means[2])
    assert torch.equal(edit.values["scales"][clone], cloud.scales[2])
    for row in (first, second):
        assert torch.allclose(edit.values["scales"][row].exp(), cloud.scales[4].exp() / 1.6)
        moved = (edit.values["means"][row] - cloud.means[4]).norm()
        assert 0 < float(moved) < 5 * 2.0
    assert not torch.equal(edit.values["means"][first], edit.values["means"][second])
    assert torch.equal(edit.values["means"][:2], cloud.means[:2])


def test_the_ceiling_holds_and_the_largest_gradients_go_first(head: HeadTensors) -> None:
    cloud = cloud_on(head, 30)
    statistics = seen(cloud, {row: 1.0 + row for row in range(20)})
    none = torch.Generator().manual_seed(0)
    edit = densify(cloud, statistics, Densification(ceiling=33), none)
    assert edit is not None and len(edit.source) == 33
    assert sorted(edit.source[30:].tolist()) == [17, 18, 19]
    assert densify(cloud, statistics, Densification(ceiling=30), none) is None
    assert densify(cloud, seen(cloud, {}), Densification(ceiling=99), none) is None
    with torch.no_grad():
        cloud.opacities.fill_(-20)
    with pytest.raises(ControlError, match="every Gaussian would be pruned"):
        densify(cloud, statistics, Densification(), none)


def test_a_split_draws_from_its_own_turned_distribution(head: HeadTensors) -> None:
    """A needle along its own x axis, turned a quarter about z, scatters along y of its triangle."""
    cloud = cloud_on(head, 400)
    with torch.no_grad():
        cloud.quats[:] = torch.tensor([1.0, 0, 0, 1.0])
        cloud.scales[:] = torch.tensor([1.0, 1e-3, 1e-3]).log()
        cloud.means.zero_()
    statistics = seen(cloud, dict.fromkeys(range(399), 1.0))
    edit = densify(cloud, statistics, Densification(ceiling=1000), torch.Generator().manual_seed(0))
    assert edit is not None
    spread = edit.values["means"][edit.fresh].std(0)
    assert float(spread[1]) == pytest.approx(1.0, rel=0.1) and float(spread[[0, 2]].max()) < 0.01


def test_resetting_opacities_forgets_their_moments(head: HeadTensors) -> None:
    cloud = cloud_on(head, 10)
    optimizer = trained(cloud)
    with torch.no_grad():
        cloud.opacities[0] = -8.0
    reset_opacity(cloud, optimizer)
    opacity = cloud.opacities.detach().sigmoid()
    assert float(opacity.max()) == pytest.approx(0.01) and float(opacity[0]) < 0.001
    assert float(optimizer.state[cloud.opacities]["exp_avg"].abs().sum()) == 0
    assert float(optimizer.state[cloud.means]["exp_avg"].abs().sum()) > 0


def test_bounds_hold_sizes_and_distances_in_the_world(head: HeadTensors) -> None:
    cloud = cloud_on(head, 200)
    before = bind(head.template, head, cloud.parameters(0))
    with torch.no_grad():
        cloud.scales[:100] += 9
        cloud.means[:50] += 1000
    unfirm = torch.zeros(len(head.faces), dtype=torch.bool)
    clouds.keep_near(cloud, head, Bounds(size=5.0, distance=0.16), unfirm)
    after = bind(head.template, head, cloud.parameters(0))
    spacing = float(before.scales[0, 0]) / 0.75
    assert float(after.scales[:100].max()) == pytest.approx(5.0 * spacing, rel=1e-4)
    assert torch.allclose(after.scales[100:], before.scales[100:], rtol=1e-5)
    assert float((after.means[:50] - before.means[:50]).norm(dim=1).max()) < 0.16 * 0.26 * 2
    assert torch.allclose(after.means[50:], before.means[50:])


def test_what_hangs_from_a_firm_triangle_may_be_far(head: HeadTensors) -> None:
    cloud = cloud_on(head, 200)
    before = bind(head.template, head, cloud.parameters(0))
    with torch.no_grad():
        cloud.means[:] += 1000
    firm = torch.zeros(len(head.faces), dtype=torch.bool)
    firm[cloud.face_index[0]] = True
    clouds.keep_near(cloud, head, Bounds(distance=0.1, hanging=0.5), firm)
    way = (bind(head.template, head, cloud.parameters(0)).means - before.means).detach().norm(dim=1)
    extent = float((head.template.amax(0) - head.template.amin(0)).amax())
    hanging = cloud.face_index == cloud.face_index[0]
    assert 0.5 * extent < float(way[hanging].min()) <= float(way[hanging].max()) < 0.5 * extent * 2
    assert float(way[~hanging].max()) < 0.3 * extent


def test_a_density_thins_out_triangles(head: HeadTensors) -> None:
    density = torch.ones(len(head.faces))
    density[: len(density) // 2] = 0.25
    plain, thin = cloud_on(head), cloud_on(head, density=density)

    def on_first_half(cloud: Cloud) -> float:
        return float((cloud.face_index < len(density) // 2).double().mean())

    share = on_first_half(plain)
    assert on_first_half(thin) == pytest.approx(share / 4 / (share / 4 + 1 - share), rel=0.1)
    # Where there are fewer they are larger, so that the surface stays closed.
    sizes = bind(head.template, head, thin.parameters(0)).scales[:, 0]
    first = thin.face_index < len(density) // 2
    assert float(sizes[first].mean()) == pytest.approx(2 * float(sizes[~first].mean()), rel=1e-3)


def test_rates_and_degrees_follow_their_schedules() -> None:
    rates = clouds.Rates()
    found = [clouds.learning_rates(step, 100) for step in (0, 50, 60, 80, 500)]
    assert set(found[0]) == {clouds.PREFIX + name for name in clouds.NAMES}
    means, scales = ([each[clouds.PREFIX + name] for each in found] for name in ("means", "scales"))
    assert means[0] == pytest.approx(rates.means) and means[-1] == pytest.approx(rates.means_final)
    assert means[1] == pytest.approx((rates.means * rates.means_final) ** 0.5)
    assert scales[:3] == [rates.scales] * 3
    assert scales[3:] == pytest.approx([rates.scales * rates.settle**0.5, rates.scales * rates.settle])
    unsettled = clouds.learning_rates(100, 100, replace(rates, settle=1.0))
    assert unsettled[clouds.PREFIX + "opacities"] == rates.opacities
    assert [clouds.sh_degree_at(step, 10, 1) for step in (0, 9, 10, 99)] == [0, 0, 1, 1]
    assert replace(rates, means=1.0).means == 1.0
