// Sixteen whole numbers of 16 bits, the pixels of a block: what AVX2 multiplies twice as many of as floats. The caller keeps
// count of the binary point.
#pragma once

#include <immintrin.h>

#include "../math/hd.h"

namespace emotag::simd {

struct Words {
  __m256i v;
  Words() = default;
  EMOTAG_INLINE explicit Words(int a) : v(_mm256_set1_epi16(static_cast<int16_t>(a))) {}
  EMOTAG_INLINE Words(__m256i a) : v(a) {}

  EMOTAG_HD Words load(const int16_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  EMOTAG_HD void store(int16_t* p, Words a) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), a.v); }
  // All words as a pair of them.
  EMOTAG_HD Words all(const int32_t* p) { return _mm256_set1_epi32(*p); }

  friend EMOTAG_INLINE Words operator+(Words a, Words b) { return _mm256_add_epi16(a.v, b.v); }
  friend EMOTAG_INLINE Words operator-(Words a, Words b) { return _mm256_sub_epi16(a.v, b.v); }
  friend EMOTAG_INLINE Words plus_saturated(Words a, Words b) { return _mm256_adds_epu16(a.v, b.v); }
  friend EMOTAG_INLINE Words min(Words a, Words b) { return _mm256_min_epi16(a.v, b.v); }
  // a · b / 2¹⁶ of unsigned words, truncated; a · b / 2¹⁵ of signed ones, rounded.
  friend EMOTAG_INLINE Words high_product(Words a, Words b) { return _mm256_mulhi_epu16(a.v, b.v); }
  friend EMOTAG_INLINE Words rounded_product(Words a, Words b) { return _mm256_mulhrs_epi16(a.v, b.v); }
  template <int Bits>
  EMOTAG_INLINE Words shifted_left() const { return _mm256_slli_epi16(v, Bits); }
  template <int Bits>
  EMOTAG_INLINE Words shifted_right() const { return _mm256_srli_epi16(v, Bits); }
  // The upper byte i, 0…15, as 2^(i - 8), which is nothing below 8; the lower bytes must be 0.
  friend EMOTAG_INLINE Words power_of_two(Words i) {
    const __m128i powers = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, -128);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(powers), i.v);
  }
  friend EMOTAG_INLINE Words operator&(Words a, Words b) { return _mm256_and_si256(a.v, b.v); }
  friend EMOTAG_INLINE bool any_above(Words a, Words b) { return _mm256_movemask_epi8(_mm256_cmpgt_epi16(a.v, b.v)) != 0; }
};

}  // namespace emotag::simd
