"""ONNX Runtime sessions: how they are opened, what their inputs and outputs must be, how they are bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .errors import BundleError

Float = NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]
STATE_SUFFIX = "_next"
RING_SUFFIX = "_new"
_MOST_ELEMENTS = 1 << 26


class Interface:
    """What a graph takes and gives, however it is run: names and shapes of its float32 inputs and outputs."""

    def __init__(self, name: str, inputs: Shapes, outputs: Shapes) -> None:
        self.name, self.inputs, self.outputs = name, inputs, outputs

    @property
    def rings(self) -> list[str]:
        """Names of the key and value rings: every input that has an output of the same name with `_new`."""
        return [name for name in self.inputs if name + RING_SUFFIX in self.outputs]

    def error(self, problem: str) -> BundleError:
        return BundleError(f"{self.name}: {problem}: export the bundle again")

    def require(self, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]]) -> None:
        """Raises BundleError unless the graph has these inputs and outputs with these shapes."""
        for kind, wanted, found in (("input", inputs, self.inputs), ("output", outputs, self.outputs)):
            for name, shape in wanted.items():
                if name not in found:
                    raise self.error(f"has no {kind} {name}")
                if found[name] != shape:
                    raise self.error(f"{kind} {name} has shape {found[name]} instead of {shape}")

    def states(self, initial: Mapping[str, Float], prefix: str) -> dict[str, Float]:
        """Initial value of every input X that has an output X_next, from the tensors named prefix + X."""
        states = {}
        for name, shape in self.inputs.items():
            if name + STATE_SUFFIX not in self.outputs:
                continue
            if self.outputs[name + STATE_SUFFIX] != shape:
                raise self.error(f"state {name} changes its shape from {shape}")
            value = initial.get(prefix + name)
            if value is None or value.shape != shape:
                raise self.error(f"avatar.safetensors has no state.{prefix}{name} of shape {shape}")
            states[name] = value
        return states


class Graph(Interface):
    """One session with the shapes of its inputs and outputs. Shared by avatars: running it keeps nothing in it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.session = open_session(path, threads)
        super().__init__(path.name, *session_shapes(path.name, self.session))


def session_shapes(name: str, session: onnxruntime.InferenceSession) -> tuple[Shapes, Shapes]:
    """Shapes of a session's inputs and outputs. Raises BundleError unless they are float32 and fixed."""
    return _shapes(name, session.get_inputs()), _shapes(name, session.get_outputs())


def _shapes(graph: str, values: Sequence[Any]) -> Shapes:
    shapes: Shapes = {}
    for value in values:
        if value.type != "tensor(float)" or not all(isinstance(size, int) for size in value.shape):
            raise Interface(graph, {}, {}).error(f"{value.name} is not a float32 tensor of fixed shape")
        shapes[value.name] = checked_shape(graph, value.name, value.shape)
    return shapes


def checked_shape(graph: str, name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A tensor's shape. Raises BundleError if it is larger than any avatar needs."""
    if prod(shape) > _MOST_ELEMENTS:
        raise Interface(graph, {}, {}).error(f"{name} has {prod(shape)} elements, more than any avatar needs")
    return tuple(shape)


class Bound(Protocol):
    """A graph bound to the memory of one avatar, wherever that is."""

    inputs: dict[str, Float]
    """What the caller writes before a run: every input that is neither state nor ring."""
    outputs: dict[str, Float]
    """What the caller reads after a run: every output that is not a state's next value."""

    def run(self) -> None:
        """One call: reads `inputs` and the state, fills `outputs` and the next state."""

    def keep(self, slot: int, count: int) -> None:
        """Copies the first `count` rows of every `X_new` into its ring X, from row `slot` on."""

    def reset(self) -> None:
        """Back to the initial state, rings to zero; `inputs` are left as they are."""


class BoundGraph:
    """A graph bound to arrays of one avatar. Running it allocates and copies nothing.

    State alternates between two sets of arrays (ping-pong): what one call writes, the next one reads.
    """

    def __init__(self, graph: Graph, states: Mapping[str, Float]) -> None:
        self._session = graph.session
        self._initial = states
        self._sets = tuple({name: value.copy() for name, value in states.items()} for _ in range(2))
        written = {name + STATE_SUFFIX for name in states}
        self.inputs = {n: np.zeros(shape, np.float32) for n, shape in graph.inputs.items() if n not in states}
        self.outputs = {n: np.zeros(shape, np.float32) for n, shape in graph.outputs.items() if n not in written}
        self._bindings = tuple(self._bind(read, write) for read, write in (self._sets, self._sets[::-1]))
        self._rings = [(self.inputs[name], self.outputs[name + RING_SUFFIX]) for name in graph.rings]
        self._phase = 0

    def _bind(self, read: Mapping[str, Float], write: Mapping[str, Float]) -> Any:
        binding = self._session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy  # on the CPU it shares the array's memory
        for name, array in (self.inputs | dict(read)).items():
            binding.bind_ortvalue_input(name, value(array))
        for name, array in (self.outputs | {name + STATE_SUFFIX: a for name, a in write.items()}).items():
            binding.bind_ortvalue_output(name, value(array))
        return binding

    def run(self) -> None:
        """One call: reads `inputs` and the state, fills `outputs` and the other state."""
        self._session.run_with_iobinding(self._bindings[self._phase])
        self._phase ^= 1

    def keep(self, slot: int, count: int) -> None:
        """Copies the first `count` rows of every `X_new` into its ring X, from row `slot` on."""
        for ring, new in self._rings:
            ring[:, slot : slot + count] = new[:, :count]

    def reset(self) -> None:
        """Back to the initial state, rings to zero; the other `inputs` are left as they are."""
        for ring, _ in self._rings:
            ring[:] = 0
        for name, value in self._initial.items():
            self._sets[self._phase][name][...] = value


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU. Raises BundleError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # what fails is raised; nothing is written to the customer's stderr
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen classes that share no base
        reason = str(error).splitlines()[0]
        raise BundleError(f"{path.name} cannot be loaded ({reason}): export the bundle again") from None
