"""Streaming Wav2Vec2: samples in, 20 ms tokens out, by the definition D(c, r, L) of docs/bundle.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .graphs import BoundGraph, Float, Graph
from .manifest import TOKEN_SAMPLES, AudioSpec

EMPTY_SLOT = -1e4
_NEW = "_new"


def check_encoder(graph: Graph, spec: AudioSpec, states: Mapping[str, Float]) -> dict[str, Float]:
    """Initial states of the encoder. Raises BundleError if the graph is not what docs/bundle.md says."""
    chunk, context = spec.chunk_tokens, spec.context_tokens
    graph.require({"samples": (TOKEN_SAMPLES * chunk,), "mask": (context,)}, {"tokens": (chunk, spec.hidden_size)})
    for name in _rings(graph):
        shape = graph.inputs.get(name, ())
        if len(shape) != 3 or shape[1] != context:
            raise graph.error(f"input {name} has shape {shape} instead of (heads, {context}, channels)")
        new = (shape[0], chunk + spec.lookahead_tokens, shape[2])
        graph.require({}, {name + _NEW: new})
    found = graph.states(states, "audio.")
    extra = set(graph.inputs) - {"samples", "mask", *found, *_rings(graph)}
    if extra:
        raise graph.error(f"input {min(extra)} is not in the bundle format")
    return found


def _rings(graph: Graph) -> list[str]:
    """Names of the key and value rings: every input that has an output of the same name with `_new`."""
    return [name for name in graph.inputs if name + _NEW in graph.outputs]


class StreamingEncoder:
    """Runs the encoder of one avatar. Feed any number of samples; tokens are handed on as they come out."""

    def __init__(self, graph: Graph, spec: AudioSpec, states: Mapping[str, Float]) -> None:
        self._bound = BoundGraph(graph, states)
        self._spec = spec
        self._samples = self._bound.inputs["samples"]
        self._mask = self._bound.inputs["mask"]
        self._tokens = self._bound.outputs["tokens"]
        kept = slice(0, spec.chunk_tokens)  # the rows after these are look-ahead copies, made anew each call
        self._rings = [(self._bound.inputs[n], self._bound.outputs[n + _NEW][:, kept]) for n in _rings(graph)]
        self._filled = self._calls = self._slot = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything heard."""
        self._bound.reset()
        self._mask[:] = EMPTY_SLOT
        for ring, _ in self._rings:
            ring[:] = 0
        self._filled = self._calls = self._slot = 0

    def feed(self, samples: Float, take: Callable[[Float], None]) -> None:
        """Hears `samples` (float32, −1…1); calls `take` with each chunk of tokens [c, H], which it must copy."""
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
                self._encode(take)

    def _encode(self, take: Callable[[Float], None]) -> None:
        self._bound.run()
        self._calls += 1
        if self._calls * self._spec.chunk_tokens <= self._spec.lookahead_tokens:
            return  # tokens before the first
        slot, chunk = self._slot, self._spec.chunk_tokens
        for ring, new in self._rings:
            ring[:, slot : slot + chunk] = new
        self._mask[slot : slot + chunk] = 0
        self._slot = (slot + chunk) % self._spec.context_tokens
        take(self._tokens)
