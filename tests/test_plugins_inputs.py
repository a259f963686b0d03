"""What the kernels refuse, and how they say so; the headers for nvcc; the stub."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import egg
import numpy as np
import pytest

from emotag import plugins
from emotag.plugins.errors import BackendError, CheckpointError, ControlError

SOURCE = Path(__file__).parent.parent / "plugins" / "src"
HEAD = egg.head(6, 8, 3)
GAUSSIANS = egg.gaussians(HEAD, 50)
MOUTH = egg.mouth(GAUSSIANS, 5)


def rebuilt(model: object, **changes: object) -> object:
    """The model with some fields replaced, checked again."""
    return replace(model, **changes)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"template": np.zeros((48, 2))}, "head.template"),
        ({"template": np.full((48, 3), np.nan)}, "head.template"),
        ({"faces": np.array([[0, 1, 48]])}, "head.faces"),
        ({"faces": np.array([[0, 1, -1]])}, "head.faces"),
        ({"faces": np.array([[0.0, 1.0, 2.0]])}, "head.faces"),
        ({"faces": np.zeros((0, 3), int)}, "no faces"),
        ({"expression_basis": np.zeros((3, 47, 3))}, "head.expression_basis"),
        ({"pose_basis": np.zeros((35, 48, 3))}, "head.pose_basis"),
        ({"joints": np.zeros((4, 3))}, "head.joints"),
        ({"joint_expression_basis": np.zeros((2, 5, 3))}, "head.joint_expression_basis"),
        ({"weights": np.zeros((48, 4))}, "head.weights"),
        ({"parents": [-1, 0, 1, 4, 1]}, "head.parents"),
        ({"parents": [0, 0, 1, 1, 1]}, "head.parents"),
    ],
)
def test_heads_that_are_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        rebuilt(HEAD, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"face_index": np.zeros(49, int)}, "gaussians"),
        ({"face_index": np.full(50, -1)}, "gaussians.face_index"),
        ({"means": np.full((50, 3), np.inf)}, "gaussians.means"),
        ({"quats": np.zeros((50, 4))}, "zero quaternion"),
        ({"scales": np.full((50, 3), 1e4)}, "after the activation"),
        ({"opacities": np.zeros((50, 1))}, "gaussians.opacities"),
        ({"sh": np.zeros((50, 5, 3))}, "1, 4, 9 or 16"),
        ({"sh": np.zeros((50, 4, 3)), "active_sh_degree": 2}, "above the stored degree 1"),
        ({"active_sh_degree": 4}, "active SH degree"),
        ({"scale_activation": "relu"}, "scale_activation"),
    ],
)
def test_gaussians_that_are_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        rebuilt(GAUSSIANS, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"index": np.array([1, 1])}, "twice"),
        ({"index": np.zeros(0, int)}, "at least one"),
        ({"bound": 0.0}, "mouth.bound"),
        ({"xy": MOUTH.xy[:-8]}, "differ in length"),
        ({"offsets": MOUTH.offsets + 1}, "mouth.grid.offsets"),
        ({"offsets": np.arange(13)}, "mouth.grid.offsets"),
        ({"layers": MOUTH.layers[:2]}, "3 layers"),
        ({"layers": (MOUTH.layers[0][:, :36], *MOUTH.layers[1:])}, "mouth.mlp.0 has 36 inputs"),
        ({"layers": (MOUTH.layers[0], MOUTH.layers[0], MOUTH.layers[2])}, "mouth.mlp.1"),
        ({"head_bias": np.zeros(9)}, "mouth.head.bias"),
    ],
)
def test_mouths_that_are_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        rebuilt(MOUTH, **changes)


def test_scenes_whose_parts_disagree() -> None:
    with pytest.raises(CheckpointError, match="another head"):
        plugins.Scene(egg.head(3, 3, 3), GAUSSIANS)
    with pytest.raises(CheckpointError, match="mouth.index"):
        plugins.Scene(HEAD, egg.gaussians(HEAD, 5), MOUTH)


@pytest.mark.parametrize(
    "changes",
    [
        {"view": np.eye(3)},
        {"view": 2 * np.eye(4)},
        {"view": np.full((4, 4), np.nan)},
        {"width": 0},
        {"height": 4097},
        {"width": 2.5},
        {"fx": 0.0},
        {"fy": -5.0},
        {"cx": float("nan")},
    ],
)
def test_cameras_that_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ControlError, match="camera"):
        replace(egg.camera(64, 64), **changes)  # type: ignore[arg-type]


def test_frames_that_are_refused() -> None:
    renderer = plugins.Renderer(plugins.Scene(HEAD, GAUSSIANS, MOUTH), 1)
    expression, pose, translation = egg.controls(HEAD)
    camera = egg.camera(32, 16)
    wanted = renderer.draw(expression, pose, translation, camera)
    nan = np.full(3, np.nan)
    bad: list[tuple[dict[str, object], str]] = [
        ({"expression": expression[:2]}, "expression"),
        ({"expression": ["a", "b", "c"]}, "expression"),
        ({"pose": pose[:4]}, "pose"),
        ({"pose": np.full((5, 3), np.inf)}, "pose"),
        ({"translation": nan}, "translation"),
        ({"encoded_audio": np.zeros(255)}, "encoded_audio"),
        ({"background": (0, 0, np.nan)}, "background"),
        ({"background": (0, 0)}, "background"),
        ({"background": np.zeros((32, 16, 3), np.uint8)}, "background"),
        ({"out": np.zeros((16, 32, 4), np.uint8)}, "out"),
        ({"out": np.zeros((16, 32, 3), np.float32)}, "out"),
        ({"out": np.zeros((16, 64, 3), np.uint8)[:, ::2]}, "out"),
    ]
    good = {"expression": expression, "pose": pose, "translation": translation, "camera": camera}
    for changes, named in bad:
        with pytest.raises(ControlError, match=named):
            renderer.draw(**(good | changes))  # type: ignore[arg-type]
    assert (renderer.draw(expression, pose, translation, camera) == wanted).all()


def test_threads_and_instruction_sets_that_are_refused() -> None:
    scene = plugins.Scene(HEAD, GAUSSIANS)
    for threads in (-1, plugins.constants.MAX_THREADS + 1, 1.5, True):
        with pytest.raises(ControlError, match="threads"):
            plugins.Renderer(scene, threads)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="unknown"):
        plugins.Renderer(scene, 1, "mmx")
    with pytest.raises(BackendError, match="unknown"):
        plugins.Renderer(scene, 1, "avx512vnni")  # the encoder's
    for isa in {"avx2", "avx512"} - set(plugins.supported_isas()):
        with pytest.raises(BackendError, match="not supported"):
            plugins.Renderer(scene, 1, isa)
    assert plugins.Renderer(scene, 1).isa == plugins.supported_isas()[0]
    assert "plain" in plugins.supported_isas()


def test_models_do_not_follow_the_callers_arrays() -> None:
    means = GAUSSIANS.means.copy()
    gaussians = replace(GAUSSIANS, means=means)
    means[:] = 7
    assert (gaussians.means == GAUSSIANS.means).all()
    with pytest.raises(ValueError):
        gaussians.means[0] = 1


def test_stages_that_are_refused() -> None:
    with pytest.raises(ControlError, match="face_index"):
        plugins.bind(HEAD.template, HEAD.faces[:2], GAUSSIANS)
    with pytest.raises(ControlError, match="vertices"):
        plugins.bind(HEAD.template * np.nan, HEAD.faces, GAUSSIANS)
    with pytest.raises(ControlError, match="points"):
        plugins.hash_grid(np.zeros((3, 2)), MOUTH)
    bound = plugins.bind(HEAD.template, HEAD.faces, GAUSSIANS)
    with pytest.raises(ControlError, match="sigmoid"):
        plugins.rasterize(bound, np.full(50, 2.0), GAUSSIANS.sh, 3, egg.camera(8, 8))


HOST_AND_DEVICE = """
#include "math/blend.h"
#include "math/gaussian.h"
#include "math/grid.h"
#include "math/sh.h"
#include "math/skin.h"
#include "math/triangle.h"
using namespace emotag;
__global__ void kernel(const float* in, float* out, Pinhole camera) {
  const Vec3<float> v0 = {in[0], in[1], in[2]}, v1 = {in[3], in[4], in[5]}, v2 = {in[6], in[7], in[8]};
  const TriangleFrame<float> f = triangle_frame(v0, v1, v2);
  const Quat<float> q = quat_from_columns(f.a0, f.a1, f.a2);
  float c[6], m[9], basis[16];
  covariance_of(q, v0, c);
  matrix_of(q, m);
  Splat<float> s;
  out[0] = project(f.centre, m, c, 1.0f, camera, &s) ? s.u : 0.0f;
  sh_basis<3>(v1, basis);
  out[1] = sh_colour<3>(1.0f, basis, [&](int k) { return in[k]; });
  Pixel<float> pixel = {1, 0, 0, 0};
  blend_step(pixel, s.qa, 1.0f, 0.5f, 0.2f);
  out[2] = pixel.r + grid_lookup(in, GridLevel{15, 17, 0}, 0.5f, 0.5f);
  float transforms[5][12] = {};
  out[3] = skin_vertex(v0, in, transforms).x;
}
"""


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_the_maths_compiles_for_the_device(tmp_path: Path) -> None:
    source = tmp_path / "kernel.cu"
    source.write_text(HOST_AND_DEVICE)
    command = ["nvcc", "-std=c++17", f"-I{SOURCE}", "-c", str(source), "-o", str(tmp_path / "kernel.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_stub_names_what_the_module_has() -> None:
    from emotag.plugins import _kernels

    stub = (Path(__file__).parent.parent / "plugins" / "_kernels.pyi").read_text()
    for name in vars(_kernels):
        if not name.startswith("_"):
            assert f"class {name}:" in stub or f"def {name}(" in stub or f"\n{name}: " in stub


def test_kernels_alone_import_nothing_else() -> None:
    code = "import sys, emotag.plugins; sys.exit('torch' in sys.modules or 'emotag.runtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
