// Products of floats: a few rows by panels of 16 columns.
#pragma once

#include "kernels.h"

namespace emotag::encoder {

struct FloatRows {
  const float* data;
  size_t stride;
  int rows, inputs;
};

template <class I, int R>
EMOTAG_HD void multiply_tile(const float* a, size_t stride, int inputs, const float* panel, float* out, size_t width) {
  using F = typename I::F;
  constexpr int kVectors = kLanes / F::width;
  F sum[R][kVectors];
  for (int r = 0; r < R; ++r)
    for (int i = 0; i < kVectors; ++i) sum[r][i] = F(0.0f);
  for (int k = 0; k < inputs; ++k) {
    F b[kVectors];
    __builtin_prefetch(panel + kLanes * k + 1024);  // panels lie one behind the other, as do those of the next head
    for (int i = 0; i < kVectors; ++i) b[i] = F::load(panel + kLanes * k + F::width * i);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F x(a[r * stride + k]);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) sum[r][i] = fma(x, b[i], sum[r][i]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int i = 0; i < kVectors; ++i) F::store(out + r * width + F::width * i, sum[r][i]);
}

// out[rows][width] = a · b, b in panels [inputs][16] that lie `step` floats apart.
template <class I>
EMOTAG_HD void multiply(const FloatRows& a, const float* b, int panels, size_t step, float* out, size_t width) {
  for (int panel = 0; panel < panels; ++panel) {
    int row = 0;
    for (; row + 5 <= a.rows; row += 5)
      multiply_tile<I, 5>(a.data + row * a.stride, a.stride, a.inputs, b + panel * step,
                          out + row * width + kLanes * panel, width);
    for (; row + 2 <= a.rows; row += 2)
      multiply_tile<I, 2>(a.data + row * a.stride, a.stride, a.inputs, b + panel * step,
                          out + row * width + kLanes * panel, width);
    if (row < a.rows)
      multiply_tile<I, 1>(a.data + row * a.stride, a.stride, a.inputs, b + panel * step,
                          out + row * width + kLanes * panel, width);
  }
}

}  // namespace emotag::encoder
