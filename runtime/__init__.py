"""Streaming avatar runtime: numpy, ONNX Runtime and the kernels; never torch."""
