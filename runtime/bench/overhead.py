"""What `Avatar.step` costs beside its stages: checks, queues, copies, the frame's own arrays."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..avatar import Avatar
from ..manifest import FRAME_SAMPLES
from .probe import babble


class StepOverhead:
    """Steps an avatar and takes the processor time of the calling thread, that inside the stages apart."""

    def __init__(self, avatar: Avatar) -> None:
        self._avatar = avatar
        self._sound = babble(4, seed=1).reshape(-1, FRAME_SAMPLES)
        self._inside = self._frame = 0
        for owner, name in ((avatar._speech, "hear"), (avatar._speech, "motion"), (avatar._painter, "draw")):
            setattr(owner, name, self._timed(getattr(owner, name)))

    def step(self, extra: Callable[[str], None] | None = None) -> tuple[float, float]:
        """One step: its processor milliseconds outside the stages, and all of them. extra: see `measure.Extra`."""
        self._inside = 0
        start = time.thread_time_ns()
        self._avatar.step(self._sound[self._frame % len(self._sound)])
        if extra is not None:
            extra("overhead")
        whole = time.thread_time_ns() - start
        self._frame += 1
        return 1e-6 * (whole - self._inside), 1e-6 * whole

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            start = time.thread_time_ns()
            result = call(*arguments)
            self._inside += time.thread_time_ns() - start
            return result

        return timed
