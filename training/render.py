"""A differentiable picture of an avatar: pose the head, bind the Gaussians, move the mouth, blend (eq. 1, 7, 8).

`training.posing` brings the Gaussians to the world. Our kernels make the picture on the CPU and gsplat on CUDA, behind
one interface. Lengths are metres, pictures channels first.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .. import plugins
from ..runtime.errors import BackendError, ControlError
from .posing import (
    BindFunction,
    Bound,
    GaussianParameters,
    HeadTensors,
    Motion,
    Mouth,
    ScaleActivation,
    array_of,
    bind,
    kernel_threads,
    moved,
    skin,
)

__all__ = [
    "BindFunction",
    "Bound",
    "GaussianParameters",
    "HeadTensors",
    "Motion",
    "Mouth",
    "RenderFunction",
    "RenderOutput",
    "ScaleActivation",
    "bind",
    "rasterize",
    "render",
    "skin",
]


class RenderOutput(NamedTuple):
    """A picture."""

    rgb: Tensor
    """(3, H, W), over the background"""
    alpha: Tensor
    """(H, W)"""
    depth: Tensor | None
    """(H, W) metres, blended as colours are: divide by alpha for the expected depth. None if not asked for."""
    normal: Tensor | None
    """(3, H, W) in camera axes, blended as colours are. None if not asked for."""
    points: Tensor
    """Projected means, pixels. After `backward`, `screen_gradient` is the loss's gradient in them."""
    visible: Tensor
    """(G,) bool: which Gaussians touch the picture"""

    def screen_gradient(self) -> Tensor:
        """(G, 2) gradient of the loss in the projected means, pixels: what densification counts.

        Raises:
            ControlError: before `backward`.
        """
        if self.points.grad is None:
            raise ControlError("there is no gradient yet: call backward on the loss first")
        return self.points.grad.reshape(-1, 2)


class RenderFunction(torch.autograd.Function):
    """The kernels' picture of Gaussians in the world, with gradients in all of them. CPU, float32."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh: Tensor,
        features: Tensor | None,
        points: Tensor,
        tracer: plugins.Tracer,
        sh_degree: int,
        camera: plugins.Camera,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Picture (3 or 7, H, W), premultiplied; alpha (H, W); visible (G,). `points` only receives a gradient."""
        arrays = [array_of(tensor) for tensor in (means, quats, scales, opacities, sh)]
        extra = None if features is None else array_of(features)
        traced = tracer.forward(plugins.Bound(*arrays[:3]), arrays[3], arrays[4], sh_degree, camera, extra)
        ctx.tracer, ctx.traced = tracer, traced
        ctx.has_features = features is not None
        visible = torch.from_numpy(traced.visible)
        ctx.mark_non_differentiable(visible)
        # The way back reads its own copy: a caller may change the picture in place.
        return torch.from_numpy(traced.picture.copy()), torch.from_numpy(traced.alpha.copy()), visible

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_picture: Tensor, d_alpha: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of `forward`'s inputs."""
        gradients = ctx.tracer.backward(ctx.traced, array_of(d_picture), array_of(d_alpha))
        means, quats, scales, opacities, sh, features, points = (torch.from_numpy(array) for array in gradients)
        extra = features if ctx.has_features else None
        return means, quats, scales, opacities, sh, extra, points, None, None, None


@cache
def _tracer(threads: int) -> plugins.Tracer:
    """One for each thread count that torch has been set to."""
    return plugins.Tracer(threads)


def rasterize(
    bound: Bound,
    opacities: Tensor,
    sh: Tensor,
    sh_degree: int,
    camera: plugins.Camera,
    background: Tensor,
    geometry: bool = False,
) -> RenderOutput:
    """The picture of Gaussians in the world, on their device.

    Args:
        bound: the Gaussians.
        opacities: (G,) in 0…1, after the sigmoid.
        sh: (G, K, 3).
        sh_degree: degree that is drawn.
        camera: the camera.
        background: (3,) colour or (3, H, W) picture, 0…1.
        geometry: whether depth and normals are wanted too; they cost about a third more.

    Raises:
        ControlError: if an input has a wrong shape or is not finite.
        BackendError: on CUDA without gsplat.
    """
    if background.ndim == 1:
        background = background[:, None, None]
    if background.shape not in ((3, 1, 1), (3, camera.height, camera.width)):
        raise ControlError(
            f"background must have shape (3,) or (3, {camera.height}, {camera.width}), not {tuple(background.shape)}"
        )
    features = _geometry(bound, camera) if geometry else None
    draw = _draw_gsplat if bound.means.is_cuda else _draw_kernels
    picture, alpha, points, visible = draw(bound, opacities, sh, features, sh_degree, camera)
    depth, normal = (picture[3], picture[4:]) if geometry else (None, None)
    return RenderOutput(picture[:3] + (1 - alpha) * background, alpha, depth, normal, points, visible)


def _geometry(bound: Bound, camera: plugins.Camera) -> Tensor:
    """(G, 4): depth in metres, and the triangle's normal in camera axes."""
    view = torch.from_numpy(camera.view.copy()).to(bound.means)
    return torch.cat([bound.means @ view[2, :3, None] + view[2, 3], bound.normals @ view[:3, :3].T], 1)


_Drawn = tuple[Tensor, Tensor, Tensor, Tensor]


def _draw_kernels(
    bound: Bound, opacities: Tensor, sh: Tensor, features: Tensor | None, sh_degree: int, camera: plugins.Camera
) -> _Drawn:
    points = torch.zeros(len(bound.means), 2, requires_grad=True)
    world = (bound.means, bound.quats, bound.scales, opacities, sh, features, points)
    picture, alpha, visible = RenderFunction.apply(*world, _tracer(kernel_threads()), sh_degree, camera)  # type: ignore[no-untyped-call]
    return picture, alpha, points, visible


def _draw_gsplat(
    bound: Bound, opacities: Tensor, sh: Tensor, features: Tensor | None, sh_degree: int, camera: plugins.Camera
) -> _Drawn:
    gsplat = _gsplat()
    view = torch.from_numpy(camera.view.copy()).to(bound.means)
    intrinsics = torch.tensor(
        [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]], device=view.device
    ).to(view)
    directions = functional.normalize(bound.means + view[:3, :3].T @ view[:3, 3])
    colours = (gsplat.spherical_harmonics(sh_degree, directions, sh) + 0.5).clamp_min(0.0)
    values = colours if features is None else torch.cat([colours, features], 1)
    picture, alpha, info = gsplat.rasterization(
        *(bound.means, bound.quats, bound.scales, opacities, values, view[None], intrinsics[None]),
        *(camera.width, camera.height),
        near_plane=plugins.constants.NEAR,
        eps2d=plugins.constants.LOW_PASS,
        packed=False,
    )
    points = info["means2d"]
    if points.requires_grad:
        points.retain_grad()
    visible = info["radii"].reshape(len(bound.means), -1).gt(0).all(1)
    return picture[0].permute(2, 0, 1), alpha[0, :, :, 0], points, visible


def _gsplat() -> Any:
    try:
        return importlib.import_module("gsplat")
    except ImportError as cause:
        raise BackendError(
            "rendering on CUDA needs gsplat, which is not installed: pip install gsplat, or train on the CPU"
        ) from cause


def render(
    head: HeadTensors,
    gaussians: GaussianParameters,
    motion: Motion,
    camera: plugins.Camera,
    background: Tensor,
    geometry: bool = False,
) -> RenderOutput:
    """One frame, differentiable in every parameter of the Gaussians and in the motion.

    All tensors live on one device, which decides who draws: the CPU's kernels (as many threads as torch uses), or
    gsplat on CUDA. The picture is the 3DGS definition's: blending stops where transmittance falls below 1e-4.

    Args:
        head: the head.
        gaussians: what is trained.
        motion: the frame's controls.
        camera: the camera; its size is the picture's.
        background: (3,) colour or (3, H, W) picture, 0…1.
        geometry: whether depth and normals are wanted too.

    Raises:
        ControlError: if an input has a wrong shape or is not finite.
        BackendError: on CUDA without gsplat.
    """
    bound = bind(skin(head, motion), head, gaussians)
    if motion.mouth is not None:
        bound = moved(bound, motion.mouth)
    opacities = gaussians.opacities.sigmoid()
    return rasterize(bound, opacities, gaussians.sh, gaussians.sh_degree, camera, background, geometry)
