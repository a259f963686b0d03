"""The Gaussians of one person in training: how they start and learn, bound to triangles throughout.

Means and scales are local to their triangles (eq. 7), so learning rates are in units of a triangle's size. How
Gaussians multiply and vanish is `training.densification`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..runtime.errors import ControlError
from .render import Bound, GaussianParameters, HeadTensors, ScaleActivation, bind

__all__ = [
    "PREFIX",
    "Bounds",
    "Cloud",
    "Densification",
    "Rates",
    "Spot",
    "Statistics",
    "initial_cloud",
    "keep_near",
    "learning_rates",
    "parameter_groups",
    "place",
    "sh_degree_at",
]

PREFIX = "gaussians."
"""Of the names of the optimiser's groups: `gaussians.means` and so on."""
NAMES = ("means", "quats", "scales", "opacities", "sh_dc", "sh_rest")
SH_C0 = 0.28209479177387814
"""Of the zeroth spherical harmonic: colour = 0.5 + SH_C0 · coefficient."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """G Gaussians: leaves that are trained, and what they are bound to."""

    face_index: Tensor
    """(G,) int64 triangle of each"""
    mouth: Tensor
    """(G,) bool: moved by the mouth head (eq. 8)"""
    means: Tensor
    """(G, 3)"""
    quats: Tensor
    """(G, 4) wxyz, of any length"""
    scales: Tensor
    """(G, 3) before the activation"""
    opacities: Tensor
    """(G,) before the sigmoid"""
    sh_dc: Tensor
    """(G, 1, 3)"""
    sh_rest: Tensor
    """(G, K - 1, 3); K - 1 may be 0"""
    scale_activation: ScaleActivation = "exp"

    def __len__(self) -> int:
        return len(self.means)

    @property
    def stored_degree(self) -> int:
        """The highest SH degree that there are coefficients for."""
        return math.isqrt(1 + self.sh_rest.shape[1]) - 1

    def leaves(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        return {name: getattr(self, name) for name in NAMES}

    def parameters(self, sh_degree: int) -> GaussianParameters:
        """As the renderer reads them, drawn at `sh_degree`; gradients reach the leaves."""
        sh = torch.cat([self.sh_dc, self.sh_rest], 1) if self.sh_rest.shape[1] else self.sh_dc
        world = (self.means, self.quats, self.scales, self.opacities, sh)
        return GaussianParameters(self.face_index, *world, sh_degree=sh_degree, scale_activation=self.scale_activation)


@dataclass(frozen=True)
class Rates:
    """Adam's learning rates: 3DGS', positions and scales in units of a triangle (GaussianAvatars, Qian et al. 2024)."""

    means: float = 0.005
    means_final: float = 0.00005
    """reached by exponential decay at the last step"""
    quats: float = 0.001
    scales: float = 0.017
    opacities: float = 0.05
    sh_dc: float = 0.0025
    sh_rest: float = 0.0025 / 20
    settle: float = 0.1
    """factor on all but the means' rate at the last step; 1 is 3DGS, which has 30,000 steps to come to rest"""
    settle_from: float = 0.6
    """share of the steps before the others' decay begins"""


@dataclass(frozen=True)
class Densification:
    """When and how Gaussians multiply and vanish; the values are 3DGS', steps those of a short adaptation."""

    ceiling: int = 60_000
    """there are never more: what is pruned makes room for what is cloned and split, largest gradient first"""
    first: int = 300
    """step"""
    last: int = 1500
    every: int = 100
    gradient: float = 2e-4
    """mean length of the screen-space gradient, in half picture sizes, from which a Gaussian is too coarse"""
    split_above: float = 0.6
    """largest standard deviation, in units of its triangle: larger ones are split, smaller ones cloned"""
    opacity_below: float = 0.005
    """pruned"""
    size_above: float = 8.0
    """largest standard deviation, in units of its triangle: pruned"""
    reset_every: int = 0
    """steps between resets of the opacities; 0 never, which suits a short adaptation"""


class Statistics(NamedTuple):
    """What densification counts."""

    gradient: Tensor
    """(G,) sum of the lengths of screen-space gradients"""
    seen: Tensor
    """(G,) pictures that each was visible in"""

    @classmethod
    def zeros(cls, count: int, device: torch.device | str = "cpu") -> Statistics:
        """Nothing seen yet."""
        return cls(torch.zeros(count, device=device), torch.zeros(count, device=device))

    def add(self, gradient: Tensor, visible: Tensor, width: int, height: int) -> None:
        """Count one picture, in place.

        Args:
            gradient: (G, 2) of the loss in the projected means, pixels (`RenderOutput.screen_gradient`).
            visible: (G,) bool.
            width, height: of the picture; the gradient is kept in half picture sizes, as 3DGS counts it.
        """
        half = gradient.new_tensor([width / 2, height / 2])
        length = (gradient * half).norm(dim=1)
        self.gradient.add_(torch.where(visible, length, 0.0))
        self.seen.add_(visible)


@dataclass(frozen=True)
class Bounds:
    """How far a Gaussian may go from its triangle, and how large it may become: one picture does not tell depth."""

    size: float = 5.0
    """largest standard deviation, in mean distances between neighbours (of 60,000 where there are more)"""
    distance: float = 0.16
    """from the triangle's middle along each of its axes, in extents of the head: hair stands off by so much"""
    hanging: float = 0.6
    """the same for triangles that hair may hang from (`subject_colours.firm_triangles`)"""


def initial_cloud(
    head: HeadTensors,
    count: int,
    generator: torch.Generator,
    *,
    sh_degree: int = 1,
    scale_activation: ScaleActivation = "exp",
    opacity: float = 0.5,
    mouth_faces: Tensor | None = None,
    colour: float = 0.5,
    density: Tensor | None = None,
) -> Cloud:
    """`count` Gaussians spread evenly over the triangles of the head at rest, by area, lying flat in them.

    Args:
        head: the person's head.
        count: G.
        generator: of the random places.
        sh_degree: highest degree of spherical harmonics that is stored, 0 to 3.
        scale_activation: how `scales` become standard deviations.
        opacity: of each, 0…1.
        mouth_faces: (F,) bool: triangles whose Gaussians the mouth head moves; none if None.
        colour: grey of all, 0…1.
        density: (F,) how many lie on an area of each triangle, against other triangles; alike if None.

    Raises:
        ControlError: the count, degree or opacity cannot be used.
    """
    if count < 1 or not 0 <= sh_degree <= 3 or not 0 < opacity < 1:
        raise ControlError(
            f"{count} Gaussians of SH degree {sh_degree} and opacity {opacity}: ask for at least 1, 0 to 3, 0…1"
        )
    corners = head.template[head.faces]
    area = _areas(corners)
    dense = torch.ones_like(area) if density is None else density
    share = area.double() * dense
    face = torch.multinomial(share, count, replacement=True, generator=generator).sort().values
    root, ratio = torch.rand(2, count, generator=generator).to(area)
    root = root.sqrt()
    bary = torch.stack([1 - root, root * (1 - ratio), root * ratio], 1)
    places = (bary[:, :, None] * corners[face]).sum(1)
    frames = _frames(head, face)
    means = _local(frames, places)
    spacing = (share.sum() / count / dense[face, None]).sqrt()
    # Neighbours overlap at one standard deviation; across the surface a third of it, as skin is thin.
    deviation = spacing.to(area) * area.new_tensor([0.75, 0.25, 0.75]) / frames.scales[:, :1]
    raw = deviation.log() if scale_activation == "exp" else torch.expm1(deviation).log()
    inside = torch.zeros(count, dtype=torch.bool, device=face.device) if mouth_faces is None else mouth_faces[face]
    rest = (sh_degree + 1) ** 2 - 1
    values = {
        "means": means,
        "quats": means.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        "scales": raw,
        "opacities": means.new_full((count,), math.log(opacity / (1 - opacity))),
        "sh_dc": means.new_full((count, 1, 3), (colour - 0.5) / SH_C0),
        "sh_rest": means.new_zeros(count, rest, 3),
    }
    leaves = {name: value.contiguous().requires_grad_() for name, value in values.items()}
    return Cloud(face, inside, **leaves, scale_activation=scale_activation)


class Spot(NamedTuple):
    """Where new round Gaussians come to be."""

    face: Tensor
    """(N,) int64 triangle that each is bound to"""
    vertices: Tensor
    """(V, 3) of the posed head that they are placed about"""
    places: Tensor
    """(N, 3) in the world, metres"""
    size: Tensor
    """(N,) standard deviation, metres"""
    colours: Tensor
    """(N, 3) 0…1"""


def place(cloud: Cloud, head: HeadTensors, spots: Spot, opacity: float = 0.5) -> Cloud:
    """The cloud with more Gaussians, before an optimiser holds it; none of them is the mouth's."""
    frames = _frames(head, spots.face, spots.vertices)
    count, leaf = len(spots.face), cloud.means
    deviation = (spots.size[:, None] / frames.scales[:, :1]).expand(-1, 3)
    values = {
        "means": _local(frames, spots.places),
        "quats": leaf.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        "scales": deviation.log() if cloud.scale_activation == "exp" else torch.expm1(deviation).log(),
        "opacities": leaf.new_full((count,), math.log(opacity / (1 - opacity))),
        "sh_dc": (spots.colours[:, None] - 0.5) / SH_C0,
        "sh_rest": leaf.new_zeros(count, *cloud.sh_rest.shape[1:]),
    }
    leaves = {
        name: torch.cat([old.detach(), values[name]]).contiguous().requires_grad_()
        for name, old in cloud.leaves().items()
    }
    mouth = torch.cat([cloud.mouth, torch.zeros(count, dtype=torch.bool, device=leaf.device)])
    face = torch.cat([cloud.face_index, spots.face])
    return Cloud(face, mouth, **leaves, scale_activation=cloud.scale_activation)


def _frames(head: HeadTensors, face: Tensor, vertices: Tensor | None = None) -> Bound:
    """The frames of triangles (N,), at rest if no vertices are given: place, turn and size of a unit Gaussian there."""
    count = len(face)
    zeros = head.template.new_zeros(count, 3)
    unit = head.template.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    middle = GaussianParameters(face, zeros, unit, zeros, zeros[:, 0], zeros[:, None], 0, "exp")
    return bind(head.template if vertices is None else vertices, head, middle)


def _local(frames: Bound, places: Tensor) -> Tensor:
    """World places (N, 3) in their triangles' frames: the inverse of eq. 7."""
    w, x, y, z = frames.quats.unbind(1)
    turns = torch.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        1,
    ).reshape(-1, 3, 3)
    shift = (places - frames.means)[:, None]
    return (shift @ turns).squeeze(1) / frames.scales[:, :1]


def parameter_groups(cloud: Cloud, rates: Rates | None = None) -> list[dict[str, Any]]:
    """Groups for an Adam (`eps=1e-15` as 3DGS; `fused=True` is quickest), named `gaussians.means` and so on.

    They ask for no weight decay, so that AdamW may hold them beside a network's. `apply_edit` finds them by name.
    """
    own = rates or Rates()
    return [
        {"params": [leaf], "lr": getattr(own, name), "weight_decay": 0.0, "name": PREFIX + name}
        for name, leaf in cloud.leaves().items()
    ]


def learning_rates(step: int, steps: int, rates: Rates | None = None) -> dict[str, float]:
    """The learning rates of all leaves at `step` of `steps`, by the names of `parameter_groups`.

    The means' decays exponentially from `means` to `means_final`, the others' by `settle` from `settle_from` on.
    """
    own = rates or Rates()
    done = min(max(step / max(steps, 1), 0.0), 1.0)
    late = max(done - own.settle_from, 0.0) / max(1 - own.settle_from, 1e-9)
    found = {PREFIX + name: float(getattr(own, name) * own.settle**late) for name in NAMES}
    return found | {PREFIX + "means": float(own.means * (own.means_final / own.means) ** done)}


def sh_degree_at(step: int, every: int, highest: int) -> int:
    """The degree that is drawn at `step`: one more each `every` steps, up to `highest` (1 for a short adaptation)."""
    return min(step // max(every, 1), highest)


def keep_near(cloud: Cloud, head: HeadTensors, bounds: Bounds, firm: Tensor) -> None:
    """Bring sizes and distances of all Gaussians within bounds, in place. Tracked sizes are those of the rest pose.

    `firm` (F,) bool: triangles that `bounds.hanging` is for.
    """
    with torch.no_grad():
        corners = head.template[head.faces]
        k = _frames(head, torch.arange(len(corners), device=corners.device)).scales[:, 0]
        spacing = (_areas(corners).sum() / min(len(cloud), _REFERENCE)).sqrt()
        extent = (head.template.amax(0) - head.template.amin(0)).amax()
        size = bounds.size * spacing / k
        raw = size.log() if cloud.scale_activation == "exp" else torch.expm1(size).log()
        distance = torch.where(firm, bounds.hanging, bounds.distance)
        reach = (distance * extent / k)[cloud.face_index, None]
        cloud.scales.clamp_(max=raw[cloud.face_index, None])
        cloud.means.clamp_(-reach, reach)


_REFERENCE = 60_000


def _areas(corners: Tensor) -> Tensor:
    """(F,) of triangles (F, 3, 3), square metres."""
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas: Tensor = cross.norm(dim=1) / 2
    return areas
