// As Avx512Lanes, with an instruction that multiplies and adds four bytes at once: no sum of 16 bits lies between.
#pragma once

#include "lanes_avx512.h"

namespace emotag::encoder {

struct VnniLanes : Avx512Lanes {
  template <int R>
  static void tile(const Product& p, int panel, const uint8_t* bytes, int stride, const int32_t* zero, int32_t* out) {
    const int8_t* w = p.weights + static_cast<size_t>(panel) * p.groups * kPanelGroup;
    __m512i total[R];
    for (int r = 0; r < R; ++r) total[r] = _mm512_setzero_si512();
    for (int group = 0; group < p.groups; ++group, w += kPanelGroup, bytes += stride) {
      for (int i = 0; i < kPanelGroup; i += 64) _mm_prefetch(reinterpret_cast<const char*>(w) + 2048 + i, _MM_HINT_T0);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m512i v = _mm512_load_si512(w + 64 * j);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
          total[r] = _mm512_dpbusd_epi32(total[r], broadcast(bytes + kLanes * r + 4 * j), v);
      }
    }
    store_sums<R>(p, panel, total, zero, out);
  }
};

}  // namespace emotag::encoder
