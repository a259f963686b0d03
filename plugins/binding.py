"""Binding with a way back: Gaussians to the world by their triangles' frames (eq. 7), and the gradients of a loss.

The training side's `emotag.training.render.bind` is the differentiable interface; this is its kernel, in arrays. To
bind without gradients see `bind` of `stages`, which also applies the scale's activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from . import _kernels
from ._checks import Floats
from .errors import ControlError
from .renderer import checked_threads

Longs = npt.NDArray[np.int64]
Number = TypeVar("Number", np.float32, np.int64)


class Rig(NamedTuple):
    """Gaussians on a posed mesh: what `Binder` reads."""

    vertices: Floats
    """(V, 3) world, metres"""
    faces: Longs
    """(F, 3)"""
    face_index: Longs
    """(G,)"""
    means: Floats
    """(G, 3) in the triangle's frame, in units of its scale"""
    quats: Floats
    """(G, 4) of any length"""
    scales: Floats
    """(G, 3) after the activation, in units of the triangle's scale"""


class Attached(NamedTuple):
    """Gaussians in the world, and what the way back needs."""

    frames: Floats
    """(F, 20) opaque"""
    means: Floats
    """(G, 3) metres"""
    quats: Floats
    """(G, 4)"""
    scales: Floats
    """(G, 3) metres"""
    normals: Floats
    """(G, 3) unit, of their triangles"""


class RigGradients(NamedTuple):
    """Gradients of a loss, shaped as in `Rig`."""

    means: Floats
    quats: Floats
    scales: Floats
    vertices: Floats
    """(V, 3), or (0, 3) if not asked for"""


class Binder:
    """Binds for training. Both ways give the same bits for any number of threads.

    Args:
        threads: threads that share the work; 0 is one for each core.

    Raises:
        ControlError: if the thread count is out of range.
    """

    def __init__(self, threads: int = 1) -> None:
        self._kernel = _kernels.Binder(checked_threads(threads))

    def forward(self, rig: Rig) -> Attached:
        """Gaussians of a rig to the world.

        Raises:
            ControlError: if shapes or types do not fit, or an index points outside.
        """
        with _index_errors():
            return Attached(*self._kernel.forward(*_checked(rig)))

    def backward(
        self,
        rig: Rig,
        frames: Floats,
        d_means: Floats | None,
        d_quats: Floats | None,
        d_scales: Floats | None,
        d_normals: Floats | None,
        to_vertices: bool = True,
    ) -> RigGradients:
        """The gradients of a loss from those in what `forward` returned; None is zero.

        Args:
            rig: what `forward` was given, unchanged.
            frames: of what it returned.
            d_means, d_quats, d_scales, d_normals: the loss's gradients, (G, 3), (G, 4), (G, 3), (G, 3).
            to_vertices: whether those of the vertices are wanted; without, it is quicker.

        Raises:
            ControlError: as `forward`.
        """
        rig, count = _checked(rig), len(rig.face_index)

        def upstream(name: str, value: Floats | None, width: int) -> Floats | None:
            return None if value is None else _fitting(f"gradient of {name}", value, (count, width), np.float32)

        with _index_errors():
            gradients = self._kernel.backward(
                *rig,
                _fitting("frames", frames, (len(rig.faces), _kernels.FRAME_FIELDS), np.float32),
                upstream("means", d_means, 3),
                upstream("quats", d_quats, 4),
                upstream("scales", d_scales, 3),
                upstream("normals", d_normals, 3),
                to_vertices,
            )
        return RigGradients(*gradients)


@contextmanager
def _index_errors() -> Iterator[None]:
    try:
        yield
    except IndexError as cause:
        raise ControlError(f"there is no {cause}: bind Gaussians to triangles of this head") from cause


def _checked(rig: Rig) -> Rig:
    """The rig if shapes and types are as documented; values are not looked at: the renderer does that."""
    count = len(rig.face_index)
    return Rig(
        _fitting("vertices", rig.vertices, (len(rig.vertices), 3), np.float32),
        _fitting("faces", rig.faces, (len(rig.faces), 3), np.int64),
        _fitting("face_index", rig.face_index, (count,), np.int64),
        _fitting("means", rig.means, (count, 3), np.float32),
        _fitting("quats", rig.quats, (count, 4), np.float32),
        _fitting("scales", rig.scales, (count, 3), np.float32),
    )


def _fitting(name: str, array: npt.NDArray[Any], shape: tuple[int, ...], kind: type[Number]) -> npt.NDArray[Number]:
    if array.shape != shape or array.dtype != kind:
        raise ControlError(f"{name} must be {kind.__name__} of {shape}, not {array.dtype} of {array.shape}")
    return np.ascontiguousarray(array)
