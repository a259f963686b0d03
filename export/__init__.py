"""Checkpoint to ONNX to avatar bundle."""

from .bundle import ExportOptions, write_bundle

__all__ = ["ExportOptions", "write_bundle"]
