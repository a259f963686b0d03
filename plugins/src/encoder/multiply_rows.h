// Rows of floats times one panel of 16 columns of a large matrix, which comes from memory once for all rows.
#pragma once

#include "product.h"

namespace emotag::encoder {

// Rows that have their sums in registers, and rows whose sums are kept while a block of weights is near.
template <class I>
constexpr int kRowsAtOnce = I::F::width >= 16 ? 10 : I::F::width == 8 ? 5 : 2;
constexpr int kRowsTogether = 40;

// sums[r][16] += x[r][inputs] · panel[inputs][16]. Meanwhile half a block of later weights is fetched, from `ahead` on.
template <class I, int R>
EMOTAG_HD void add_block(const float* x, size_t stride, int inputs, const float* panel, const float* ahead,
                         float* sums) {
  using F = typename I::F;
  constexpr int kVectors = kLanes / F::width;
  F sum[R][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) sum[r][i] = F::load(sums + kLanes * r + F::width * i);
  for (int k = 0; k < inputs; k += 2) {
    __builtin_prefetch(ahead + kLanes / 2 * k);
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      F b[kVectors];
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) b[i] = F::load(panel + kLanes * (k + j) + F::width * i);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const F a(x[r * stride + k + j]);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) sum[r][i] = fma(a, b[i], sum[r][i]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) F::store(sums + kLanes * r + F::width * i, sum[r][i]);
}

template <class I, int R>
EMOTAG_HD void add_block_of(int rows, const float* x, size_t stride, int inputs, const float* panel,
                            const float* ahead, float* sums) {
  if (rows == R) return add_block<I, R>(x, stride, inputs, panel, ahead, sums);
  if constexpr (R > 1) add_block_of<I, R - 1>(rows, x, stride, inputs, panel, ahead, sums);
}

// Calls use(first row, rows, sums) for all rows of a panel, some at a time.
template <class I, class Use>
EMOTAG_HD void each_float_tile(const Product& product, const Rows& from, int rows, int panel, const Use& use) {
  constexpr int kAtOnce = kRowsAtOnce<I>;
  const float* weights = product.floats + static_cast<size_t>(panel) * product.inputs * kLanes;
  alignas(64) float sums[kRowsTogether * kLanes];
  for (int first = 0; first < rows; first += kRowsTogether) {
    const int count = rows - first < kRowsTogether ? rows - first : kRowsTogether;
    for (int i = 0; i < count * kLanes; ++i) sums[i] = 0;
    for (int k = 0; k < product.inputs; k += kFloatBlock) {
      const int inputs = product.inputs - k < kFloatBlock ? product.inputs - k : kFloatBlock;
      const float* block = weights + static_cast<size_t>(k) * kLanes;
      for (int row = 0; row < count; row += kAtOnce) {
        const float* x = from.floats + (first + row) * from.float_stride + k;
        // The next block, or the next panel's first: a half at a time, while it is not there yet.
        const float* ahead = block + kLanes * (kFloatBlock + (row == 0 ? 0 : kFloatBlock / 2));
        add_block_of<I, kAtOnce>(count - row < kAtOnce ? count - row : kAtOnce, x, from.float_stride, inputs, block,
                                 ahead, sums + row * kLanes);
      }
    }
    use(first, count, sums);
  }
}

}  // namespace emotag::encoder
