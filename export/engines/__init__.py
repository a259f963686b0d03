"""Graphs and engines for GPUs: precision put into the ONNX file, engines built and audited, parity measured."""

from .audit import audit_text, layer_counts
from .precision import EnginePrecision, to_fp16, to_int8
from .write import ENGINES, EngineOptions, write_engines

__all__ = [
    "ENGINES",
    "EngineOptions",
    "EnginePrecision",
    "audit_text",
    "layer_counts",
    "to_fp16",
    "to_int8",
    "write_engines",
]
