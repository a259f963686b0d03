"""Fixed work whose processor time says how fast this machine is, and what its neighbours leave of the caches.

Arithmetic of three kinds, because a neighbour on the same core slows each by another share, and the stages are made
of all of them: products of small matrices (the networks), an exponential of many numbers (blending) and a radix sort,
whose tables live in the second cache (sorting). Each is a fraction of a millisecond, so that it finds a quiet moment
where there is one. It uses numpy only, one thread, and no code of the stages themselves.

Arithmetic costs what it always does while a stage whose weights neighbours drive out of the shared cache costs half as
much again, for minutes. So there is a yardstick of memory, too: 160,000 reads of 3.8 MB in the order of tiles, with a
dozen products each. It is in the extension (plugins/src/yardstick), and neither may ever change: baselines are in their
units.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ...plugins import _kernels

_SIDE, _PRODUCTS = 60, 24  # a side below what any BLAS splits among threads
_NUMBERS, _POWERS = 4096, 32
_KEYS = 60_000
_LINE, _PAGE = 64, 4096  # bytes


class Calibration:
    """About half a millisecond of arithmetic, a third of it of each kind; and a yardstick of memory, of one or two."""

    def __init__(self) -> None:
        self._yardstick = _kernels.Yardstick()
        rng = np.random.default_rng(0)
        self._matrix, self._product = _apart(_SIDE * _SIDE, np.float32, (_SIDE, _SIDE))
        self._numbers, self._powers = _apart(_NUMBERS, np.float32)
        self._keys, self._sorted = _apart(_KEYS, np.uint16)
        self._matrix[:] = rng.standard_normal((_SIDE, _SIDE))
        self._numbers[:] = rng.random(_NUMBERS)
        self._keys[:] = rng.integers(0, 1 << 16, _KEYS)

    def memory(self) -> list[float]:
        """One pass of the yardstick; processor milliseconds of its pieces."""
        return self._yardstick.run()

    def run(self) -> list[float]:
        """Does the arithmetic once; processor milliseconds of each kind."""
        times = [time.thread_time_ns()]
        for work in (self._multiply, self._exponentiate, self._sort):
            work()
            times.append(time.thread_time_ns())
        return [1e-6 * (end - start) for start, end in zip(times, times[1:], strict=False)]

    def _multiply(self) -> None:
        for _ in range(_PRODUCTS):
            np.matmul(self._matrix, self._matrix, out=self._product)

    def _exponentiate(self) -> None:
        for _ in range(_POWERS):
            np.exp(self._numbers, out=self._powers)

    def _sort(self) -> None:
        self._sorted[:] = self._keys
        self._sorted.sort(kind="stable")  # of 16-bit keys: a radix sort


def _apart(count: int, dtype: type, shape: tuple[int, ...] = (-1,)) -> tuple[Any, Any]:
    """Source and target of a work, at the same distance in every process.

    Where they happen to lie a multiple of 4 KiB apart, reading the one waits for writing the other: twice the time.
    """
    size = np.dtype(dtype).itemsize
    pages = count * size // _PAGE + 1
    block: np.ndarray[Any, Any] = np.zeros((_LINE + (2 * pages + 1) * _PAGE) // size, dtype)
    first = -block.ctypes.data % _LINE // size
    second = first + (pages * _PAGE + _PAGE // 2) // size
    return block[first : first + count].reshape(shape), block[second : second + count].reshape(shape)
