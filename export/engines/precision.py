"""Precision in the ONNX file itself. Engines are strongly typed: what stands there is what runs.

Inputs, outputs and the state between calls stay float32, so one runtime serves every precision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from .half import halve

Float = NDArray[np.float32]
Feeds = Mapping[str, Float]
EnginePrecision = Literal["fp32", "fp16", "int8"]


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in fp16, norms in fp32, with casts at the border."""
    converted = halve(model)
    onnx.checker.check_model(converted)
    return converted


def to_int8(model: onnx.ModelProto, calibration: Iterable[Feeds]) -> onnx.ModelProto:
    """Every product with a constant matrix between Q/DQ pairs: 8 bits signed and symmetric, weights per column.

    It is the only form that TensorRT takes: no zero points, no quantised bias, a pair of its own for each use.
    calibration: inputs of successive calls; the largest values that occur set the scales.
    """
    excluded = [node.name for node in model.graph.node if node.op_type in _PRODUCTS and not _weighted(node, model)]
    excluded += _first_product(model)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Reader(iter(calibration)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(_PRODUCTS),
            nodes_to_exclude=excluded,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": True,
            },
        )
        quantised = onnx.load(target)
    del quantised.graph.value_info[:]
    onnx.checker.check_model(quantised)
    return quantised


_PRODUCTS = ("MatMul", "Gemm")


def _weighted(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Whether a product's second factor is one constant matrix; attention's are not, a stack has no scale a column."""
    return any(constant.name == node.input[1] and len(constant.dims) == 2 for constant in model.graph.initializer)


def _first_product(model: onnx.ModelProto) -> list[str]:
    """The product that reads samples: quiet speech would be lost in one scale for all of it."""
    if all(value.name != "samples" for value in model.graph.input):
        return []
    return [node.name for node in model.graph.node if node.op_type in _PRODUCTS][:1]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterator[Feeds]) -> None:
        self._feeds = feeds

    def get_next(self) -> Any:
        feeds = next(self._feeds, None)
        return None if feeds is None else {name: value.copy() for name, value in feeds.items()}
