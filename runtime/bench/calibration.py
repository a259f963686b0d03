"""Fixed work whose processor time says how fast this machine is at this moment.

A stage's time divided by it is a number that a slower clock, a busy neighbour on the same core's caches or a colder
memory change little, because both change. It uses numpy only, one thread, and no code of the stages themselves.
"""

from __future__ import annotations

import time

import numpy as np

_PRODUCT = 60  # below what any BLAS splits among threads
_PRODUCTS = 60
_STREAM_BYTES = 16 << 20  # beyond a core's own caches, as the weights of an encoder are
_GATHERED, _SORTED = 60_000, 20_000


class Calibration:
    """Half a millisecond each of arithmetic, of memory read in order, and of gathering and sorting."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._matrix = rng.standard_normal((_PRODUCT, _PRODUCT)).astype(np.float32)
        self._product = np.empty_like(self._matrix)
        self._stream = np.arange(_STREAM_BYTES // 8, dtype=np.int64)
        self._table = rng.random(1 << 20).astype(np.float32)
        self._index = rng.integers(0, len(self._table), _GATHERED).astype(np.int64)
        self._gathered = np.empty(_GATHERED, np.float32)
        self._keys = rng.integers(0, 1 << 16, _SORTED).astype(np.uint16)

    def run(self) -> tuple[float, float, float]:
        """Does it once; processor milliseconds of arithmetic, of memory, of gathering and sorting."""
        start = time.thread_time_ns()
        for _ in range(_PRODUCTS):
            np.matmul(self._matrix, self._matrix, out=self._product)
        computed = time.thread_time_ns()
        self._stream.sum()
        streamed = time.thread_time_ns()
        np.take(self._table, self._index, out=self._gathered)
        np.argsort(self._keys, kind="stable")
        gathered = time.thread_time_ns()
        return 1e-6 * (computed - start), 1e-6 * (streamed - computed), 1e-6 * (gathered - streamed)
