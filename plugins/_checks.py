"""Checks at the border: arrays of the right shape, type and content, or one error that names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import BackendError, ControlError, EmotagError

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int32]
_FLOAT = np.dtype(np.float32)
_FEW = 256  # numbers that are cheaper to look at as a list; as doubles, finite ones have a finite sum


def _shaped(name: str, values: npt.NDArray[Any], shape: tuple[int | None, ...], error: type[EmotagError]) -> None:
    fits = values.ndim == len(shape) and all(w is None or w == s for w, s in zip(shape, values.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise error(f"{name} must have shape ({wanted}), not {values.shape}")


def _array(name: str, values: npt.ArrayLike, error: type[EmotagError]) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as cause:
        raise error(f"{name} is not an array of numbers: {cause}") from cause
    if array.dtype.kind not in "fiu":
        raise error(f"{name} must hold real numbers, not {array.dtype}")
    return array


def floats(name: str, values: npt.ArrayLike, shape: tuple[int | None, ...], error: type[EmotagError]) -> Floats:
    """`values` as contiguous float32 of `shape` (None matches any side), all finite.

    Raises:
        error: if they are not.
    """
    # What a running avatar passes: five small arrays a frame, which the long way costs more than a kernel.
    if type(values) is np.ndarray and values.dtype is _FLOAT and values.shape == shape and values.flags.c_contiguous:
        if values.size <= _FEW and math.isfinite(sum(values.reshape(-1).tolist())):
            return values
    array = _array(name, values, error)
    _shaped(name, array, shape, error)
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise error(f"{name} holds values that are not finite float32 numbers; check what made it")
    return array


def indices(
    name: str, values: npt.ArrayLike, shape: tuple[int | None, ...], below: int, error: type[EmotagError]
) -> Ints:
    """`values` as contiguous int32 of `shape`, all in [0, below).

    Raises:
        error: if they are not.
    """
    array = _array(name, values, error)
    _shaped(name, array, shape, error)
    if array.dtype.kind not in "iu":
        raise error(f"{name} must hold integers, not {array.dtype}")
    if array.size and not (0 <= int(array.min()) and int(array.max()) < below):
        raise error(f"{name} must lie in [0, {below}), but spans [{array.min()}, {array.max()}]")
    return np.ascontiguousarray(array, np.int32)


def frozen(owner: object, **fields: npt.NDArray[Any]) -> None:
    """Stores checked arrays on a frozen dataclass, read-only and independent of the caller's."""
    for name, array in fields.items():
        own = array.copy()
        own.flags.writeable = False
        object.__setattr__(owner, name, own)


@contextmanager
def kernel_errors() -> Iterator[None]:
    """Around a kernel that draws: what can still go wrong there, as errors that say what to do.

    Raises:
        ControlError: the picture needs more pairs of a Gaussian and a tile than a list can number.
        BackendError: there is not enough memory.
    """
    try:
        yield
    except (OverflowError, MemoryError) as cause:
        raise kernel_error(cause) from cause


def kernel_error(cause: OverflowError | MemoryError) -> EmotagError:
    """The same for those who catch it themselves, which costs less."""
    if isinstance(cause, MemoryError):
        return BackendError("not enough memory to draw; draw a smaller picture or fewer Gaussians")
    return ControlError(
        f"{cause}: too many Gaussians cover too much of the picture; draw a smaller picture, move the camera "
        "away, or make the Gaussians smaller"
    )
