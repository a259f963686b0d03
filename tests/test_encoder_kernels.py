"""The int8 encoder's products and its rounding, in every variant: exact sums, the largest that are allowed."""

from __future__ import annotations

import numpy as np
import pytest
from encoder_reference import quantise

from emotag.plugins import _kernels
from emotag.plugins.encoder import encoder_isas


@pytest.mark.parametrize("isa", encoder_isas())
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 16, 1), (2, 48, 16), (10, 160, 40), (23, 64, 33)])
def test_sums_are_exact(isa: str, rows: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(rows)
    weights = rng.integers(-16, 17, (outputs, inputs)).astype(np.int8)  # eight of 255 times these fit 16 bits
    q = rng.integers(0, 256, (rows, inputs)).astype(np.uint8)
    q[0] = 255  # with the weights' signs, the largest sums there are
    zero = rng.integers(0, 256, rows).astype(np.int32)
    found = _kernels.encoder_multiply(q, zero, weights, 255, isa)
    assert (found == (q.astype(np.int64) - zero[:, None]) @ weights.astype(np.int64).T).all()


@pytest.mark.parametrize("isa", encoder_isas())
@pytest.mark.parametrize("levels", [127, 255])
def test_the_largest_sums_that_are_allowed_are_exact(isa: str, levels: int) -> None:
    limit = 32767 // levels
    weights = np.zeros((2, 32), np.int8)
    eight = [0, 1, 4, 5, 8, 9, 12, 13]
    weights[0, eight], weights[1, eight] = limit // 8, -(limit // 8)
    weights[:, 16:18] = min(limit // 2, 127)
    q = np.full((1, 32), levels, np.uint8)
    found = _kernels.encoder_multiply(q, np.zeros(1, np.int32), weights, levels, isa)
    assert (found == q.astype(np.int64) @ weights.astype(np.int64).T).all()
    weights[0, eight] = limit // 8 + 1
    with pytest.raises(ValueError, match="exceed 16 bits"):
        _kernels.encoder_multiply(q, np.zeros(1, np.int32), weights, levels, isa)


@pytest.mark.parametrize("isa", encoder_isas())
@pytest.mark.parametrize("levels", [127, 255])
def test_rows_are_quantised_to_half_a_step(isa: str, levels: int) -> None:
    rng = np.random.default_rng(levels)
    x = rng.normal(size=(8, 64)).astype(np.float32) * np.logspace(-6, 6, 8, dtype=np.float32)[:, None]
    x[2], x[3] = np.abs(x[2]), -np.abs(x[3])  # a range always holds 0, which stays exactly 0
    x[4], x[5, 7] = 0, 0
    q, scale, zero = _kernels.encoder_quantise(x, levels, isa)
    wanted, wanted_scale, wanted_zero = quantise(x, levels)
    assert q.max() <= levels and (zero >= 0).all() and (zero <= levels).all()
    np.testing.assert_allclose(scale, wanted_scale, rtol=1e-6)
    assert (zero == wanted_zero).all() and np.abs(q - wanted).max() <= 1
    assert (np.abs((q.astype(float) - zero[:, None]) * scale[:, None] - x) <= 1.01 * scale[:, None]).all()
    assert (q[4] == zero[4]).all() and q[5, 7] == zero[5]
