"""The audio encoder on a thread of its own, a bounded number of frames ahead of motion and drawing.

ONNX Runtime and the kernels release the GIL, so the two threads share two cores. Every wait here ends because the other
side always answers: with an item, with an error, or with the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Generic, TypeVar

from .graphs import Float

_Item = TypeVar("_Item")
_THREAD = "emotag-audio"
_DEPTH = 4  # items that wait: one to take, the others against jitter; each is a frame's samples and tokens


def overlaps() -> bool:
    """Whether a thread of its own pays: this process may use more than one core."""
    return len(os.sched_getaffinity(0)) > 1


class Ahead(Generic[_Item]):
    """The items of a generator, made on a thread of their own, at most `depth` of them ahead.

    What the generator raises is raised here, after the items before it. `close` stops the thread and waits for it;
    call it in every case. On one core, or with threaded=False, there is no thread and items are made when asked for.
    """

    def __init__(self, items: Generator[_Item, None, None], depth: int = _DEPTH, threaded: bool | None = None) -> None:
        self._items = items
        self.behind = False
        """Whether the thread has nothing more ready than what was asked for last: it is the slower one."""
        self._made: SimpleQueue[tuple[_Item] | BaseException] = SimpleQueue()
        self._room = Semaphore(depth)
        self._closed = False
        self._thread: Thread | None = None
        if overlaps() if threaded is None else threaded:
            self._thread = Thread(target=self._make, name=_THREAD, daemon=True)
            self._thread.start()

    def __iter__(self) -> Iterator[_Item]:
        return self

    def __next__(self) -> _Item:
        if self._closed:
            raise StopIteration
        if self._thread is None:
            return next(self._items)
        made = self._made.get()
        if isinstance(made, BaseException):
            self.close()
            raise made
        self._room.release()
        self.behind = self._made.empty()
        return made[0]

    def close(self) -> None:
        """Stops; what was made and not asked for is dropped. The item being made is finished first."""
        self._closed = True
        if self._thread is None:
            self._items.close()
        else:
            self._room.release()
            self._thread.join()

    def _make(self) -> None:
        try:
            while self._room.acquire() and not self._closed:
                self._made.put((next(self._items),))
        except BaseException as error:  # the end is one of them; it is the other thread that can handle any
            self._made.put(error)
        finally:
            self._items.close()
            self._made.put(StopIteration())  # who waits while another thread closes must wake


class OneAhead(Generic[_Item]):
    """Makes the item of one frame while the caller works on that of the frame before.

    The thread ends with this object. On one core there is none: items are made at once, and handed out one call later.
    """

    def __init__(self, make: Callable[[Float], _Item], threaded: bool | None = None) -> None:
        """make: called on the thread with samples that are its own to keep."""
        self._make = make
        self._pool: ThreadPoolExecutor | None = None
        if overlaps() if threaded is None else threaded:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=_THREAD)
        self._pending: Future[_Item] | None = None
        self.behind = False
        """Whether the last item was still being made when it was asked for: the thread is the slower one."""

    def exchange(self, samples: Float) -> _Item | None:
        """Begins on a copy of `samples`; returns what the samples before them became, None the first time."""
        before, self._pending = self._pending, self._begin(samples.copy())
        if before is None:
            return None
        self.behind = not before.done()
        return before.result()

    @property
    def busy(self) -> bool:
        """Whether samples were taken whose item has not been handed out."""
        return self._pending is not None

    def clear(self) -> None:
        """Waits for what is under way, and drops it."""
        if self._pending is not None:
            self._pending.exception()
            self._pending = None
        self.behind = False

    def _begin(self, samples: Float) -> Future[_Item]:
        if self._pool is not None:
            return self._pool.submit(self._make, samples)
        made: Future[_Item] = Future()
        made.set_result(self._make(samples))
        return made
