"""Fixed work whose processor time says how fast this machine is.

Products of small matrices, which stay in the nearest cache: they follow the clock and a neighbour on the same core, and
nothing else. What reads memory was tried and left out: where its arrays happen to lie moved it by 20% from run to run,
more than the stages that it should steady (docs/performance.md). It uses numpy only, one thread, and no code of the
stages themselves.
"""

from __future__ import annotations

import time

import numpy as np

_SIDE, _PRODUCTS = 60, 60  # a side below what any BLAS splits among threads


class Calibration:
    """About half a millisecond of arithmetic."""

    def __init__(self) -> None:
        self._matrix = np.random.default_rng(0).standard_normal((_SIDE, _SIDE)).astype(np.float32)
        self._product = np.empty_like(self._matrix)

    def run(self) -> float:
        """Does it once; processor milliseconds."""
        start = time.thread_time_ns()
        for _ in range(_PRODUCTS):
            np.matmul(self._matrix, self._matrix, out=self._product)
        return 1e-6 * (time.thread_time_ns() - start)
