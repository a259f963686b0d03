"""The weights of an encoder's graph, `audio.onnx`, for the processor's own kernels instead of ONNX Runtime.

A graph whose exporter wrote the property `emotag.encoder` into it is the step of docs/bundle.md, D(c, r, L), of a
Wav2Vec2, and its weights have the names of `export.audio_graph`. Here they get those of audio.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..plugins.encoder import CONVOLUTIONS, REACH, EncoderSizes
from .errors import BundleError
from .graphs import Float, Shapes
from .manifest import AudioSpec, EncoderSpec
from .onnx_scan import StoredTensor, read_contents

ENCODER_PROPERTY = "emotag.encoder"
_MOST_LAYERS = 1 << 10


def graph_states(tensors: Path) -> dict[str, Float]:
    """Initial states of the encoder's graph, from avatar.safetensors. Raises BundleError."""
    prefix = "state.audio."
    try:
        with safe_open(tensors, framework="numpy") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError) as error:
        raise BundleError(f"{tensors.name} is not a safetensors file ({error}): export the bundle again") from None


@dataclass(frozen=True)
class _Piece:
    """Some columns of a weight of the graph, transposed where it multiplies from the left."""

    tensor: StoredTensor
    turned: bool = False
    first: int = 0
    count: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        last = self.tensor.shape[-1] if self.count is None else self.count
        whole = (*self.tensor.shape[:-1], last)
        return whole[::-1] if self.turned else whole

    def of(self, whole: Float) -> Float:
        part = whole if self.count is None else whole[..., self.first : self.first + self.count]
        return part.T if self.turned else part


class GraphEncoder:
    """An encoder's weights by the names of audio.safetensors; products are float32 [outputs, inputs]."""

    def __init__(self, path: Path, spec: AudioSpec, states: Mapping[str, Float]) -> None:
        """states: initial ones of the graph, `conv_1` to `conv_4` among them.

        Raises:
            BundleError: it is not the graph of a known encoder; see `is_known`.
        """
        self._path, self._audio = path, spec
        self._contents = read_contents(path)
        self._states = states
        self._last: tuple[StoredTensor, Float] | None = None
        self.spec, self._epsilon, self._speeds = self._property()
        self._pieces = self._norms() | self._front() | self._layers()
        self.shapes: Shapes = {name: piece.shape for name, piece in self._pieces.items()}
        self.shapes["position.weight"] = (self._groups(), 0)
        if len(self._speeds):
            self.shapes["rotary.speeds"] = self._speeds.shape

    @staticmethod
    def is_known(path: Path) -> bool:
        """Whether a graph says that it is such an encoder. Raises BundleError if it is no graph at all."""
        return ENCODER_PROPERTY in read_contents(path).properties

    def read(self, name: str) -> NDArray[Any]:
        """One tensor. Raises BundleError."""
        try:
            if name in self._pieces:
                piece = self._pieces[name]
                return piece.of(self._load(piece.tensor))
            if name == "position.weight":
                return self._position()
        except OSError as error:
            raise self._error(f"cannot be read ({error.strerror})") from None
        if name == "rotary.speeds":
            return self._speeds
        if name.endswith(".epsilon"):
            return np.array([self._epsilon], np.float32)
        if name.endswith(".silence"):
            return self._silence(f"conv_{name.split('.')[1]}")
        if name.startswith("convolutions.") and name.endswith(".bias"):  # most have none
            return np.zeros(self.shapes[name.replace(".bias", ".weight")][0], np.float32)
        raise self._error(f"{name} is missing")

    def _load(self, tensor: StoredTensor) -> Float:
        if self._last is None or self._last[0] != tensor:  # queries, keys and values are one tensor
            self._last = tensor, tensor.read()
        return self._last[1]

    def _property(self) -> tuple[EncoderSpec, float, Float]:
        try:
            found = json.loads(self._contents.properties[ENCODER_PROPERTY])
            spec = EncoderSpec(int(found["layers"]), int(found["heads"]), bool(found["pre_norm"]))
            epsilon = float(found["epsilon"])
            speeds = np.array(found.get("rotary", []), np.float32).reshape(-1)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):  # the last: of infinity
            raise self._error(f"its property {ENCODER_PROPERTY} does not describe an encoder") from None
        if not 1 <= spec.layers <= _MOST_LAYERS or spec.heads < 1:
            raise self._error(f"its property {ENCODER_PROPERTY} has {spec.layers} layers and {spec.heads} heads")
        return spec, epsilon, speeds

    def _stored(self, name: str, sides: int) -> StoredTensor:
        tensor = self._contents.tensors.get(name)
        if tensor is None or len(tensor.shape) != sides or 0 in tensor.shape:
            raise self._error(f"{name} is missing or has another shape")
        return tensor

    def _has(self, name: str) -> bool:
        return name in self._contents.tensors

    def _norms(self) -> dict[str, _Piece]:
        names = {"features.norm": "feature_norm", "encoder.norm": "norm"}
        for i in range(self.spec.layers):
            names |= {f"layers.{i}.norm": f"layers.{i}.norm", f"layers.{i}.final.norm": f"layers.{i}.final_norm"}
        if self._has("first.norm.weight"):
            names["convolutions.0.norm"] = "first.norm"
            names |= {f"convolutions.{i}.norm": f"convolutions.{i - 1}.norm" for i in range(1, CONVOLUTIONS)}
        parts = ("weight", "bias")
        return {f"{n}.{part}": _Piece(self._stored(f"{to}.{part}", 1)) for n, to in names.items() for part in parts}

    def _front(self) -> dict[str, _Piece]:
        """Convolutions, projection and the bias of the positional convolution."""
        pieces = {
            "convolutions.0.weight": _Piece(self._stored("first.weight", 2), turned=True),
            "convolutions.0.bias": _Piece(self._stored("first.bias", 1)),
            "projection.weight": _Piece(self._stored("projection.weight", 2)),
            "projection.bias": _Piece(self._stored("projection.bias", 1)),
            "position.bias": _Piece(self._stored("position.bias", 1)),
        }
        for i in range(1, CONVOLUTIONS):
            name = f"convolutions.{i - 1}"
            pieces[f"convolutions.{i}.weight"] = _Piece(self._stored(f"{name}.weight", 2), turned=True)
            if self._has(f"{name}.bias"):
                pieces[f"convolutions.{i}.bias"] = _Piece(self._stored(f"{name}.bias", 1))
        return pieces

    def _layers(self) -> dict[str, _Piece]:
        pieces: dict[str, _Piece] = {}
        for i in range(self.spec.layers):
            name = f"layers.{i}"
            for part in ("out", "up", "down"):
                pieces[f"{name}.{part}.weight"] = _Piece(self._stored(f"{name}.{part}.weight", 2))
                pieces[f"{name}.{part}.bias"] = _Piece(self._stored(f"{name}.{part}.bias", 1))
            for number, part in enumerate(("query", "key", "value")):
                tensor, first = self._asked(name, number)
                hidden = self._audio.hidden_size
                for kind, sides in (("weight", 2), ("bias", 1)):
                    stored = self._stored(f"{name}.{tensor}_{kind}", sides)
                    pieces[f"{name}.{part}.{kind}"] = _Piece(stored, sides == 2, first * hidden, hidden)
        return pieces

    def _asked(self, layer: str, number: int) -> tuple[str, int]:
        """The tensor of queries (0), keys (1) or values (2), and how many are before them in it."""
        if self._has(f"{layer}.qkv_weight"):
            return "qkv", number
        return ("q", 0) if number == 0 else ("kv", number - 1)

    def _groups(self) -> int:
        return sum(1 for name in self._contents.tensors if name.startswith("position.begun."))

    def _position(self) -> Float:
        """Taps [groups, outputs, taps · inputs] from the matrices that continue sums (export.audio_graph.PositionStep).

        Those that begin a sum meet the first of the chunk's tokens with the taps up to their count of tokens; what the
        last new token adds to the look-ahead has the others.
        """
        chunk, ahead, groups = self._audio.chunk_tokens, self._audio.lookahead_tokens, self._groups()
        width, begun = self._audio.hidden_size // max(groups, 1), REACH + chunk
        taps = EncoderSizes.taps_of(chunk + ahead)
        weight = np.zeros((groups, width, taps, width), np.float32)
        used = min(begun, taps)
        for group in range(groups):
            matrix = self._shaped(f"position.begun.{group}", (begun, width, chunk, width))
            weight[group, :, :used] = matrix[:used, :, 0].transpose(2, 0, 1)
        if ahead:
            added = self._shaped("position.continued", (groups, chunk, width, ahead, width))[:, chunk - 1]
            for tap in range(begun, taps):  # tap = r + c - 1 - position + reach
                position = ahead + chunk - 1 + REACH - tap
                weight[:, :, tap] = added[:, :, position].transpose(0, 2, 1)
        return weight.reshape(groups, width, taps * width)

    def _shaped(self, name: str, shape: tuple[int, ...]) -> Float:
        tensor = self._contents.tensors.get(name)
        if tensor is None or np.prod(tensor.shape) != np.prod(shape):
            raise self._error(f"{name} is missing or has another shape")
        return tensor.read().reshape(shape)

    def _silence(self, name: str) -> Float:
        if name not in self._states:
            raise self._error(f"the initial state {name} is missing")
        return np.ascontiguousarray(self._states[name].reshape(-1))

    def _error(self, problem: str) -> BundleError:
        return BundleError(f"{self._path.name}: {problem}: export the bundle again")
