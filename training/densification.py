"""How Gaussians in training multiply and vanish, and keep binding, mouth mask and the optimiser's moments together.

A change of their number is one `Edit`: `densify` decides it, `apply_edit` makes it. Both are functions of a cloud and
an optimiser's state, nothing else.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..runtime.errors import ControlError
from .gaussian_cloud import PREFIX, Cloud, Densification, Statistics
from .render import ScaleActivation

__all__ = ["Edit", "apply_edit", "densify", "reset_opacity"]


class Edit(NamedTuple):
    """A change of the number of Gaussians from G to G'."""

    source: Tensor
    """(G',) int64 Gaussian that each comes from"""
    fresh: Tensor
    """(G',) bool: new, so that the optimiser's moments of it start at zero"""
    values: dict[str, Tensor]
    """the leaves' new values, (G', …)"""


def densify(cloud: Cloud, statistics: Statistics, options: Densification, generator: torch.Generator) -> Edit | None:
    """Clone small and split large Gaussians of large screen-space gradient, and prune; None if nothing changes.

    A clone is a copy in its place. A split one becomes two, drawn from its own distribution, 1.6 times smaller (3DGS).
    What is new stays bound to the triangle of its parent, and keeps its mouth mask.

    Args:
        cloud: as it is.
        statistics: since the last time.
        options: thresholds and ceiling.
        generator: of the places of split Gaussians.
    """
    with torch.no_grad():
        deviation = (
            cloud.scales.exp() if cloud.scale_activation == "exp" else torch.nn.functional.softplus(cloud.scales)
        )
        largest = deviation.amax(1)
        pruned = (cloud.opacities.sigmoid() < options.opacity_below) | (largest > options.size_above)
        if bool(pruned.all()):
            raise ControlError(
                "every Gaussian would be pruned: the avatar has learnt nothing; lower its learning rates"
            )
        mean = statistics.gradient / statistics.seen.clamp_min(1)
        wanted = (mean >= options.gradient) & ~pruned
        room = options.ceiling - int((~pruned).sum())
        chosen = torch.nonzero(wanted).squeeze(1)
        if len(chosen) > max(room, 0):
            order = mean[chosen].argsort(descending=True, stable=True)
            chosen = chosen[order[: max(room, 0)]].sort().values
        if not len(chosen) and not bool(pruned.any()):
            return None
        split = chosen[largest[chosen] > options.split_above]
        kept = torch.nonzero(~pruned).squeeze(1)
        source = torch.cat([kept, chosen])
        fresh = torch.zeros(len(source), dtype=torch.bool, device=source.device)
        fresh[len(kept) :] = True
        values = {name: leaf.detach()[source].clone() for name, leaf in cloud.leaves().items()}
        if len(split):
            halves = torch.isin(source, split)
            fresh |= halves
            _scatter(values, halves, deviation[source[halves]], cloud.scale_activation, generator)
        return Edit(source, fresh, values)


_SHRINK = 1.6


def _scatter(
    values: dict[str, Tensor], rows: Tensor, deviation: Tensor, activation: ScaleActivation, generator: torch.Generator
) -> None:
    """Move rows of `values` to places drawn from their own Gaussians, and shrink them; in place."""
    draw = torch.randn(len(deviation), 3, generator=generator).to(deviation) * deviation
    w, x, y, z = torch.nn.functional.normalize(values["quats"][rows]).unbind(1)
    axis = torch.stack([x, y, z], 1)
    twice = 2 * torch.linalg.cross(axis, draw)
    values["means"][rows] += draw + w[:, None] * twice + torch.linalg.cross(axis, twice)
    small = deviation / _SHRINK
    values["scales"][rows] = small.log() if activation == "exp" else torch.expm1(small).log()


def apply_edit(cloud: Cloud, edit: Edit, optimizer: torch.optim.Optimizer | None = None) -> Cloud:
    """The cloud after an edit: new leaves, put into the optimiser's groups in the place of the old ones.

    The moments of Gaussians that stay are kept; those of new ones are zero; the step count stays.

    Raises:
        ControlError: the optimiser does not hold the cloud's leaves.
    """
    leaves = {name: value.detach().contiguous().requires_grad_() for name, value in edit.values.items()}
    if optimizer is not None:
        for name, leaf in cloud.leaves().items():
            _exchange(optimizer, PREFIX + name, leaf, leaves[name], edit)
    binding = (cloud.face_index[edit.source], cloud.mouth[edit.source])
    return Cloud(*binding, **leaves, scale_activation=cloud.scale_activation)


def _exchange(optimizer: torch.optim.Optimizer, name: str, old: Tensor, new: Tensor, edit: Edit) -> None:
    group = next((group for group in optimizer.param_groups if group.get("name") == name), None)
    if group is None or group["params"][0] is not old:
        raise ControlError(f"the optimiser does not hold this cloud's {name}: make it from `parameter_groups`")
    state = optimizer.state.pop(old, {})
    kept = (~edit.fresh).to(old.dtype).reshape(-1, *[1] * (old.ndim - 1))
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == old.shape:
            state[key] = value[edit.source] * kept
    group["params"][0] = new
    if state:
        optimizer.state[new] = state


def reset_opacity(cloud: Cloud, optimizer: torch.optim.Optimizer | None = None, ceiling: float = 0.01) -> None:
    """Bring every opacity down to at most `ceiling` (3DGS), in place, and forget its moments."""
    with torch.no_grad():
        cloud.opacities.clamp_(max=math.log(ceiling / (1 - ceiling)))
    state = {} if optimizer is None else optimizer.state.get(cloud.opacities, {})
    for value in state.values():
        if isinstance(value, Tensor) and value.shape == cloud.opacities.shape:
            value.zero_()
