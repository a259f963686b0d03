"""Structural similarity with a closed-form gradient, quick on a processor.

An 11-tap Gaussian window of σ 1.5 with zeros outside the picture (Wang et al. 2004), as `training.metrics.image` and
3DGS. Float32 on the CPU goes through a kernel. Elsewhere the window is applied as products with a banded matrix, a
block of rows at a time, as small dense matrices are multiplied several times faster than convolved.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import plugins
from ..runtime.errors import ControlError
from .metrics.image import SIGMA, WINDOW

__all__ = ["blur", "ssim", "ssim_map"]

_C1, _C2 = 0.01**2, 0.03**2
_BLOCK = 32
_MARGIN = WINDOW // 2


def ssim(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean structural similarity, a scalar at most 1, differentiable in `predicted`.

    Args:
        predicted, truth: (C, H, W) of one floating type, 0…1. `truth` gets no gradient.

    Raises:
        ControlError: the shapes disagree, or are not (C, H, W).
    """
    return ssim_map(predicted, truth).mean()


def ssim_map(predicted: Tensor, truth: Tensor) -> Tensor:
    """SSIM (C, H, W) of every pixel and channel. Arguments and errors as `ssim`."""
    if predicted.shape != truth.shape or predicted.ndim != 3:
        raise ControlError(
            f"pictures of shapes {tuple(predicted.shape)} and {tuple(truth.shape)}: give two (C, H, W) of one size"
        )
    pair = (predicted, truth.detach())
    if all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in pair):
        threads = min(torch.get_num_threads(), plugins.constants.MAX_THREADS)
        result: Tensor = _KernelSsim.apply(*pair, _kernel(threads))  # type: ignore[no-untyped-call]
    else:
        result = _Ssim.apply(*pair)  # type: ignore[no-untyped-call]
    return result


_kernels: dict[int, plugins.Similarity] = {}


def _kernel(threads: int) -> plugins.Similarity:
    if threads not in _kernels:
        _kernels[threads] = plugins.Similarity(_window().numpy(), _C1, _C2, threads)
    return _kernels[threads]


class _KernelSsim(torch.autograd.Function):
    """`_Ssim` on the CPU in float32."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, kernel: plugins.Similarity) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        value, partials = kernel.forward(a.detach().numpy(), b.numpy(), gradients=wanted)
        if wanted:
            ctx.save_for_backward(a, b)
            ctx.kernel, ctx.partials = kernel, partials
        return torch.from_numpy(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        a, b = ctx.saved_tensors
        gradient = ctx.kernel.backward(a.detach().numpy(), b.numpy(), ctx.partials, upstream.numpy())
        return torch.from_numpy(gradient), None, None


class _Ssim(torch.autograd.Function):
    """The map; its derivatives in the window's three means that depend on `a` are kept for the way back."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        mean_a, mean_b, square_a, square_b, product = blur(torch.stack([a, b, a * a, b * b, a * b]))
        means = mean_a * mean_b
        squares = mean_a.square().add_(mean_b.square())
        top1 = means.mul(2).add_(_C1)
        top2 = product.sub_(means).mul_(2).add_(_C2)
        bottom2 = square_a.add_(square_b).sub_(squares).add_(_C2)
        bottom1 = squares.add_(_C1)
        inverse = (bottom1 * bottom2).reciprocal_()
        value: Tensor = top1 * top2 * inverse
        if ctx.needs_input_grad[0]:
            # S = t1 t2 / (b1 b2) with t2 and b2 from the window's means of a·b and a².
            in_mean = mean_b * (top2 - top1) * inverse - value * mean_a * (bottom1.reciprocal() - 1 / bottom2)
            ctx.save_for_backward(a, b, in_mean.mul_(2), value / bottom2, top1.mul_(inverse).mul_(2))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        a, b, in_mean, in_square, in_product = ctx.saved_tensors
        # The window is symmetric, so its adjoint is itself.
        spread = blur(torch.stack([in_mean, in_square, in_product]).mul_(upstream))
        return spread[0].addcmul_(a, spread[1], value=-2).addcmul_(b, spread[2]), None


def blur(pictures: Tensor) -> Tensor:
    """The window's weighted means of pictures (..., H, W), zeros outside, of the same shape."""
    height, width = pictures.shape[-2:]
    rows = _padded(pictures.reshape(-1, height, width))
    count, tall, wide = rows.shape
    kernel = _band(pictures.dtype, pictures.device)
    # Down the columns: a block of output rows is the band times the input rows around it.
    blocks = (tall - 2 * _MARGIN) // _BLOCK
    around = rows.as_strided(
        (count, blocks, _BLOCK + 2 * _MARGIN, wide), (tall * wide, _BLOCK * wide, wide, 1), rows.storage_offset()
    )
    down = torch.matmul(kernel, around).reshape(count, blocks * _BLOCK, wide)
    # Along the rows: the same with the band on the other side.
    columns = (wide - 2 * _MARGIN) // _BLOCK
    beside = down.as_strided(
        (count, columns, blocks * _BLOCK, _BLOCK + 2 * _MARGIN), (blocks * _BLOCK * wide, _BLOCK, wide, 1)
    )
    along = torch.matmul(beside, kernel.T).transpose(1, 2).reshape(count, blocks * _BLOCK, columns * _BLOCK)
    return along[:, :height, :width].reshape(pictures.shape)


def _padded(pictures: Tensor) -> Tensor:
    """(N, H, W) with a margin of zeros, grown to whole blocks."""
    height, width = pictures.shape[-2:]
    return torch.nn.functional.pad(pictures, (_MARGIN, _MARGIN + -width % _BLOCK, _MARGIN, _MARGIN + -height % _BLOCK))


@lru_cache(maxsize=8)
def _band(dtype: torch.dtype, device: torch.device) -> Tensor:
    """(block, block + 10): row i holds the window's weights from column i on."""
    band = torch.zeros(_BLOCK, _BLOCK + 2 * _MARGIN, dtype=torch.float64)
    for row in range(_BLOCK):
        band[row, row : row + WINDOW] = _window()
    return band.to(dtype).to(device)


def _window() -> Tensor:
    """(11,) float64 weights, which sum to one."""
    offset = torch.arange(WINDOW, dtype=torch.float64) - _MARGIN
    weights = (-offset.square() / (2 * SIGMA**2)).exp()
    return weights / weights.sum()
