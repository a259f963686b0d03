"""A graph bound to the memory of one avatar on a GPU: what is copied, run and fed back, in which order."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import groupby
from math import prod
from typing import Any, Protocol

from ..errors import BackendError
from ..graphs import RING_SUFFIX, STATE_SUFFIX, Float, Interface, Shapes
from .driver import Driver
from .memory import ALIGNMENT, Block
from .protocol import Pointers


class Context(Protocol):
    """A graph with addresses, ready to be enqueued; not for two threads at once."""

    def enqueue(self, stream: int) -> None:
        """Raises BackendError if the graph cannot be run."""


class DeviceGraph(Interface, ABC):
    """A graph loaded on a GPU, shared by avatars."""

    capturable = True
    """Whether `enqueue` may be recorded in a CUDA graph; ONNX Runtime's sessions record themselves instead."""
    guard: AbstractContextManager[Any] = nullcontext()
    """Held while the graph runs; ONNX Runtime's sessions with a recording serve one thread at a time."""

    @abstractmethod
    def context(self, pointers: Pointers) -> Context:
        """Bound to the device address of every input and output. Raises BackendError."""


class Recorder:
    """Work that is the same in every frame, as CUDA graphs: run once, recorded the second time, then launched.

    The first run is not recorded because TensorRT and the kernels prepare themselves in it. Work is known by its key;
    the addresses and sizes that it enqueues must not change; `keep_for` says when they have.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._graphs: dict[str, Any] = {}
        self._version = 0
        self._finalizer = weakref.finalize(self, _destroy, driver, self._graphs)
        self._finalizer.atexit = False

    def play(self, key: str, work: Callable[[int], None], stream: int) -> None:
        """Enqueues `work(stream)`, itself or its recording. Raises BackendError."""
        if key not in self._graphs:
            work(stream)
            self._graphs[key] = None
            return
        if self._graphs[key] is None:
            self._graphs[key] = self._record(work, stream)
        self._driver.launch(self._graphs[key], stream)

    def _record(self, work: Callable[[int], None], stream: int) -> Any:
        self._driver.begin_capture(stream)
        try:
            work(stream)
        except BaseException:
            with suppress(BackendError):  # a stream that is left recording is of no use to anybody
                self._driver.destroy_graph(self._driver.end_capture(stream))
            raise
        return self._driver.end_capture(stream)

    def keep_for(self, version: int) -> None:
        """Drops all recordings if `version` has changed, and with it an address or a size."""
        if version != self._version:
            self._version = version
            _destroy(self._driver, self._graphs)


def _destroy(driver: Driver, graphs: dict[str, Any]) -> None:
    for graph in graphs.values():
        if graph is not None:
            driver.destroy_graph(graph)
    graphs.clear()


class Stream:
    """A stream of a GPU, destroyed with this object."""

    def __init__(self, driver: Driver) -> None:
        self.handle = driver.create_stream()
        weakref.finalize(self, driver.destroy_stream, self.handle).atexit = False


class DeviceBound:
    """A graph with memory of its own on a GPU. States, rings and their news never leave it.

    `inputs` and `outputs` are page-locked arrays on the host, copied to and from the GPU in one piece each.
    """

    def __init__(self, driver: Driver, graph: DeviceGraph, states: Mapping[str, Float], stream: Stream) -> None:
        self._driver, self._graph, self.stream = driver, graph, stream
        rings, written = graph.rings, {name + STATE_SUFFIX for name in states}
        news = {name + RING_SUFFIX for name in rings}
        self._in = Block(driver, _without(graph.inputs, {*states, *rings}), mirrored=True)
        self._out = Block(driver, _without(graph.outputs, written | news), mirrored=True)
        self._states = Block(driver, {name: graph.inputs[name] for name in states})
        self._next = Block(driver, {name: graph.outputs[name + STATE_SUFFIX] for name in states})
        self._initial = Block(driver, {name: graph.inputs[name] for name in states}, mirrored=True)
        self._rings = Block(driver, {name: graph.inputs[name] for name in rings})
        self._news = Block(driver, {name + RING_SUFFIX: graph.outputs[name + RING_SUFFIX] for name in rings})
        self._ring_groups = _ring_groups(graph)
        self.inputs, self.outputs = self._in.host, self._out.host
        self.pointers = self._in.pointers | self._out.pointers | self._states.pointers | self._rings.pointers
        self.pointers |= {name + STATE_SUFFIX: pointer for name, pointer in self._next.pointers.items()}
        self.pointers |= self._news.pointers
        self._context = graph.context(self.pointers)
        self._recorder = Recorder(driver)
        for name, value in states.items():
            self._initial.host[name][...] = value
        self.reset()

    @property
    def capturable(self) -> bool:
        return self._graph.capturable

    def enqueue(self, stream: int) -> None:
        """One call with what is on the device: the graph, then its next state becomes its state."""
        self._context.enqueue(stream)
        self._states.copy_from(self._next, stream)

    def upload(self, stream: int) -> None:
        self._in.upload(stream)

    def download(self, stream: int) -> None:
        self._out.download(stream)

    def run(self) -> None:
        """One call: reads `inputs` and the state, fills `outputs` and the next state. Waits for the GPU."""
        self._driver.select()
        stream = self.stream.handle
        with self._graph.guard:
            if self.capturable:
                self._recorder.play("run", self._work, stream)
            else:
                self._work(stream)
            self._driver.synchronize(stream)

    def _work(self, stream: int) -> None:
        self.upload(stream)
        self.enqueue(stream)
        self.download(stream)

    def keep(self, slot: int, count: int) -> None:
        """Copies the first `count` rows of every `X_new` into its ring X, from row `slot` on."""
        self.enqueue_keep(slot, count, self.stream.handle)

    def enqueue_keep(self, slot: int, count: int, stream: int) -> None:
        """`keep` on a stream, without waiting: one strided copy for all rings of one shape."""
        for name, heads, length, rows, width in self._ring_groups:
            to = self._rings.pointers[name] + 4 * slot * width
            source = self._news.pointers[name + RING_SUFFIX]
            self._driver.copy_rows(to, 4 * length * width, source, 4 * rows * width, 4 * count * width, heads, stream)

    def reset(self) -> None:
        """Back to the initial state, rings to zero; `inputs` are left as they are."""
        self._driver.select()
        stream = self.stream.handle
        self._initial.upload(stream)
        self._states.copy_from(self._initial, stream)
        self._rings.clear(stream)
        self._driver.synchronize(stream)


def _ring_groups(graph: DeviceGraph) -> list[tuple[str, int, int, int, int]]:
    """(first ring, heads of all, L, c + r, width) of rings that one strided copy reaches.

    Those of one shape lie one after the other in their block, without gaps if their bytes fill whole alignments.
    """
    groups = []
    for (ring, new), names in groupby(graph.rings, lambda n: (graph.inputs[n], graph.outputs[n + RING_SUFFIX])):
        members = list(names)
        gapless = all(4 * prod(shape) % ALIGNMENT == 0 for shape in (ring, new))
        for name in members[:1] if gapless else members:
            groups.append((name, ring[0] * (len(members) if gapless else 1), ring[1], new[1], ring[2]))
    return groups


def _without(shapes: Shapes, names: set[str]) -> Shapes:
    return {name: shape for name, shape in shapes.items() if name not in names}
