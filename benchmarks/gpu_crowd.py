"""How many avatars one GPU carries: 1 to 64 of them, whole steps, in one process."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from emotag.runtime import Avatar, BackendError
from emotag.runtime.model import Model

MOST_THREADS = 16
WARM = 30  # rounds: the first frames of a stream, and recording
FRAME_MILLISECONDS = 40.0


def measure_crowd(bundle: Path, device: str, counts: Sequence[int], runs: int) -> list[dict[str, Any]]:
    """Elapsed milliseconds in which every one of N avatars makes a frame; `real_time` if 19 of 20 rounds fit 40 ms.

    Avatars share the model; each has its own state, engine contexts, stream and recorded frame. A pool of threads steps
    them: the GPU works on several at once while Python prepares others. A row with `failed` ends the list.
    """
    rows: list[dict[str, Any]] = []
    avatars: list[Avatar] = []
    if not bundle.exists():
        return rows
    try:
        model = Model.load(bundle, device)
        for count in counts:
            avatars += [Avatar(model) for _ in range(count - len(avatars))]
            rows.append(measure_round(avatars, runs))
    except BackendError as error:
        rows.append({"avatars": len(avatars) + 1, "failed": str(error)})
    return rows


def measure_round(avatars: Sequence[Avatar], runs: int) -> dict[str, Any]:
    """The times of one number of avatars."""
    random = np.random.default_rng(0)
    threads = min(len(avatars), MOST_THREADS, 2 * len(os.sched_getaffinity(0)))
    times = []
    with ThreadPoolExecutor(threads) as pool:
        for number in range(runs + WARM):
            samples = random.normal(0, 0.05, (len(avatars), 640)).astype(np.float32)
            start = time.perf_counter()
            for _ in pool.map(lambda avatar, heard: avatar.step(heard), avatars, samples):
                pass
            if number >= WARM:
                times.append(1000 * (time.perf_counter() - start))
    found = {"median": float(np.median(times)), "p95": float(np.percentile(times, 95))}
    real_time = found["p95"] < FRAME_MILLISECONDS
    return {"avatars": len(avatars), "threads": threads, "milliseconds": found, "real_time": real_time}
