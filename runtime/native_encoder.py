"""The encoder of a bundle on the processor's own kernels: `audio.safetensors` in 8 bits, or a graph's floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..plugins.encoder import CONVOLUTIONS, EncoderSizes, EncoderStream, EncoderWeights
from .errors import BundleError
from .graph_encoder import GraphEncoder
from .graphs import Float, Interface, Shapes
from .manifest import TOKEN_SAMPLES, AudioSpec, EncoderSpec

_MOST_FLOATS = 1 << 26  # of anything that an avatar remembers
_MOST_INPUTS = 1 << 18  # of a product; more could exceed 32 bits


@dataclass(frozen=True)
class _Source:
    """Where weights come from: what is said of the encoder beside them, shapes by name, and a tensor of a name."""

    encoder: EncoderSpec
    shapes: Shapes
    read: Callable[[str], NDArray[Any]]


class NativeEncoder(Interface):
    """Weights of an encoder in memory. Shared by avatars: running it keeps nothing in it."""

    def __init__(
        self, path: Path, spec: AudioSpec, threads: int = 1, states: Mapping[str, Float] | None = None
    ) -> None:
        """path: of audio.safetensors, the manifest having a section `encoder`; or of audio.onnx, if `GraphEncoder`
        knows it. threads: that share a step. states: initial ones of the graph, for audio.onnx.

        Raises:
            BundleError: the file is not what docs/bundle.md says.
            BackendError: there is not enough memory.
        """
        chunk = spec.chunk_tokens
        inputs: Shapes = {"samples": (TOKEN_SAMPLES * chunk,), "mask": (spec.context_tokens,)}
        super().__init__(path.name, inputs, {"tokens": (chunk, spec.hidden_size)})
        self.threads = threads
        with self._quantised(path, spec) if states is None else self._graph(path, spec, states) as source:
            sizes = self._sizes(spec, source)
            self.weights = EncoderWeights(sizes, source.read, path.name, floats=states is not None)

    @contextmanager
    def _quantised(self, path: Path, spec: AudioSpec) -> Iterator[_Source]:
        if spec.encoder is None:
            raise self.error("manifest.json has no section audio.encoder")
        try:
            with safe_open(path, framework="numpy") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
                yield _Source(spec.encoder, shapes, lambda name: self._tensor(file, name))
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{path.name} is not a safetensors file ({error}): export the bundle again") from None

    @contextmanager
    def _graph(self, path: Path, spec: AudioSpec, states: Mapping[str, Float]) -> Iterator[_Source]:
        graph = GraphEncoder(path, spec, states)
        yield _Source(graph.spec, graph.shapes, graph.read)

    def _tensor(self, file: Any, name: str) -> NDArray[Any]:
        try:
            array: NDArray[Any] = file.get_tensor(name)
        except (SafetensorError, TypeError) as error:
            raise self.error(f"{name} is missing or of an unknown type ({error})") from None
        return array

    def _sizes(self, spec: AudioSpec, source: _Source) -> EncoderSizes:
        shapes, encoder = source.shapes, source.encoder
        sizes = EncoderSizes(
            chunk=spec.chunk_tokens,
            lookahead=spec.lookahead_tokens,
            context=spec.context_tokens,
            channels=tuple(self._side(shapes, f"convolutions.{i}.weight") for i in range(CONVOLUTIONS)),
            hidden=spec.hidden_size,
            heads=encoder.heads,
            inner=self._side(shapes, "layers.0.up.weight"),
            layers=encoder.layers,
            groups=self._side(shapes, "position.weight"),
            pre_norm=encoder.pre_norm,
            conv_norm="convolutions.0.norm.weight" in shapes,
            rotary=self._side(shapes, "rotary.speeds") if "rotary.speeds" in shapes else 0,
        )
        self._check(sizes, encoder)
        return sizes

    def _side(self, shapes: Shapes, name: str) -> int:
        shape = shapes.get(name, ())
        if not shape or shape[0] < 1:
            raise self.error(f"{name} is missing or empty")
        return shape[0]

    def _check(self, sizes: EncoderSizes, spec: EncoderSpec) -> None:
        """Sizes come from strangers: nothing is made by them before they are known to be an encoder's."""
        for name, count in (("heads", spec.heads), ("groups of the positional convolution", sizes.groups)):
            if sizes.hidden % count:
                raise self.error(f"{sizes.hidden} channels cannot be shared by {count} {name}")
        tokens = sizes.chunk + sizes.lookahead
        widest = max(3 * max(sizes.channels), sizes.inner, sizes.taps * sizes.hidden // sizes.groups, sizes.hidden)
        remembered = (
            64 * sizes.chunk * max(sizes.channels),
            tokens * sizes.inner,
            tokens * sizes.taps * sizes.hidden,
            (sizes.context + tokens) * sizes.hidden * sizes.layers,
            (sizes.context + tokens) * tokens * spec.heads,
        )
        if widest > _MOST_INPUTS or max(remembered) > _MOST_FLOATS:
            raise self.error("its sizes are larger than any avatar needs")


class NativeBound:
    """An encoder with the memory of one avatar. Running it allocates and copies nothing."""

    def __init__(self, encoder: NativeEncoder) -> None:
        self._stream = EncoderStream(encoder.weights, encoder.threads)
        self.inputs: dict[str, Float] = {n: np.zeros(shape, np.float32) for n, shape in encoder.inputs.items()}
        self.outputs: dict[str, Float] = {n: np.zeros(shape, np.float32) for n, shape in encoder.outputs.items()}

    def run(self, alone: bool = False) -> None:
        """One call: reads `inputs` and what is remembered, fills `outputs`. alone: on the calling thread only."""
        self._stream.step(self.inputs["samples"], self.inputs["mask"], self.outputs["tokens"], alone)

    def keep(self, slot: int, count: int) -> None:
        """Takes the first `count` tokens of the last call into the rings, from `slot` on."""
        self._stream.keep(slot, count)

    def reset(self) -> None:
        """Back to silence; `inputs` are left as they are."""
        self._stream.reset()
