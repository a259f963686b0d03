"""Kernels: FLAME skinning, Gaussian binding, mouth offsets, hash grid and rasterizer.

`Scene` and `Renderer` draw frames; `skin`, `bind`, `hash_grid`, `mouth_offsets`, `apply_mouth` and `rasterize` are the
same steps one by one; `Binder` and `Tracer` bind and draw with gradients, and `Similarity` compares pictures, for
training. Lengths are metres, angles radians (axis-angle), quaternions wxyz, arrays float32.
"""

from . import constants
from .binding import Attached, Binder, Rig, RigGradients
from .camera import Camera
from .models import Gaussians, Head, Mouth
from .renderer import Appearance, Renderer, Scene, supported_isas
from .similarity import Similarity
from .stages import Bound, MouthOffsets, apply_mouth, bind, hash_grid, mouth_offsets, rasterize, skin
from .tracing import Traced, TraceGradients, Tracer

__all__ = [
    "Appearance",
    "Attached",
    "Binder",
    "Bound",
    "Camera",
    "Gaussians",
    "Head",
    "Mouth",
    "MouthOffsets",
    "Renderer",
    "Rig",
    "RigGradients",
    "Scene",
    "Similarity",
    "TraceGradients",
    "Traced",
    "Tracer",
    "apply_mouth",
    "bind",
    "constants",
    "hash_grid",
    "mouth_offsets",
    "rasterize",
    "skin",
    "supported_isas",
]
