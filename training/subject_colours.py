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

__all__ = ["View", "firm_triangles", "seen_colours", "seen_triangles", "with_hair"]

_OPAQUE = 0.95
_SURE = 0.9
"""Of a pixel, by mask and by what is drawn, for its colour to be believed."""
_NEAR = 2.0
"""Standard deviations behind the visible surface up to which a Gaussian counts as seen."""
_COVERED = 0.5
_BEHIND = 0.02
"""Of the picture's longer side: how far hair is taken to go on behind what hides it."""
_CLEAR = 0.03
"""Extents of the head that it must be behind that."""
_FIRM = 0.02
"""How much of a triangle's motion is another than the head's turning, up to which hair may hang from it."""
_BENT = 10.0
"""Of a corner's way by expressions and pose correctives, in extents of the head, against a bone's weight."""
_FIRMEST = 0.1
"""Share of the triangles that count as firm in any case."""
_HEAD_JOINT = 1
"""Turns the head, FLAME calls it the neck."""


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


def seen_triangles(head: HeadTensors, cloud: Cloud, views: Iterable[View]) -> Tensor:
    """(F,) bool: triangles that some picture shows, and those that touch them. Seen is as in `seen_colours`."""
    with torch.no_grad():
        touched = torch.zeros(len(head.template), dtype=torch.bool, device=cloud.means.device)
        for view in views:
            index, _ = _seen(head, cloud, view)
            touched[head.faces[cloud.face_index[index]]] = True
        return touched[head.faces].any(1)


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
    as large as a pixel is there, in its colour, and bound to the nearest triangle of `firm_triangles`: hair hangs from
    the skull, beside a neck that turns less.
    """
    still = torch.nonzero(firm_triangles(head)).squeeze(1)
    with torch.no_grad():
        for view in views:
            if most <= 0:
                break
            spots = _bare(head, cloud, view, still, most, generator)
            if spots is not None:
                cloud = place(cloud, head, spots)
                most -= len(spots.face)
    return cloud


def firm_triangles(head: HeadTensors) -> Tensor:
    """(F,) bool: triangles that turn with the head as one, whatever face and jaw do: the skull's.

    What is bound to them from afar moves as hair does; a triangle that bends would swing it.
    """
    with torch.no_grad():
        extent = (head.template.amax(0) - head.template.amin(0)).amax()
        bent = head.bases.reshape(len(head.bases), -1, 3).square().sum((0, 2)).sqrt() / extent
        slack = (1 - head.weights[:, _HEAD_JOINT] + _BENT * bent)[head.faces].amax(1)
        return slack <= slack.quantile(_FIRMEST).clamp_min(_FIRM)


def _bare(
    head: HeadTensors, cloud: Cloud, view: View, still: Tensor, most: int, generator: torch.Generator
) -> Spot | None:
    """Places behind the pixels of a picture that the mask covers and the cloud does not, and behind the cloud beside.

    A face that turns bares some of what was behind it; hair goes on there as it is seen beside.
    """
    camera = view.camera
    _, output = _opaque(head, cloud, view)
    assert output.depth is not None
    covered = output.alpha > _COVERED
    bare = (view.mask > _SURE) & ~covered
    if not bool(covered.any()) or int(bare.sum()) == 0:
        return None
    surface = output.depth / output.alpha.clamp_min(1e-6)
    depth = surface[_nearest(covered)[1]]
    if view.depth is not None:
        known = torch.isfinite(view.depth) & (view.depth > 0)
        depth = torch.where(known, view.depth, depth)
    way, beside = _nearest(bare)
    extent = (head.template.amax(0) - head.template.amin(0)).amax()
    hidden = covered & (way <= _BEHIND * max(camera.width, camera.height))
    hidden &= depth[beside] > surface + _CLEAR * extent
    row, column = torch.nonzero(bare | hidden).unbind(1)
    share = max(-(-len(row) // most), 1)
    chosen = torch.randperm(len(row), generator=generator).to(row.device)[: len(row) // share]
    row, column = row[chosen], column[chosen]
    source = (beside[0][row, column], beside[1][row, column])
    z = depth[source]
    at = torch.stack([(column + 0.5 - camera.cx) / camera.fx * z, (row + 0.5 - camera.cy) / camera.fy * z, z], 1)
    matrix = torch.from_numpy(camera.view.copy()).to(at)
    places = (at - matrix[:3, 3]) @ matrix[:3, :3]
    vertices = skin(head, view.motion)
    there = bare[row, column] | _outside(vertices, head.faces, places)
    middles = vertices[head.faces[still]].mean(1)
    nearest = torch.from_numpy(cKDTree(middles.cpu().numpy()).query(places.cpu().numpy())[1]).to(still.device)
    size = 0.6 * share**0.5 * z / camera.fx
    colours = view.rgb[:, source[0], source[1]].T
    return Spot(still[nearest][there], vertices, places[there], size[there], colours[there])


def _nearest(pixels: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Of every pixel the nearest one of `pixels` (H, W) bool: how far it is, and its row and column."""
    way, (rows, columns) = distance_transform_edt(~pixels.cpu().numpy(), return_indices=True)
    place = (torch.from_numpy(rows).long().to(pixels.device), torch.from_numpy(columns).long().to(pixels.device))
    return torch.from_numpy(way).to(pixels.device), place


def _outside(vertices: Tensor, faces: Tensor, places: Tensor) -> Tensor:
    """(N,) bool: places (N, 3) that lie before their nearest triangle, so not in the head."""
    corners = vertices[faces]
    middles = corners.mean(1)
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    nearest = torch.from_numpy(cKDTree(middles.cpu().numpy()).query(places.cpu().numpy())[1]).to(faces.device)
    outside: Tensor = ((places - middles[nearest]) * normals[nearest]).sum(1) > 0
    return outside


def _pixels(bound: Bound, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Column and row (G,) of the pixel at each middle, and its depth."""
    view = torch.from_numpy(camera.view.copy()).to(bound.means)
    x, y, z = (bound.means @ view[:3, :3].T + view[:3, 3]).unbind(1)
    safe = torch.where(z > 1e-6, z, 1.0)
    column = (camera.fx * x / safe + camera.cx - 0.5).round().clamp(-1, camera.width)
    row = (camera.fy * y / safe + camera.cy - 0.5).round().clamp(-1, camera.height)
    return column.long(), row.long(), z
