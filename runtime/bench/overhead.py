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
        self._frame = 0
        self._borders: list[int] = []
        stages = (
            (avatar._speech, "hear"),
            (avatar._speech, "motion"),
            (avatar._painter, "wear"),
            (avatar._painter, "draw"),
        )
        for owner, name in stages:
            setattr(owner, name, self._bordered(getattr(owner, name)))

    def step(self) -> tuple[float, float]:
        """One step: its processor milliseconds outside the stages, and all of them."""
        outside = self.outside()
        return outside, 1e-6 * (self._borders[-1] - self._borders[0])

    def outside(self, extra: Callable[[str], None] | None = None) -> float:
        """One step: processor milliseconds before, between and after its stages. extra: `measure.Extra`."""
        self._borders = [time.thread_time_ns()]
        self._avatar.step(self._sound[self._frame % len(self._sound)])
        if extra is not None:
            extra("overhead")
        self._borders.append(time.thread_time_ns())
        self._frame += 1
        return 1e-6 * sum(end - start for start, end in zip(self._borders[::2], self._borders[1::2], strict=True))

    def _bordered(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def bordered(*arguments: Any) -> Any:
            self._borders.append(time.thread_time_ns())
            result = call(*arguments)
            self._borders.append(time.thread_time_ns())
            return result

        return bordered
