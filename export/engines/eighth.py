"""Products in 8 bits, signed and symmetric, between Q/DQ pairs: the only form that TensorRT takes.

No zero points, no quantised bias, a pair of its own for each use; weights have a scale a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Float = NDArray[np.float32]
Feeds = Mapping[str, Float]

_PRODUCTS = ("MatMul", "Gemm")
_LEAST_SIDE = 32  # smaller matrices cost more in conversions than they save
_SENSITIVE = ("first.", "convolutions.", "grmn.")
"""Weights of Wav2Vec2's convolutions: the norm behind them lifts quiet speech up, which one scale for loud and quiet
has left no digits, and any one of them in 8 bits costs the demo 27% to 30% of its expression. And those of GRMN behind
its window encoder: they read one row, so nothing is saved, and emotions and action units move their ranges far."""
_STEP = 127


@dataclass(frozen=True)
class Product:
    """A MatMul or Gemm with one constant matrix. axis: of its columns, which have a scale each."""

    node: str
    input: str
    weight: str
    axis: int


def quantise(model: onnx.ModelProto, calls: Sequence[Feeds]) -> onnx.ModelProto:
    """A copy with Q/DQ pairs around the large products, but for sensitive ones and those whose input never moves.

    calls: inputs that calibrate. Scales fit fp16, so that the rest of the graph may be lowered to it.
    """
    products = _products(model)
    tops = _largest(model, sorted({product.input for product in products}), calls)
    chosen = {product.node: product for product in products if tops[product.input] > 0}
    made: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    constants = {constant.name: constant for constant in made.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in made.graph.node:
        product = chosen.get(node.name)
        if product is not None:
            node.input[0] = _activation(made.graph, nodes, product, tops[product.input])
            node.input[1] = _weight(made.graph, nodes, product, numpy_helper.to_array(constants[product.weight]))
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:], made.graph.value_info[:]
    made.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    for name in set(constants) - used:
        made.graph.initializer.remove(constants[name])
    return made


def _products(model: onnx.ModelProto) -> list[Product]:
    """Those worth quantising. A stack of matrices has no scale a column, attention's factors are no constants."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    found = []
    for node in model.graph.node:
        weight = constants.get(node.input[1]) if node.op_type in _PRODUCTS else None
        if weight is None or len(weight.dims) != 2 or min(weight.dims) < _LEAST_SIDE:
            continue
        if not weight.name.startswith(_SENSITIVE):
            turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            found.append(Product(node.name, node.input[0], weight.name, 0 if turned else 1))
    return found


def _largest(model: onnx.ModelProto, names: list[str], calls: Sequence[Feeds]) -> dict[str, float]:
    """Largest magnitude of each tensor over the calls."""
    tops = dict.fromkeys(names, 0.0)
    watched = [name for name in names if all(name != value.name for value in model.graph.input)]
    shown: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    given = {value.name for value in shown.graph.output}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in watched if name not in given
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for feeds in calls:
        values = dict(feeds) | dict(zip(watched, session.run(watched, dict(feeds)) if watched else (), strict=True))
        for name in names:
            tops[name] = max(tops[name], float(np.abs(values[name]).max()))
    return tops


def _scale(largest: NDArray[np.float64]) -> Float:
    """Of 8 bits that reach the largest value, as fp16 holds it."""
    least = float(np.finfo(np.float16).smallest_normal)
    scale: Float = np.maximum(largest / _STEP, least).astype(np.float16).astype(np.float32)
    return scale


def _activation(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], product: Product, top: float) -> str:
    name = f"{product.node}__input"
    scale = _constant(graph, f"{name}_scale", _scale(np.array(top)))
    zero = _constant(graph, f"{name}_zero", np.array(0, np.int8))
    nodes.append(helper.make_node("QuantizeLinear", [product.input, scale, zero], [f"{name}_q"], f"{name}_quantise"))
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [name], f"{name}_dequantise"))
    return name


def _weight(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], product: Product, weight: Float) -> str:
    name = f"{product.node}__weight"
    columns = _scale(np.abs(weight).max(axis=1 - product.axis).astype(np.float64))
    rounded = np.rint(weight / np.expand_dims(columns, 1 - product.axis))
    stored = _constant(graph, f"{name}_q", np.clip(rounded, -_STEP, _STEP).astype(np.int8))
    scale = _constant(graph, f"{name}_scale", columns)
    zero = _constant(graph, f"{name}_zero", np.zeros(columns.shape, np.int8))
    nodes.append(
        helper.make_node("DequantizeLinear", [stored, scale, zero], [name], f"{name}_dequantise", axis=product.axis)
    )
    return name


def _constant(graph: onnx.GraphProto, name: str, value: NDArray[np.generic]) -> str:
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name
