"""A scene's arrays as the library's packer reads them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from ..models import Mouth
from ..renderer import Scene
from .structures import Floats, Ints, SceneArrays


def scene_arrays(scene: Scene) -> tuple[SceneArrays, list[npt.NDArray[Any]]]:
    """The structure, and the arrays that it points into: keep those while it is used."""
    keep: list[npt.NDArray[Any]] = []

    def pointer(array: npt.NDArray[Any]) -> Any:
        kind = np.int32 if array.dtype.kind in "iu" else np.float32
        keep.append(np.ascontiguousarray(array, kind))
        return keep[-1].ctypes.data_as(Ints if kind is np.int32 else Floats)

    head, gaussians = scene.head, scene.gaussians
    struct = SceneArrays(
        vertices=len(head.template),
        faces=len(head.faces),
        expressions=head.expressions,
        gaussians=len(gaussians),
        stored_coefficients=gaussians.sh.shape[1],
        degree=gaussians.active_sh_degree,
        vertex_template=pointer(head.template),
        triangles=pointer(head.faces),
        expression_basis=pointer(head.expression_basis),
        pose_basis=pointer(head.pose_basis),
        joints=pointer(head.joints),
        joint_expression_basis=pointer(head.joint_expression_basis),
        weights=pointer(head.weights),
        parents=pointer(head.parents),
        face_index=pointer(gaussians.face_index),
        means=pointer(gaussians.means),
        quats=pointer(gaussians.quats),
        scales=pointer(gaussians.activated_scales()),
        opacities=pointer(gaussians.activated_opacities()),
        sh=pointer(gaussians.sh),
    )
    if scene.mouth is not None:
        _add_mouth(struct, scene.mouth, pointer)
    return struct, keep


def _add_mouth(struct: SceneArrays, mouth: Mouth, pointer: Any) -> None:
    struct.mouth, struct.rows, struct.audio = len(mouth), len(mouth.xy), mouth.audio_size
    struct.bound = mouth.bound
    struct.mouth_index = pointer(mouth.index)
    pointer_of_floats = ctypes.POINTER(ctypes.c_float)
    struct.planes = (pointer_of_floats * 3)(*(pointer(plane) for plane in (mouth.xy, mouth.yz, mouth.xz)))
    struct.offsets = pointer(mouth.offsets)
    struct.layers = (pointer_of_floats * 3)(*(pointer(layer) for layer in mouth.layers))
    struct.head = pointer(mouth.head_weight)
    struct.bias = pointer(mouth.head_bias)
