"""Landmarks and lip gap of a motion by the head's own mesh, where no detector has to be trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ... import plugins
from ...runtime.errors import EmotagError
from ..flame import load_flame
from ..head import HeadModel
from ..scenes import Scene
from ..synth.landmarks import landmark_vertices
from .clips import Clip
from .errors import MetricError
from .landmarks import INNER_PAIRS, project

__all__ = ["load_head", "load_landmark_vertices", "with_mesh"]

Ints = NDArray[np.int32]


def load_head(path: Path) -> HeadModel:
    """A head of ours (`.npz`) or FLAME's pickle, which is read without executing it. Raises CheckpointError."""
    return HeadModel.load(path) if path.suffix == ".npz" else load_flame(path)


def load_landmark_vertices(path: Path | None, head: HeadModel) -> Ints:
    """The 68 landmarks as vertices [68]: from an `.npy`, or known for Anny's head. Raises MetricError."""
    if path is None:
        try:
            return np.asarray(landmark_vertices(head), dtype=np.int32)
        except EmotagError as error:
            raise MetricError(
                f"{head.source}: its landmarks are not known: pass --landmark-vertices (68 ids)"
            ) from error
    try:
        ids = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MetricError(f"{path}: not an array of 68 vertices ({error})") from error
    if ids.shape != (68,) or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= head.vertex_count:
        raise MetricError(f"{path}: should be 68 vertices of the head's {head.vertex_count}")
    known: Ints = ids.astype(np.int32)
    return known


def with_mesh(clip: Clip, head: HeadModel, vertices: Ints, scene: Scene | None = None, start: int = 0) -> Clip:
    """`clip` with the gap between its lips, and landmarks where a scene has cameras.

    The gap is the height in metres that expression and jaw give.

    Args:
        clip: with tracks expression [T, E] and jaw [T, 3].
        head: E or more expressions.
        vertices: [68] from `load_landmark_vertices`.
        scene: gives shape, head pose and camera; without it the gap is that of the mean shape and there are no
            landmarks.
        start: row of the scene that frame 0 belongs to.

    Raises:
        MetricError: the clip has no motion, or it has more expressions than the head.
    """
    expression, jaw = clip.track("expression"), clip.track("jaw")
    if expression.shape[1] > head.expression_count:
        raise MetricError(f"{clip.name} has {expression.shape[1]} expressions, {head.source} {head.expression_count}")
    fits = scene is not None and scene.sizes.shape <= head.shape_basis.shape[2]
    shape = scene.head.shape[0] if scene is not None and fits else None
    baked = head.with_expressions(expression.shape[1]).bake(shape)
    skinner = plugins.Head(**{name.removeprefix("head."): value for name, value in baked.tensors().items()})
    points = np.stack([_still(skinner, expression[t], jaw[t])[vertices] for t in range(len(jaw))])
    # Lips that overlap are shut, not apart by how much they do: the height of the upper over the lower one counts.
    gap = np.mean([np.maximum(points[:, a, 1] - points[:, b, 1], 0) for a, b in INNER_PAIRS], axis=0)
    tracks = clip.tracks | {"lip_gap": gap}
    if scene is not None:
        tracks["landmarks"] = _landmarks(skinner, clip, scene, vertices, start)
    return replace(clip, tracks=tracks)


def _still(head: plugins.Head, expression: NDArray[np.float32], jaw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vertices of a head that looks straight ahead."""
    pose = np.zeros((5, 3), np.float32)
    pose[2] = jaw
    return plugins.skin(head, expression, pose, np.zeros(3, np.float32))


def _landmarks(head: plugins.Head, clip: Clip, scene: Scene, vertices: Ints, start: int) -> NDArray[np.float64]:
    """Pixels [T, 68, 2] in the scene's first camera, with its tracked pose; cut to the frames that both have."""
    first = min(picture.camera_index for picture in scene.pictures)
    cameras = {picture.row: picture.camera for picture in scene.pictures if picture.camera_index == first}
    expression, jaw, tracked = clip.track("expression"), clip.track("jaw"), scene.head
    found = []
    for t in range(min(len(jaw), scene.rows - start)):
        row = t + start
        eyes = tracked.eyes_pose[row]
        pose = np.stack([tracked.rotation[row], tracked.neck_pose[row], jaw[t], eyes[:3], eyes[3:]])
        posed = plugins.skin(head, expression[t], pose.astype(np.float32), tracked.translation[row])
        found.append(project(posed[vertices], cameras.get(row, cameras[min(cameras)])))
    if not found:
        raise MetricError(f"{clip.name} and {scene.folder.name} have no frame in common: check --start")
    return np.stack(found)
