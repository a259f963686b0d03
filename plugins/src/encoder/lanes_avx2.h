// What the encoder needs beyond simd::Avx2: bytes, whole numbers, and the tile of its products.
#pragma once

#include "../simd/avx2.h"
#include "product.h"

namespace emotag::encoder {

struct Avx2Lanes {
  using F = simd::Avx2;

  EMOTAG_HD void storeu(float* p, F a) { _mm256_storeu_ps(p, a.v); }
  EMOTAG_HD F from_ints(const int32_t* p) {
    return _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
  }
  // Sixteen floats within 0…255, rounded.
  EMOTAG_HD void store_bytes(uint8_t* p, const F* v) {
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0].v), _mm256_cvtps_epi32(v[1].v));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
    const __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }

  // R rows of one panel: out[r][16] = Σ (q - zero) · weight. Two registers of eight columns share each broadcast of
  // four inputs. The sums of all rows are more than there are registers; adding to memory costs less than loading the
  // weights or the inputs again would.
  template <int R>
  static void tile(const Product& p, int panel, const uint8_t* __restrict bytes, int stride, const int32_t* zero,
                   int32_t* __restrict out) {
    const int8_t* __restrict w = p.weights + static_cast<size_t>(panel) * p.groups * kPanelGroup;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i* total = reinterpret_cast<__m256i*>(out);
    for (int i = 0; i < 2 * R; ++i) total[i] = _mm256_setzero_si256();
    for (int group = 0; group < p.groups; ++group, w += kPanelGroup, bytes += stride) {
      for (int i = 0; i < kPanelGroup; i += 64) _mm_prefetch(reinterpret_cast<const char*>(w) + 2048 + i, _MM_HINT_T0);
      asm("" : "+r"(total));  // else GCC keeps copies of the sums on the stack and stores each of them twice
      __m256i v[8];
      for (int i = 0; i < 8; ++i) v[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(w) + i);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        __m256i four = broadcast(bytes + kLanes * r);
        __m256i low = _mm256_maddubs_epi16(four, v[0]), high = _mm256_maddubs_epi16(four, v[1]);
#pragma GCC unroll 4
        for (int j = 1; j < 4; ++j) {
          four = broadcast(bytes + kLanes * r + 4 * j);
          low = _mm256_add_epi16(low, _mm256_maddubs_epi16(four, v[2 * j]));
          high = _mm256_add_epi16(high, _mm256_maddubs_epi16(four, v[2 * j + 1]));
        }
        total[2 * r] = _mm256_add_epi32(_mm256_madd_epi16(low, ones), total[2 * r]);
        total[2 * r + 1] = _mm256_add_epi32(_mm256_madd_epi16(high, ones), total[2 * r + 1]);
      }
    }
    const __m256i* sums = reinterpret_cast<const __m256i*>(p.sums + kLanes * panel);
    for (int i = 0; i < 2 * R; ++i) {
      const __m256i shift = _mm256_mullo_epi32(_mm256_set1_epi32(zero[i / 2]), _mm256_load_si256(sums + i % 2));
      total[i] = _mm256_sub_epi32(total[i], shift);
    }
  }

  EMOTAG_HD __m256i broadcast(const uint8_t* p) {
    int32_t four;
    memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
  }
};

}  // namespace emotag::encoder
