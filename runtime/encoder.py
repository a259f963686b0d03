"""Streaming Wav2Vec2: samples in, 20 ms tokens out, by the definition D(c, r, L) of docs/bundle.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .graphs import RING_SUFFIX, Bound, Float, Interface
from .manifest import TOKEN_SAMPLES, AudioSpec
from .native_encoder import NativeBound

EMPTY_SLOT = -1e4


def check_encoder(graph: Interface, spec: AudioSpec, states: Mapping[str, Float]) -> dict[str, Float]:
    """Initial states of the encoder. Raises BundleError if the graph is not what docs/bundle.md says."""
    chunk, context = spec.chunk_tokens, spec.context_tokens
    graph.require({"samples": (TOKEN_SAMPLES * chunk,), "mask": (context,)}, {"tokens": (chunk, spec.hidden_size)})
    for name in graph.rings:
        shape = graph.inputs.get(name, ())
        if len(shape) != 3 or shape[1] != context:
            raise graph.error(f"input {name} has shape {shape} instead of (heads, {context}, channels)")
        new = (shape[0], chunk + spec.lookahead_tokens, shape[2])
        graph.require({}, {name + RING_SUFFIX: new})
    found = graph.states(states, "audio.")
    extra = set(graph.inputs) - {"samples", "mask", *found, *graph.rings}
    if extra:
        raise graph.error(f"input {min(extra)} is not in the bundle format")
    return found


class StreamingEncoder:
    """Runs the encoder of one avatar. Feed any number of samples; tokens are handed on as they come out."""

    def __init__(self, bound: Bound, spec: AudioSpec) -> None:
        """bound: the encoder's graph, which `check_encoder` has checked, with memory of its own."""
        self.bound = bound
        self._spec = spec
        self._samples = self.bound.inputs["samples"]
        self._mask = self.bound.inputs["mask"]
        self._tokens = self.bound.outputs["tokens"]
        self._filled = self._calls = self._slot = 0
        self.reset()

    @property
    def chunk_tokens(self) -> int:
        """c, the tokens of one call."""
        return self._spec.chunk_tokens

    def reset(self) -> None:
        """Forgets everything heard."""
        self.bound.reset()
        self._mask[:] = EMPTY_SLOT
        self._filled = self._calls = self._slot = 0

    def feed(self, samples: Float, take: Callable[[Float], None], alone: bool = False) -> None:
        """Hears `samples` (float32, −1…1); calls `take` with each chunk of tokens [c, H], which it must copy.

        alone: kernels of our own keep to the calling thread; a graph has the threads that it was opened with.
        """
        spec, at = self._spec, 0
        while at < len(samples):
            count = min(len(samples) - at, len(self._samples) - self._filled)
            into = self._samples[self._filled : self._filled + count]
            np.subtract(samples[at : at + count], spec.mean, out=into)
            np.multiply(into, spec.scale, out=into)
            at += count
            self._filled += count
            if self._filled == len(self._samples):
                self._filled = 0
                self._encode(take, alone)

    def offer(self, samples: Float) -> bool:
        """Takes `samples` as the graph's whole input, for somebody else to run; then call `accept`.

        False, and nothing is done, unless they are exactly one chunk whose tokens are kept.
        """
        spec = self._spec
        heard = (self._calls + 1) * spec.chunk_tokens > spec.lookahead_tokens
        if self._filled or len(samples) != len(self._samples) or not heard:
            return False
        np.subtract(samples, spec.mean, out=self._samples)
        np.multiply(self._samples, spec.scale, out=self._samples)
        return True

    def accept(self, take: Callable[[Float], None]) -> None:
        """After the graph was run elsewhere on what was offered: as the second half of `feed`."""
        self._calls += 1
        self._keep(take)

    def _encode(self, take: Callable[[Float], None], alone: bool) -> None:
        if isinstance(self.bound, NativeBound):
            self.bound.run(alone)
        else:
            self.bound.run()
        self._calls += 1
        if self._calls * self._spec.chunk_tokens <= self._spec.lookahead_tokens:
            return  # tokens before the first
        self._keep(take)

    def _keep(self, take: Callable[[Float], None]) -> None:
        slot, chunk = self._slot, self._spec.chunk_tokens
        self.bound.keep(slot, chunk)  # the rows after these are look-ahead copies, made anew each call
        self._mask[slot : slot + chunk] = 0
        self._slot = (slot + chunk) % self._spec.context_tokens
        take(self._tokens)
