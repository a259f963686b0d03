"""The streaming Wav2Vec2 in 8 bits or in floats: weights that avatars share, and what each of them remembers.

Source of the arithmetic: docs/bundle.md, audio.safetensors. `export.encoder_tensors` writes what is read here in 8
bits; in floats the names are the same, without levels and scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _kernels
from ._checks import Floats
from .errors import BackendError, BundleError
from .renderer import checked_threads, one_of_isas

LANES = 16
"""Inputs that are quantised, and outputs that are computed, side by side."""
REACH = 64
"""Tokens that the positional convolution looks back."""
CONVOLUTIONS = 7
_KERNELS = (10, 3, 3, 3, 3, 2, 2)
_PARTS = ("query", "key", "value", "out", "up", "down")

Read = Callable[[str], npt.NDArray[Any]]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class EncoderSizes:
    """Sizes of an encoder.

    chunk, lookahead, context: c, r and L of docs/bundle.md, in tokens. channels: of the seven convolutions. pre_norm:
    norms before attention and feed-forward instead of behind. conv_norm: norms in every convolution. rotary: pairs of
    channels of every head that turn with the position; 0: there is no such embedding.
    """

    chunk: int
    lookahead: int
    context: int
    channels: tuple[int, ...]
    hidden: int
    heads: int
    inner: int
    layers: int
    groups: int
    pre_norm: bool
    conv_norm: bool
    rotary: int = 0

    @staticmethod
    def taps_of(tokens: int) -> int:
        """Taps of the positional convolution that a step of so many tokens needs."""
        return REACH + min(REACH, tokens)

    @property
    def taps(self) -> int:
        """Taps of the positional convolution."""
        return self.taps_of(self.chunk + self.lookahead)

    def products(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, outputs, taps and inputs a tap of every product, in the order in which they are computed.

        The groups of the positional convolution are named `position` all of them.
        """
        for i in range(1, CONVOLUTIONS):
            yield f"convolutions.{i}", self.channels[i], _KERNELS[i], self.channels[i - 1]
        yield "projection", self.hidden, 1, self.channels[-1]
        width = self.hidden // self.groups
        for _ in range(self.groups):
            yield "position", width, 1, self.taps * width
        for i in range(self.layers):
            for part in _PARTS:
                outputs, inputs = (self.inner if part == name else self.hidden for name in ("up", "down"))
                yield f"layers.{i}.{part}", outputs, 1, inputs

    def norms(self) -> Iterator[tuple[str, int]]:
        """Name and channels of every norm, in the order in which they are computed."""
        if self.conv_norm:
            yield from ((f"convolutions.{i}.norm", self.channels[i]) for i in range(CONVOLUTIONS))
        yield "features.norm", self.channels[-1]
        yield "encoder.norm", self.hidden
        for i in range(self.layers):
            yield f"layers.{i}.norm", self.hidden
            yield f"layers.{i}.final.norm", self.hidden


class EncoderWeights:
    """Weights of an encoder, packed for the kernels. Nothing in it changes; streams on several threads may share it."""

    def __init__(self, sizes: EncoderSizes, read: Read, file: str = "audio.safetensors", floats: bool = False) -> None:
        """read: gives the tensor of a name, or raises; each is asked for once or twice. file: named in errors. floats:
        whether the weights of products are float32, in any order in memory, instead of int8 with a scale.

        Raises:
            BundleError: a tensor has the wrong type, shape or values.
            BackendError: there is not enough memory.
        """
        self.sizes = sizes
        self._read, self._file, self._in_floats = read, file, floats
        definition = [sizes.chunk, sizes.lookahead, sizes.context]
        network = [sizes.hidden, sizes.heads, sizes.inner, sizes.layers, sizes.groups]
        try:
            self.kernel = _kernels.EncoderWeights(
                definition, list(sizes.channels), network, sizes.pre_norm, sizes.conv_norm
            )
            self._load()
            del self._read  # and with it what it has read last
        except MemoryError as cause:
            raise BackendError("not enough memory for the audio encoder's weights") from cause
        except ValueError as cause:
            raise self._error("", f"cannot be used ({cause})") from cause

    def _load(self) -> None:
        sizes = self.sizes
        first = self._floats("convolutions.0.weight", (sizes.channels[0], _KERNELS[0]))
        self.kernel.set_first(first, self._floats("convolutions.0.bias", (sizes.channels[0],)))
        for i in range(1, CONVOLUTIONS):
            if _KERNELS[i] == 3:
                self.kernel.set_silence(i, self._floats(f"convolutions.{i}.silence", (sizes.channels[i - 1],)))
        if sizes.rotary:
            self.kernel.set_rotary(self._floats("rotary.speeds", (sizes.rotary,)))
        for name, channels in sizes.norms():
            epsilon = float(self._floats(f"{name}.epsilon", (1,))[0])
            if not 0 < epsilon < 1:
                raise self._error(f"{name}.epsilon", f"is {epsilon}, not between 0 and 1")
            gain, bias = (self._floats(f"{name}.{part}", (channels,)) for part in ("weight", "bias"))
            self.kernel.add_norm(gain, bias, epsilon)
        self._add_products()

    def _add_products(self) -> None:
        group = 0
        for name, outputs, taps, inputs in self.sizes.products():
            if name == "position":
                if group == 0:
                    position = self._position()
                self._add(name, 1, *(part[group] for part in position))
                group += 1
            elif self._in_floats:
                self._add(
                    name, taps, self._weight(f"{name}.weight", (outputs, taps * inputs)), self._bias(name, outputs)
                )
            else:
                weight = self._tensor(f"{name}.weight", np.int8, (outputs, taps * inputs))
                self._add(name, taps, weight, self._bias(name, outputs), self._floats(f"{name}.scale", (outputs,)))

    def _position(self) -> tuple[npt.NDArray[Any], ...]:
        """Weights, biases and, in 8 bits, scales of all groups."""
        groups, width = self.sizes.groups, self.sizes.hidden // self.sizes.groups
        shape = (groups, width, self.sizes.taps * width)
        bias = self._bias("position", groups * width).reshape(groups, width)
        if self._in_floats:
            return self._weight("position.weight", shape), bias
        return self._tensor("position.weight", np.int8, shape), bias, self._floats("position.scale", (groups, width))

    def _add(self, name: str, taps: int, weight: npt.NDArray[Any], bias: Floats, scale: Floats | None = None) -> None:
        try:
            if scale is None:
                self.kernel.add_floats(weight, taps, bias)
            else:
                self.kernel.add(weight, taps, self._levels(name), scale, bias)
        except ValueError as cause:
            raise self._error(f"{name}.weight", f"cannot be used ({cause})") from cause

    def _levels(self, name: str) -> int:
        levels = int(self._tensor(f"{name}.levels", np.int32, (1,))[0])
        if not 1 <= levels <= 255:
            raise self._error(f"{name}.levels", f"is {levels}, not from 1 to 255")
        return levels

    def _bias(self, name: str, outputs: int) -> Floats:
        return self._floats(f"{name}.bias", (outputs,))

    def _weight(self, name: str, shape: Shape) -> Floats:
        """Floats in whatever order they lie: packing reads them once, and they are too many for a copy."""
        array: Floats = self._read(name)
        self._check(name, array, np.float32, shape)
        if not np.isfinite(array.sum(dtype=np.float64)):  # NaN and infinity reach it; no sum of floats overflows it
            raise self._error(name, "holds NaN or infinity")
        return array

    def _floats(self, name: str, shape: Shape) -> Floats:
        array: Floats = self._tensor(name, np.float32, shape)
        if not np.isfinite(array).all():
            raise self._error(name, "holds NaN or infinity")
        return array

    def _tensor(self, name: str, kind: type, shape: Shape) -> npt.NDArray[Any]:
        array = self._read(name)
        self._check(name, array, kind, shape)
        return np.ascontiguousarray(array)

    def _check(self, name: str, array: npt.NDArray[Any], kind: type, shape: Shape) -> None:
        if array.dtype != kind:
            raise self._error(name, f"has type {array.dtype} instead of {np.dtype(kind)}")
        if array.shape != shape:
            raise self._error(name, f"has shape {array.shape} instead of {shape}")

    def _error(self, name: str, problem: str) -> BundleError:
        return BundleError(f"{self._file}: {name} {problem}: export the bundle again".replace(":  ", ": "))


def encoder_isas() -> list[str]:
    """Instruction sets that this machine can encode with, best first; "plain" is always among them."""
    return _kernels.encoder_isas()


class EncoderStream:
    """What one avatar hears: tokens from samples, with all that is remembered between steps."""

    def __init__(self, weights: EncoderWeights, threads: int = 1, isa: str = "auto") -> None:
        """threads: that share a step; the tokens are the same for any count. isa: "auto" or one of `encoder_isas`.

        Raises:
            ControlError: if the thread count is out of range.
            BackendError: if the instruction set is not available, or there is not enough memory.
        """
        self.weights = weights
        try:
            isa = one_of_isas(isa, encoder_isas(), _kernels.known_encoder_isas())
            self._kernel = _kernels.EncoderStream(weights.kernel, isa, checked_threads(threads))
        except MemoryError as cause:
            raise BackendError("not enough memory for another audio encoder") from cause

    @property
    def isa(self) -> str:
        """Instruction set in use."""
        return self._kernel.isa

    @property
    def threads(self) -> int:
        """Threads that share a step."""
        return self._kernel.threads

    @property
    def bytes(self) -> int:
        """Memory of its own."""
        return self._kernel.bytes

    def step(self, samples: Floats, mask: Floats, tokens: Floats, alone: bool = False) -> None:
        """Hears a chunk: samples (320·c,) and mask (L,) to tokens (c, H), which are written. Allocates nothing.

        mask: added to the attention scores of the rings' slots: 0 for a filled one, -1e4 for an empty one. alone: use
        the calling thread only. Arrays must be float32 and C-contiguous.
        """
        self._kernel.step(samples, mask, tokens, alone)

    def keep(self, slot: int, count: int) -> None:
        """Takes the keys and values of the last step's first `count` tokens into the rings, from `slot` on."""
        self._kernel.keep(slot, count)

    def reset(self) -> None:
        """Forgets everything heard."""
        self._kernel.reset()
