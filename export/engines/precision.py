"""Precision in the ONNX file itself. Engines are strongly typed: what stands there is what runs.

Inputs, outputs and the state between calls stay float32, so one runtime serves every precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import onnx

from .eighth import Feeds, quantise
from .half import halve

EnginePrecision = Literal["fp32", "fp16", "int8"]
ENGINE_PRECISIONS: tuple[EnginePrecision, ...] = ("fp32", "fp16", "int8")


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in fp16, norms in fp32, with casts at the border."""
    converted = halve(model)
    onnx.checker.check_model(converted)
    return converted


def to_int8(model: onnx.ModelProto, calls: Sequence[Feeds]) -> onnx.ModelProto:
    """Large products with a constant matrix in 8 bits between Q/DQ pairs (`eighth.quantise`), the rest as `to_fp16`.

    calls: inputs of calls on speech; the largest values that occur set the scales.
    """
    converted = halve(quantise(model, calls))
    onnx.checker.check_model(converted)
    return converted
