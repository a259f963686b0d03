"""What the training pictures say before the first step: colours, and where there is more than the head's mesh (hair).

Both save the first hundreds of steps: a Gaussian finds its colour soon, but hardly ever the way from a cheek to a curl.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from ..plugins.camera import Camera
from ..runtime.errors import ControlError
from .gaussian_cloud import Cloud, Spot, place
from .render import Bound, HeadTensors, Motion, RenderOutput, bind, rasterize, skin

__all__ = ["View", "seen_colours", "with_hair"]

_OPAQUE = 0.95
_SURE = 0.9
"""Of a pixel, by mask and by what is drawn, for its colour to be believed."""
_NEAR = 2.0
"""Standard deviations behind the visible surface up to which a Gaussian counts as seen."""
_COVERED = 0.5
_STILL = 0.05
"""Share of jaw and eyes in a triangle's corners, up to which it keeps still when they move."""
_CALMEST = 0.2
"""Share of the triangles that count as still in any case."""


class View(NamedTuple):
    """A picture of the head."""

    motion: Motion
    camera: Camera
    rgb: Tensor
    """(3, H, W)"""
    mask: Tensor
    """(H, W)"""
    depth: Tensor | None = None
    """(H, W) metres, 0 where there is none; None if it is not known"""


def seen_colours(head: HeadTensors, cloud: Cloud, views: Iterable[View]) -> Tensor:
    """(G, 3) mean colours 0…1 of the pixels that show each Gaussian; those never seen take their nearest neighbour's.

    A Gaussian is seen where its middle is no farther than the surface that the cloud itself draws, had it no holes.

    Raises:
        ControlError: no picture shows any of them.
    """
    with torch.no_grad():
        total = cloud.means.new_zeros(len(cloud), 3)
        count = cloud.means.new_zeros(len(cloud))
        for view in views:
            index, colours = _seen(head, cloud, view)
            total.index_add_(0, index, colours)
            count.index_add_(0, index, torch.ones_like(colours[:, 0]))
        seen = count > 0
        if not bool(seen.any()):
            raise ControlError("no picture shows the head where it was tracked: check cameras, tracking and masks")
        colours = total / count.clamp_min(1)[:, None]
        places = bind(head.template, head, cloud.parameters(0)).means.cpu().numpy()
        known = torch.nonzero(seen).squeeze(1)
        nearest = cKDTree(places[seen.cpu().numpy()]).query(places[(~seen).cpu().numpy()])[1]
        colours[~seen] = colours[known[torch.from_numpy(nearest).to(known.device)]]
        return colours


def _seen(head: HeadTensors, cloud: Cloud, view: View) -> tuple[Tensor, Tensor]:
    """Gaussians that a picture shows, and their pixels' colours."""
    camera = view.camera
    bound, output = _opaque(head, cloud, view)
    assert output.depth is not None
    column, row, depth = _pixels(bound, camera)
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height) & (depth > 0)
    index = torch.nonzero(inside).squeeze(1)
    column, row = column[index], row[index]
    alpha = output.alpha[row, column]
    surface = output.depth[row, column] / alpha.clamp_min(1e-6)
    near = _NEAR * bound.scales[index].amax(1)
    seen = (alpha > _SURE) & (view.mask[row, column] > _SURE) & (depth[index] < surface + near)
    return index[seen], view.rgb[:, row[seen], column[seen]].T


def _opaque(head: HeadTensors, cloud: Cloud, view: View) -> tuple[Bound, RenderOutput]:
    """The cloud in a picture, as if no Gaussian were transparent; with its depth."""
    plain = cloud.parameters(0)
    bound = bind(skin(head, view.motion), head, plain)
    opacities = torch.full_like(plain.opacities, _OPAQUE)
    return bound, rasterize(bound, opacities, plain.sh, 0, view.camera, bound.means.new_zeros(3), geometry=True)


def with_hair(head: HeadTensors, cloud: Cloud, views: Iterable[View], most: int, generator: torch.Generator) -> Cloud:
    """The cloud with up to `most` more Gaussians where masks show what the head's mesh does not reach.

    They are put behind such pixels, evenly, at the depth that the view knows or else that of the nearest covered pixel,
    as large as a pixel is there, in its colour, and bound to the nearest triangle that neither jaw nor eyes move.
    """
    moved = head.weights[head.faces][:, :, 2:].sum(-1).amax(1)
    still = torch.nonzero(moved <= moved.quantile(_CALMEST).clamp_min(_STILL)).squeeze(1)
    with torch.no_grad():
        for view in views:
            if most <= 0:
                break
            spots = _bare(head, cloud, view, still, most, generator)
            if spots is not None:
                cloud = place(cloud, head, spots)
                most -= len(spots.face)
    return cloud


def _bare(
    head: HeadTensors, cloud: Cloud, view: View, still: Tensor, most: int, generator: torch.Generator
) -> Spot | None:
    """Places behind the pixels of a picture that the mask covers and the cloud does not."""
    camera = view.camera
    _, output = _opaque(head, cloud, view)
    assert output.depth is not None
    covered = output.alpha > _COVERED
    bare = (view.mask > _SURE) & ~covered
    if not bool(covered.any()) or int(bare.sum()) == 0:
        return None
    depth = output.depth / output.alpha.clamp_min(1e-6)
    rows, columns = distance_transform_edt(~covered.cpu().numpy(), return_distances=False, return_indices=True)
    depth = depth[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
    if view.depth is not None:
        known = torch.isfinite(view.depth) & (view.depth > 0)
        depth = torch.where(known, view.depth, depth)
    row, column = torch.nonzero(bare).unbind(1)
    share = max(-(-len(row) // most), 1)
    chosen = torch.randperm(len(row), generator=generator).to(row.device)[: len(row) // share]
    row, column = row[chosen], column[chosen]
    z = depth[row, column]
    at = torch.stack([(column + 0.5 - camera.cx) / camera.fx * z, (row + 0.5 - camera.cy) / camera.fy * z, z], 1)
    matrix = torch.from_numpy(camera.view.copy()).to(at)
    places = (at - matrix[:3, 3]) @ matrix[:3, :3]
    vertices = skin(head, view.motion)
    middles = vertices[head.faces[still]].mean(1)
    nearest = torch.from_numpy(cKDTree(middles.cpu().numpy()).query(places.cpu().numpy())[1]).to(still.device)
    size = 0.6 * share**0.5 * z / camera.fx
    return Spot(still[nearest], vertices, places, size, view.rgb[:, row, column].T)


def _pixels(bound: Bound, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Column and row (G,) of the pixel at each middle, and its depth."""
    view = torch.from_numpy(camera.view.copy()).to(bound.means)
    x, y, z = (bound.means @ view[:3, :3].T + view[:3, 3]).unbind(1)
    safe = torch.where(z > 1e-6, z, 1.0)
    column = (camera.fx * x / safe + camera.cx - 0.5).round().clamp(-1, camera.width)
    row = (camera.fy * y / safe + camera.cy - 0.5).round().clamp(-1, camera.height)
    return column.long(), row.long(), z
