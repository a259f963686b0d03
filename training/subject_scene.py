"""What a scene says of its person, in the words of a subject: the fitting head, mouth, resting jaw and cues."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.errors import CheckpointError
from .checkpoint import Arrays
from .head import HeadModel
from .mouth_region import MOUTH_REGIONS, has_mouth
from .scenes import Scene
from .scenes.cures import cure
from .subject_frames import SubjectError

__all__ = ["check_head", "cue_arrays", "extra_teeth", "mouth_faces", "rest_jaw_of", "static_offset", "synthetic"]

_VHAP_TEETH = 120
"""Vertices that VHAP appends to FLAME's for teeth, which the pickle has not."""


def check_head(scene: Scene, head: HeadModel) -> None:
    """Refuse a head that the scene was not tracked with, as far as sizes tell. Raises SubjectError."""
    sizes = scene.sizes
    if sizes.vertices is not None and sizes.vertices != head.vertex_count and not extra_teeth(scene, head):
        raise SubjectError(
            f"{scene.folder}: was tracked with a head of {sizes.vertices} vertices, {head.source} has "
            f"{head.vertex_count}: pass the head that it was tracked with"
        )
    if sizes.expression < head.expression_count:
        raise SubjectError(
            f"{scene.folder}: has {sizes.expression} expressions, {head.source} has {head.expression_count}: pass the "
            "head that it was tracked with, or cut it with `with_expressions`"
        )


def extra_teeth(scene: Scene, head: HeadModel) -> bool:
    """Whether VHAP tracked the clip with teeth, which it appends to FLAME's vertices and the head has not."""
    return scene.layout == "vhap" and scene.sizes.vertices == head.vertex_count + _VHAP_TEETH


def static_offset(scene: Scene, head: HeadModel) -> NDArray[np.float32] | None:
    """(V, 3) metres, VHAP's correction of the person's mesh, without its teeth; the released renderer ignores it."""
    offset = scene.head.static_offset
    if scene.layout != "vhap" or offset is None:
        return None
    fits = len(offset) == head.vertex_count or extra_teeth(scene, head)
    return offset[: head.vertex_count] if fits else None


def mouth_faces(head: HeadModel) -> NDArray[np.bool_]:
    """(F,) triangles of lips, teeth, tongue and the inside of the mouth."""
    if has_mouth(head):
        return head.region(*(name for name in MOUTH_REGIONS if name in head.region_names))
    return np.zeros(len(head.faces), bool)


def synthetic(scene: Scene) -> dict[str, Any] | None:
    """What `synth.json` says of a synthetic scene; None for real ones. Raises CheckpointError if it is broken."""
    path = scene.folder / "synth.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable ({error}); make the scene again.") from error
    return content if isinstance(content, dict) else None


def rest_jaw_of(scene: Scene) -> Tensor:
    """(3,) rad, the tracked jaw of a shut mouth: as a synthetic scene says, 0 in real ones. Raises CheckpointError."""
    about = synthetic(scene) or {}
    return torch.tensor([float(about.get("rest_jaw", 0.0)), 0.0, 0.0])


def cue_arrays(scene: Scene, indices: Sequence[int]) -> Arrays:
    """The tracks of the rows that `indices` show, in the order of time, seen by the first camera among them.

    Raises:
        SubjectError: the scene has no action units or no emotion.
    """
    for value, item in ((scene.aus, "au_features.csv"), (scene.emotion, "emotion_features.npy")):
        if value is None:
            raise SubjectError(f"{scene.folder}: has no {item}; {cure(item, scene.folder)}")
    assert scene.aus is not None and scene.emotion is not None
    first = {scene.pictures[index].row: index for index in reversed(indices)}
    rows = np.array(sorted(first))
    cameras = [scene.pictures[first[row]].camera for row in rows]
    tracked = scene.head
    return {
        "aus": scene.aus[rows],
        "emotion": scene.emotion[rows],
        "rotation": tracked.rotation[rows],
        "neck": tracked.neck_pose[rows],
        "eyes": tracked.eyes_pose[rows],
        "translation": tracked.translation[rows],
        "view": np.stack([camera.view for camera in cameras]),
        "intrinsics": np.array([camera.intrinsics for camera in cameras], np.float32),
    }
