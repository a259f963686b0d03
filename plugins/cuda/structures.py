"""The structures of emotag_cuda.h."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_uint32, c_uint64

INTERFACE = 1
"""Version of emotag_cuda.h that this binding is written for."""

Floats = POINTER(c_float)
Ints = POINTER(c_int32)


class SceneArrays(ctypes.Structure):
    """EmotagCudaScene."""

    _fields_ = [
        *((name, c_int32) for name in ("vertices", "faces", "expressions")),
        *((name, c_int32) for name in ("gaussians", "stored_coefficients", "degree", "mouth", "rows", "audio")),
        ("bound", c_float),
        ("vertex_template", Floats),
        ("triangles", Ints),
        *((name, Floats) for name in ("expression_basis", "pose_basis", "joints", "joint_expression_basis", "weights")),
        ("parents", Ints),
        ("face_index", Ints),
        *((name, Floats) for name in ("means", "quats", "scales", "opacities", "sh")),
        ("mouth_index", Ints),
        ("planes", Floats * 3),
        ("offsets", Ints),
        ("layers", Floats * 3),
        ("head", Floats),
        ("bias", Floats),
    ]


class OptionsStruct(ctypes.Structure):
    """EmotagCudaOptions."""

    _fields_ = [
        *((name, c_int32) for name in ("width", "height", "avatars", "pixels", "background", "mouth_moves")),
        ("pairs", c_uint64),
    ]


class StatusStruct(ctypes.Structure):
    """EmotagCudaStatus."""

    _fields_ = [
        ("pairs", c_uint64),
        ("capacity", c_uint64),
        ("overflow", c_uint32),
        ("frames", c_uint32),
        ("unused", c_uint32 * 2),
    ]


class FrameStruct(ctypes.Structure):
    """EmotagCudaFrame."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            *("controls", "expression", "jaw", "encoded_audio", "background", "background_stride", "vertices"),
            *("picture", "status"),
        )
    ]
