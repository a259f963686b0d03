"""Structural similarity of two pictures with its gradient, in arrays: the kernel of `emotag.training.ssim`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _kernels
from ._checks import Floats, floats
from .errors import ControlError
from .renderer import checked_isa, checked_threads


class Similarity:
    """SSIM (Wang et al. 2004) with zeros outside the pictures. Any number of threads gives the same bits.

    Args:
        window: (11,) weights of the separable, symmetric window; they sum to one.
        c1, c2: the constants that keep the fraction finite.
        threads: threads that share a picture; 0 is one for each core.
        isa: instruction set, as for `Renderer`.

    Raises:
        ControlError: if the window or the thread count is out of range.
        BackendError: if the instruction set is not available.
    """

    def __init__(self, window: npt.ArrayLike, c1: float, c2: float, threads: int = 1, isa: str = "auto") -> None:
        weights = floats("window", window, (_kernels.SSIM_TAPS,), ControlError)
        if not np.array_equal(weights, weights[::-1]):
            raise ControlError("the window must be symmetric")
        self._kernel = _kernels.Similarity(weights, c1, c2, checked_isa(isa), checked_threads(threads))

    def forward(self, a: Floats, b: Floats, gradients: bool = True) -> tuple[Floats, Floats]:
        """The similarity (C, H, W) of every pixel of two float32 pictures (C, H, W), 0…1; and what `backward` needs,
        (3, C, H, W), or (0, C, H, W) without `gradients`.

        Raises:
            ControlError: if shapes or types do not fit.
        """
        return self._kernel.forward(*_pair(a, b), gradients)

    def backward(self, a: Floats, b: Floats, partials: Floats, loss: Floats) -> Floats:
        """The gradient (C, H, W) of a loss in `a`, given that in the similarity, of the same shape.

        Raises:
            ControlError: if shapes or types do not fit.
        """
        a, b = _pair(a, b)
        return self._kernel.backward(a, b, _fitting(partials, (3, *a.shape)), _fitting(loss, a.shape))


def _pair(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    if a.ndim != 3:
        raise ControlError(f"a picture must have shape (C, H, W), not {a.shape}")
    return _fitting(a, a.shape), _fitting(b, a.shape)


def _fitting(array: npt.NDArray[Any], shape: tuple[int, ...]) -> Floats:
    if array.shape != shape or array.dtype != np.float32:
        raise ControlError(f"expected float32 of {shape}, not {array.dtype} of {array.shape}")
    return np.ascontiguousarray(array)
