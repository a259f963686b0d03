// What the encoder needs beyond simd::Plain: bytes, whole numbers, and the tile of its products. Any CPU.
#pragma once

#include "../simd/plain.h"
#include "product.h"

namespace emotag::encoder {

struct PlainLanes {
  using F = simd::Plain;

  EMOTAG_HD void storeu(float* p, F a) { F::store(p, a); }
  EMOTAG_HD F from_ints(const int32_t* p) {
    F::Ints whole;
    memcpy(&whole, p, sizeof whole);
    return F(__builtin_convertvector(whole, F::Floats));
  }
  // Sixteen floats within 0…255, rounded to nearest, halves to even: the sum has no bits left for fractions.
  EMOTAG_HD void store_bytes(uint8_t* p, const F* v) {
    for (int i = 0; i < kLanes; ++i) {
      const volatile float rounded = v[i / F::width].v[i % F::width] + 12582912.0f;
      p[i] = static_cast<uint8_t>(rounded - 12582912.0f);
    }
  }

  // As Avx2Lanes::tile. Sums of 32 bits cannot overflow where those of 16 do not, so they are the same numbers.
  template <int R>
  static void tile(const Product& p, int panel, const uint8_t* bytes, int stride, const int32_t* zero, int32_t* out) {
    const int8_t* w = p.weights + static_cast<size_t>(panel) * p.groups * kPanelGroup;
    int32_t total[R][kLanes] = {};
    for (int group = 0; group < p.groups; ++group, w += kPanelGroup, bytes += stride)
      for (int j = 0; j < 4; ++j)
        for (int r = 0; r < R; ++r) {
          const uint8_t* q = bytes + kLanes * r + 4 * j;
          for (int c = 0; c < kLanes; ++c) {
            const int8_t* four = w + 64 * j + 4 * c;
            total[r][c] += q[0] * four[0] + q[1] * four[1] + q[2] * four[2] + q[3] * four[3];
          }
        }
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < kLanes; ++c) out[kLanes * r + c] = total[r][c] - zero[r] * p.sums[kLanes * panel + c];
  }
};

}  // namespace emotag::encoder
