"""Kernels: FLAME skinning, Gaussian binding, mouth offsets, hash grid and rasterizer."""
