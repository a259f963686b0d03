"""Checkpoint to ONNX to avatar bundle."""
