"""Where a cloud starts: on what pictures show, and in the hair beside and behind the head."""

from __future__ import annotations

from dataclasses import replace

import egg
import numpy as np
import pytest
import torch

from emotag.plugins import Camera
from emotag.training import gaussian_cloud as clouds
from emotag.training.gaussian_cloud import Cloud
from emotag.training.render import HeadTensors, Motion, bind, render, skin
from emotag.training.subject_colours import View, firm_triangles, seen_triangles, with_hair

SIZE, COUNT = 160, 3000
BROWN = (0.4, 0.25, 0.1)


@pytest.fixture(scope="module")
def head() -> HeadTensors:
    """An egg whose upper half turns with the head's joint alone."""
    made = HeadTensors.of(egg.head(14, 18, 3))
    upper = made.template[:, 1:2] > 0
    rigid = made.bases.reshape(len(made.bases), -1, 3) * ~upper
    weights = torch.where(upper, torch.eye(5)[1], made.weights)
    return replace(made, weights=weights, bases=rigid.reshape(len(rigid), -1))


@pytest.fixture(scope="module")
def cloud(head: HeadTensors) -> Cloud:
    return clouds.initial_cloud(head, COUNT, torch.Generator().manual_seed(0))


def still(head: HeadTensors) -> Motion:
    return Motion(torch.zeros(len(head.joint_expression_basis)), torch.zeros(5, 3), torch.zeros(3))


def matrix_of(camera: Camera) -> torch.Tensor:
    return torch.from_numpy(camera.view.astype(np.float32))


@pytest.fixture(scope="module")
def view(head: HeadTensors, cloud: Cloud) -> View:
    """The egg, with a brown curtain beside its lower half that is as deep as the egg's middle."""
    camera = egg.camera(SIZE, SIZE)
    camera = replace(camera, fx=0.6 * camera.fx, fy=0.6 * camera.fy)
    with torch.no_grad():
        plain = replace(cloud.parameters(0), opacities=torch.full((COUNT,), 2.944))
        output = render(head, plain, still(head), camera, torch.zeros(3), True)
    middle = float(matrix_of(camera)[2] @ torch.cat([head.template.mean(0), torch.ones(1)]))
    curtain = (output.alpha < 0.5) & (torch.arange(SIZE)[:, None] > SIZE // 2)
    curtain &= (torch.arange(SIZE)[None] - SIZE / 2).abs() < 0.3 * SIZE
    assert int(curtain.sum()) > 500 and output.depth is not None
    rgb = torch.where(curtain, torch.tensor(BROWN)[:, None, None], torch.full((3, 1, 1), 0.8))
    depth = torch.where(curtain, middle, output.depth / output.alpha.clamp_min(1e-6))
    return View(still(head), camera, rgb, ((output.alpha > 0.5) | curtain).float(), depth)


def test_what_faces_the_camera_is_seen(head: HeadTensors, cloud: Cloud, view: View) -> None:
    seen = seen_triangles(head, cloud, [view])
    matrix = matrix_of(view.camera)
    eye = -matrix[:3, :3].T @ matrix[:3, 3]
    corners = head.template[head.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = torch.nn.functional.cosine_similarity(normals, eye - corners.mean(1))
    assert bool(seen[facing > 0.5].all()) and not bool(seen[facing < -0.5].any())


def test_hair_hangs_from_the_skull_and_goes_on_behind_the_face(head: HeadTensors, cloud: Cloud, view: View) -> None:
    grown = with_hair(head, cloud, [view], 800, torch.Generator().manual_seed(1))
    added = slice(COUNT, None)
    assert 300 < len(grown) - COUNT <= 800
    assert bool(firm_triangles(head)[grown.face_index[added]].all())
    colours = 0.5 + clouds.SH_C0 * grown.sh_dc[added, 0].detach()
    assert float(torch.isclose(colours, torch.tensor(BROWN), atol=1e-5).all(1).float().mean()) > 0.97
    places = bind(head.template, head, grown.parameters(0)).means.detach()[added]
    camera = view.camera
    seen = places @ matrix_of(camera)[:3, :3].T + matrix_of(camera)[:3, 3]
    column = (camera.fx * seen[:, 0] / seen[:, 2] + camera.cx).long()
    row = (camera.fy * seen[:, 1] / seen[:, 2] + camera.cy).long()
    behind = view.rgb[0, row, column] > 0.7  # the egg hides it
    assert 0.02 < float(behind.float().mean()) < 0.5
    # It goes with the head, wherever on the neck's height it is.
    turn = torch.zeros(5, 3)
    turn[1, 1] = 0.1
    turned = skin(head, Motion(view.motion.expression, turn, view.motion.translation))
    moved = bind(turned, head, grown.parameters(0)).means.detach()[added]
    skull = head.template[:, 1] > 0.02
    before, after = head.template[skull], turned[skull]
    rigid = torch.linalg.lstsq(torch.cat([before, torch.ones(len(before), 1)], 1), after).solution
    expected = torch.cat([places, torch.ones(len(places), 1)], 1) @ rigid
    assert torch.allclose(moved, expected, atol=2e-4)
