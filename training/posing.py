"""An avatar in the world: pose the head, bind the Gaussians, move the mouth (eq. 1, 7, 8), differentiable.

Posing is torch operations on any device. Binding is a kernel's on the CPU; on CUDA, and in float64, it is torch
operations. Lengths are metres, rotations axis-angle or quaternions wxyz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .. import plugins

__all__ = [
    "BindFunction",
    "Bound",
    "GaussianParameters",
    "HeadTensors",
    "Motion",
    "Mouth",
    "ScaleActivation",
    "array_of",
    "bind",
    "bind_in_torch",
    "kernel_threads",
    "moved",
    "skin",
]

ScaleActivation = Literal["exp", "softplus"]
_TINY = 1e-24
"""m²: as in the kernels, shorter edges count as this long."""


@dataclass(frozen=True, eq=False)
class HeadTensors:
    """A head's constants on one device. Shapes as `plugins.Head`; `bases` are the expressions, then the pose basis."""

    template: Tensor
    """(V, 3)"""
    faces: Tensor
    """(F, 3) int64"""
    bases: Tensor
    """(E + 36, 3 V)"""
    joints: Tensor
    """(5, 3)"""
    joint_expression_basis: Tensor
    """(E, 15)"""
    weights: Tensor
    """(V, 5)"""
    parents: tuple[int, ...]

    @classmethod
    def of(cls, head: plugins.Head, device: torch.device | str = "cpu") -> HeadTensors:
        """The tensors of a head."""

        def tensor(array: np.ndarray[Any, Any]) -> Tensor:
            return torch.from_numpy(array.copy()).to(device)

        bases = np.concatenate([head.expression_basis, head.pose_basis])
        return cls(
            tensor(head.template),
            tensor(head.faces).long(),
            tensor(bases.reshape(len(bases), -1)),
            tensor(head.joints),
            tensor(head.joint_expression_basis.reshape(head.expressions, -1)),
            tensor(head.weights),
            tuple(int(parent) for parent in head.parents),
        )


@dataclass(frozen=True, eq=False)
class GaussianParameters:
    """What is trained of an avatar's Gaussians: before the activations, bound to triangles, as `plugins.Gaussians`."""

    face_index: Tensor
    """(G,) int64"""
    means: Tensor
    """(G, 3) in the triangle's frame, in units of its scale"""
    quats: Tensor
    """(G, 4)"""
    scales: Tensor
    """(G, 3)"""
    opacities: Tensor
    """(G,)"""
    sh: Tensor
    """(G, K, 3)"""
    sh_degree: int
    scale_activation: ScaleActivation = "exp"

    @classmethod
    def of(cls, gaussians: plugins.Gaussians, device: torch.device | str = "cpu") -> GaussianParameters:
        """Leaves that require gradients, with the values of `gaussians`."""
        names = ("means", "quats", "scales", "opacities", "sh")
        trained = {
            name: torch.from_numpy(getattr(gaussians, name).copy()).to(device).requires_grad_() for name in names
        }
        index = torch.from_numpy(gaussians.face_index.copy()).long().to(device)
        return cls(index, **trained, sh_degree=gaussians.active_sh_degree, scale_activation=gaussians.scale_activation)


@dataclass(frozen=True, eq=False)
class Mouth:
    """Which Gaussians the mouth moves, and how (eq. 8)."""

    index: Tensor
    """(M,) int64, distinct"""
    offsets: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    """Bound positions (M, 3) to Δμ (M, 3) metres, Δr (M, 4), Δs (M, 3)."""


@dataclass(frozen=True, eq=False)
class Motion:
    """One frame's controls."""

    expression: Tensor
    """(E,)"""
    pose: Tensor
    """(5, 3) axis-angle of root, neck, jaw, left eye, right eye"""
    translation: Tensor
    """(3,)"""
    mouth: Mouth | None = None


class Bound(NamedTuple):
    """Gaussians in the world."""

    means: Tensor
    """(G, 3)"""
    quats: Tensor
    """(G, 4)"""
    scales: Tensor
    """(G, 3) standard deviations"""
    normals: Tensor
    """(G, 3) unit, of their triangles"""


def skin(head: HeadTensors, motion: Motion) -> Tensor:
    """Vertices (V, 3) of the posed head (eq. 1), differentiable in expression, pose and translation."""
    turns = _rotations(motion.pose)
    identity = torch.eye(3, dtype=turns.dtype, device=turns.device)
    coefficients = torch.cat([motion.expression, (turns[1:] - identity).reshape(-1)])
    posed = head.template + (coefficients @ head.bases).reshape(-1, 3)
    joints = head.joints + (motion.expression @ head.joint_expression_basis).reshape(-1, 3)
    world: list[tuple[Tensor, Tensor]] = []
    for j, parent in enumerate(head.parents):
        turn, shift = turns[j], joints[j] - turns[j] @ joints[j]
        if parent >= 0:
            shift = world[parent][0] @ shift + world[parent][1]
            turn = world[parent][0] @ turn
        world.append((turn, shift))
    blended = head.weights @ torch.stack([torch.cat([turn, shift[:, None]], 1).reshape(-1) for turn, shift in world])
    matrices = blended.reshape(-1, 3, 4)
    return (matrices[:, :, :3] @ posed[:, :, None]).squeeze(-1) + matrices[:, :, 3] + motion.translation


def bind(vertices: Tensor, head: HeadTensors, gaussians: GaussianParameters) -> Bound:
    """Gaussians to the world by their triangles' frames (eq. 7), differentiable in vertices, means, quats and scales.

    Float32 on the CPU goes through a kernel, anything else through torch.

    Raises:
        ControlError: on the CPU, if shapes do not fit, or an index points outside the head.
    """
    raw = gaussians.scales
    scales = raw.exp() if gaussians.scale_activation == "exp" else functional.softplus(raw)
    inputs = (vertices, gaussians.means, gaussians.quats, scales)
    if all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in inputs):
        return Bound(*BindFunction.apply(*inputs, head.faces, gaussians.face_index, _binder(kernel_threads())))  # type: ignore[no-untyped-call]
    return bind_in_torch(*inputs, head.faces, gaussians.face_index)


def bind_in_torch(
    vertices: Tensor, means: Tensor, quats: Tensor, scales: Tensor, faces: Tensor, face_index: Tensor
) -> Bound:
    v0, v1, v2 = vertices[faces.reshape(-1)].reshape(-1, 3, 3).unbind(1)
    e0, e1 = v1 - v0, v2 - v0
    length = e0.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    a0 = e0 / length
    normal = torch.linalg.cross(a0, e1)
    a1 = normal / normal.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    a2 = torch.linalg.cross(a0, a1)
    k = (length + (a2 * e1).sum(-1, keepdim=True).abs()) / 2
    turns = torch.stack([a0, a1, a2], -1)
    centre = (v0 + v1 + v2) / 3
    # One row a triangle, so that the Gaussians look up, and their gradients are added up, only once.
    rows = torch.cat([(turns * k[:, :, None]).reshape(-1, 9), centre, _quaternions(turns), k, a1], 1)
    of = rows.index_select(0, face_index)
    world = (of[:, :9].reshape(-1, 3, 3) * means[:, None]).sum(-1) + of[:, 9:12]
    return Bound(world, _product(of[:, 12:16], functional.normalize(quats)), scales * of[:, 16:17], of[:, 17:])


class BindFunction(torch.autograd.Function):
    """The kernel's binding: `bind_in_torch` on the CPU in float32, the same bits for any number of threads."""

    @staticmethod
    def forward(
        ctx: Any,
        vertices: Tensor,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        faces: Tensor,
        face_index: Tensor,
        binder: plugins.Binder,
    ) -> tuple[Tensor, ...]:
        """World means (G, 3), quats (G, 4), scales (G, 3) and normals (G, 3)."""
        inputs = (vertices, faces, face_index, means, quats, scales)
        attached = binder.forward(plugins.Rig(*(array_of(tensor) for tensor in inputs)))
        ctx.save_for_backward(*inputs)
        ctx.binder, ctx.frames = binder, attached.frames
        ctx.set_materialize_grads(False)
        return tuple(torch.from_numpy(array) for array in attached[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of vertices, means, quats and scales."""
        rig = plugins.Rig(*(array_of(tensor) for tensor in ctx.saved_tensors))
        arrays = [None if gradient is None else array_of(gradient) for gradient in upstream]
        wanted = ctx.needs_input_grad[0]
        gradients = ctx.binder.backward(rig, ctx.frames, *arrays, to_vertices=wanted)
        means, quats, scales, vertices = (torch.from_numpy(array) for array in gradients)
        return vertices if wanted else None, means, quats, scales, None, None, None


def moved(bound: Bound, mouth: Mouth) -> Bound:
    """The mouth's Gaussians moved: position adds, rotation composes q ⊗ unit(Δr), scale times softplus(Δs)."""
    index = mouth.index
    shift, turn, stretch = mouth.offsets(bound.means[index])
    quats = _product(bound.quats[index], functional.normalize(turn))
    scales = bound.scales[index] * functional.softplus(stretch)
    return bound._replace(
        means=bound.means.index_add(0, index, shift),
        quats=bound.quats.index_copy(0, index, quats),
        scales=bound.scales.index_copy(0, index, scales),
    )


def _rotations(axis_angle: Tensor) -> Tensor:
    """(N, 3) to (N, 3, 3) by Rodrigues, by series near zero so that the gradient is right there too."""
    square = axis_angle.square().sum(-1)
    small = square < 1e-8
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / angle.square())
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    identity = torch.eye(3, dtype=cross.dtype, device=cross.device)
    return identity + a[:, None, None] * cross + b[:, None, None] * (cross @ cross)


def _quaternions(turns: Tensor) -> Tensor:
    """Rotations (N, 3, 3) to unit quaternions, from the largest of the four components, as the kernels do."""
    m = turns.reshape(-1, 9)
    xx, yy, zz = m[:, 0], m[:, 4], m[:, 8]
    wx, wy, wz = m[:, 7] - m[:, 5], m[:, 2] - m[:, 6], m[:, 3] - m[:, 1]
    xy, xz, yz = m[:, 1] + m[:, 3], m[:, 2] + m[:, 6], m[:, 5] + m[:, 7]
    candidates = torch.stack(
        [
            *(1 + xx + yy + zz, wx, wy, wz),
            *(wx, 1 + xx - yy - zz, xy, xz),
            *(wy, xy, 1 - xx + yy - zz, yz),
            *(wz, xz, yz, 1 - xx - yy + zz),
        ],
        -1,
    ).reshape(-1, 4, 4)
    largest = torch.stack([xx + yy + zz, xx, yy, zz], -1).argmax(-1)
    chosen = candidates.gather(1, largest[:, None, None].expand(-1, 1, 4)).squeeze(1)
    return functional.normalize(chosen, eps=1e-12)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of rows, wxyz: rotate by b, then by a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def array_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor of the CPU as the kernels read it: contiguous, without gradients."""
    return tensor.detach().contiguous().numpy()


def kernel_threads() -> int:
    """How many threads the kernels take: as many as torch, where they can."""
    return min(torch.get_num_threads(), plugins.constants.MAX_THREADS)


@cache
def _binder(threads: int) -> plugins.Binder:
    """One for each thread count that torch has been set to."""
    return plugins.Binder(threads)
