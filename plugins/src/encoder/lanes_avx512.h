// What the encoder needs beyond simd::Avx512: bytes, whole numbers, and the tile of its products.
#pragma once

#include "../simd/avx512.h"
#include "product.h"

namespace emotag::encoder {

struct Avx512Lanes {
  using F = simd::Avx512;

  EMOTAG_HD void storeu(float* p, F a) { _mm512_storeu_ps(p, a.v); }
  EMOTAG_HD F from_ints(const int32_t* p) { return _mm512_cvtepi32_ps(_mm512_load_si512(p)); }
  // Sixteen floats within 0…255, rounded.
  EMOTAG_HD void store_bytes(uint8_t* p, const F* v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v[0].v)));
  }

  // As Avx2Lanes::tile; a panel is one register, and the sums of all rows have registers too.
  template <int R>
  static void tile(const Product& p, int panel, const uint8_t* bytes, int stride, const int32_t* zero, int32_t* out) {
    const int8_t* w = p.weights + static_cast<size_t>(panel) * p.groups * kPanelGroup;
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i total[R];
    for (int r = 0; r < R; ++r) total[r] = _mm512_setzero_si512();
    for (int group = 0; group < p.groups; ++group, w += kPanelGroup, bytes += stride) {
      for (int i = 0; i < kPanelGroup; i += 64) _mm_prefetch(reinterpret_cast<const char*>(w) + 2048 + i, _MM_HINT_T0);
      __m512i v[4];
      for (int j = 0; j < 4; ++j) v[j] = _mm512_load_si512(w + 64 * j);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        __m512i sum = _mm512_maddubs_epi16(broadcast(bytes + kLanes * r), v[0]);
#pragma GCC unroll 4
        for (int j = 1; j < 4; ++j)
          sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(broadcast(bytes + kLanes * r + 4 * j), v[j]));
        total[r] = _mm512_add_epi32(total[r], _mm512_madd_epi16(sum, ones));
      }
    }
    store_sums<R>(p, panel, total, zero, out);
  }

  // Σ q · weight less zero · Σ weight.
  template <int R>
  EMOTAG_HD void store_sums(const Product& p, int panel, const __m512i* total, const int32_t* zero, int32_t* out) {
    const __m512i sums = _mm512_load_si512(p.sums + kLanes * panel);
    for (int r = 0; r < R; ++r)
      _mm512_store_si512(out + kLanes * r,
                         _mm512_sub_epi32(total[r], _mm512_mullo_epi32(_mm512_set1_epi32(zero[r]), sums)));
  }

  EMOTAG_HD __m512i broadcast(const uint8_t* p) {
    int32_t four;
    memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
  }
};

}  // namespace emotag::encoder
