"""fp32 graphs to fp16, node by node: casts only at the border and around what must stay fp32.

ONNX Runtime's own converter writes the same cast twice where a tensor feeds two such nodes, and leaves nodes unsorted.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KEPT_IN_FP32 = ("LayerNormalization", "ReduceMean", "ReduceSum", "Pow", "Sqrt", "Reciprocal")
"""Sums over many squares, and roots of them: their values leave the range of fp16."""

_MOVING = ("Slice", "Concat", "Reshape", "Unsqueeze", "Squeeze", "Gather", "Identity", "Split", "Transpose")


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph without subgraphs; its inputs and outputs stay float32, and so do nodes of other domains.

    Those are skinning and rasterization: a vertex in fp16 is off by a tenth of a millimetre.
    """
    half: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    _Converter(half.graph, _float_names(model)).convert()
    del half.graph.value_info[:]
    return half


def _float_names(model: onnx.ModelProto) -> set[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    typed = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    typed |= {constant.name: constant.data_type for constant in graph.initializer}
    return {name for name, kind in typed.items() if kind == TensorProto.FLOAT}


class _Converter:
    """Each float tensor exists in fp16, in fp32, or both; the other form is cast where it is first asked for."""

    def __init__(self, graph: onnx.GraphProto, floats: set[str]) -> None:
        self._graph, self._floats = graph, floats
        self._nodes: list[onnx.NodeProto] = []
        self._half: dict[str, str] = {}
        self._wide: dict[str, str] = {}
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._kept: dict[str, onnx.TensorProto] = {}
        self._results = {value.name for value in graph.output if value.name in floats}

    def convert(self) -> None:
        graph = self._graph
        self._wide = {value.name: value.name for value in graph.input if value.name in self._floats}
        moving = self._moving_for_kept()
        for node in graph.node:
            if node.op_type in KEPT_IN_FP32 or node.domain or node.name in moving:
                self._keep(node)
            else:
                self._lower(node)
        for name in sorted(self._results):
            self._widen(name)
        constants = [self._halved(constant) for constant in graph.initializer]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        graph.initializer.extend(c for c in (*constants, *self._kept.values()) if c.name in used)

    def _moving_for_kept(self) -> set[str]:
        """Names of nodes that only move values to nodes of other domains: a pose must not lose digits on the way."""
        users: dict[str, list[onnx.NodeProto]] = {}
        found: set[str] = set()
        for node in reversed(self._graph.node):
            takers = [user for name in node.output for user in users.get(name, [])]
            kept = all(user.domain or user.name in found for user in takers)
            if node.op_type in _MOVING and node.name and takers and kept:
                found.add(node.name)
            for name in node.input:
                users.setdefault(name, []).append(node)
        return found

    def _cast(self, source: str, to: str, kind: int) -> str:
        self._nodes.append(helper.make_node("Cast", [source], [to], f"cast_{to}", to=kind))
        return to

    def _narrow(self, name: str) -> str:
        """The fp16 form of a float tensor; other tensors and constants go by their own name."""
        if name not in self._floats or name in self._constants:
            return name
        if name not in self._half:
            self._half[name] = self._cast(self._wide[name], f"{name}__half", TensorProto.FLOAT16)
        return self._half[name]

    def _widen(self, name: str) -> str:
        """The fp32 form."""
        if name not in self._floats:
            return name
        if name in self._constants:
            kept = onnx.TensorProto.FromString(self._constants[name].SerializeToString())
            wide = kept.name = f"{name}__wide"
            self._kept[name] = kept
            return wide
        if name not in self._wide:
            to = name if name in self._results else f"{name}__wide"
            self._wide[name] = self._cast(self._half[name], to, TensorProto.FLOAT)
        return self._wide[name]

    def _lower(self, node: onnx.NodeProto) -> None:
        """As it is, on fp16 tensors."""
        made = onnx.NodeProto.FromString(node.SerializeToString())
        made.input[:] = [self._narrow(name) for name in node.input]
        for name in self._floats & set(node.output):
            self._half[name] = f"{name}__half" if name in self._results else name
        made.output[:] = [self._half.get(name, name) for name in node.output]
        for attribute in made.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(self._halved(attribute.t))
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.array(value, np.float32))
                attribute.CopyFrom(helper.make_attribute("value", self._halved(tensor)))
        self._nodes.append(made)

    def _keep(self, node: onnx.NodeProto) -> None:
        """In fp32."""
        made = onnx.NodeProto.FromString(node.SerializeToString())
        made.input[:] = [self._widen(name) for name in node.input]
        for name in self._floats & set(node.output):
            self._wide[name] = name if name in self._results else f"{name}__wide"
        made.output[:] = [self._wide.get(name, name) for name in node.output]
        self._nodes.append(made)

    def _halved(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        if tensor.data_type != TensorProto.FLOAT:
            return tensor
        largest = float(np.finfo(np.float16).max)
        values = np.clip(numpy_helper.to_array(tensor), -largest, largest).astype(np.float16)
        return numpy_helper.from_array(values, tensor.name)
