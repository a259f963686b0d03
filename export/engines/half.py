"""fp32 graphs to fp16, node by node: casts only at the border and around what must stay fp32.

ONNX Runtime's own converter writes the same cast twice where a tensor feeds two such nodes, and leaves nodes unsorted.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KEPT_IN_FP32 = ("LayerNormalization", "ReduceMean", "ReduceSum", "Pow", "Sqrt", "Reciprocal")
"""Sums over many squares, and roots of them: their values leave the range of fp16."""


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph without subgraphs or functions; its inputs and outputs stay float32."""
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
    def __init__(self, graph: onnx.GraphProto, floats: set[str]) -> None:
        self._graph, self._floats = graph, floats
        self._nodes: list[onnx.NodeProto] = []
        self._renamed: dict[str, str] = {}
        self._widened: dict[str, str] = {}
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._kept: dict[str, onnx.TensorProto] = {}

    def convert(self) -> None:
        graph = self._graph
        for value in graph.input:
            if value.name in self._floats:
                self._renamed[value.name] = self._cast(value.name, f"{value.name}__half", TensorProto.FLOAT16)
        results = [value.name for value in graph.output if value.name in self._floats]
        self._renamed |= {name: f"{name}__half" for name in results}
        for node in graph.node:
            if node.op_type in KEPT_IN_FP32:
                self._keep(node)
            else:
                self._lower(node)
        for name in results:
            self._cast(f"{name}__half", name, TensorProto.FLOAT)
        constants = [self._halved(constant) for constant in graph.initializer]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        graph.initializer.extend(c for c in (*constants, *self._kept.values()) if c.name in used)

    def _cast(self, source: str, to: str, kind: int) -> str:
        self._nodes.append(helper.make_node("Cast", [source], [to], f"cast_{to}", to=kind))
        return to

    def _lower(self, node: onnx.NodeProto) -> None:
        """As it is, on fp16 tensors."""
        made = onnx.NodeProto.FromString(node.SerializeToString())
        made.input[:] = [self._renamed.get(name, name) for name in node.input]
        made.output[:] = [self._renamed.get(name, name) for name in node.output]
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
        """In fp32, between casts."""
        made = onnx.NodeProto.FromString(node.SerializeToString())
        made.input[:] = [self._wide(name) if name in self._floats else name for name in node.input]
        made.output[:] = [f"{name}__wide" if name in self._floats else name for name in node.output]
        self._nodes.append(made)
        for name in node.output:
            if name in self._floats:
                self._cast(f"{name}__wide", self._renamed.get(name, name), TensorProto.FLOAT16)

    def _wide(self, name: str) -> str:
        if name in self._constants:
            kept = onnx.TensorProto.FromString(self._constants[name].SerializeToString())
            wide = kept.name = f"{name}__wide"
            self._kept[name] = kept
            return wide
        if name not in self._widened:
            source = self._renamed.get(name, name)
            self._widened[name] = self._cast(source, f"{name}__widened", TensorProto.FLOAT)
        return self._widened[name]

    def _halved(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        if tensor.data_type != TensorProto.FLOAT:
            return tensor
        largest = float(np.finfo(np.float16).max)
        values = np.clip(numpy_helper.to_array(tensor), -largest, largest).astype(np.float16)
        return numpy_helper.from_array(values, tensor.name)
