"""What a run shows while it goes: a progress bar, curves and pictures; and the wish to stop it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ...runtime.errors import OutputError

__all__ = ["StopWish", "Watch", "stop_signals"]

_SMOOTH = 0.95  # of the numbers beside the bar


class StopWish:
    """Whether somebody wants the run to stop after the step that is running."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_signals() -> Iterator[StopWish]:
    """Ctrl-C and SIGTERM become a wish, so that a run can finish its step and write its checkpoint.

    Only the main thread may listen to signals; a run on another one is stopped by whoever holds the wish.
    """
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return

    def ask(_: int, __: FrameType | None) -> None:
        wish.asked = True

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Watch:
    """Progress bar on stderr if that is a terminal; TensorBoard files if a folder is given.

    `quiet` is for every process but the first.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, total: int, done: int, folder: Path | None = None, quiet: bool = False) -> None:
        self._bar: Any = tqdm(total=total, initial=done, unit="step", file=sys.stderr, disable=True if quiet else None)
        self._quiet = quiet
        self._recent: dict[str, float] = {}
        self._begin, self._first = time.monotonic(), done
        self._writer: Any = None
        if folder is not None and not quiet:
            self._writer = _writer(folder)

    def step(self, step: int, stage: str, terms: Mapping[str, float], values: Mapping[str, float]) -> None:
        """One step is done: its stage's name, its loss terms, and other numbers such as rates."""
        for name, value in terms.items():
            self._recent[name] = _SMOOTH * self._recent.get(name, value) + (1 - _SMOOTH) * value
        self._bar.set_description_str(stage, refresh=False)
        self._bar.set_postfix_str("  ".join(f"{n} {v:.3g}" for n, v in self._recent.items() if n in terms), False)
        self._bar.update()
        if self._writer is not None:
            for name, value in terms.items():
                self._writer.add_scalar(f"loss/{name}", value, step)
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def note(self, text: str) -> None:
        """A line on stderr, above the bar."""
        if not self._quiet:
            self._bar.write(text, file=sys.stderr)

    def picture(self, step: int, name: str, picture: Tensor) -> None:
        """A preview (3, H, W), 0…1."""
        if self._writer is not None:
            self._writer.add_image(name, picture.clamp(0, 1), step)

    @property
    def wants_pictures(self) -> bool:
        """Whether previews are kept anywhere."""
        return self._writer is not None

    def close(self) -> None:
        """Finish the bar and the files."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()


def _writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # takes a second, so only for --log

    try:
        return SummaryWriter(str(folder))
    except OSError as error:
        raise OutputError(
            f"--log {folder}: cannot be written ({error.strerror}); choose another folder, or leave --log out"
        ) from error
