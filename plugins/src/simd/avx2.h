// Eight floats: AVX2, FMA, F16C.
#pragma once

#include <immintrin.h>

#include "../math/hd.h"
#include "bits_avx2.h"
#include "words.h"

namespace emotag::simd {

struct Avx2 {
  static constexpr int width = 8;

  struct Mask {
    __m256 m;
    friend EMOTAG_INLINE Mask both(Mask a, Mask b) { return {_mm256_and_ps(a.m, b.m)}; }
    friend EMOTAG_INLINE unsigned bits(Mask a) { return static_cast<unsigned>(_mm256_movemask_ps(a.m)); }
  };

  __m256 v;
  Avx2() = default;
  EMOTAG_INLINE explicit Avx2(float a) : v(_mm256_set1_ps(a)) {}
  EMOTAG_INLINE Avx2(__m256 a) : v(a) {}

  EMOTAG_HD Avx2 load(const float* p) { return _mm256_load_ps(p); }
  EMOTAG_HD Avx2 loadu(const float* p) { return _mm256_loadu_ps(p); }
  EMOTAG_HD void store(float* p, Avx2 a) { _mm256_store_ps(p, a.v); }
  EMOTAG_HD void storeu(float* p, Avx2 a) { _mm256_storeu_ps(p, a.v); }
  EMOTAG_HD Avx2 load_half(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
  }
  EMOTAG_HD Avx2 gather(const float* base, const int32_t* index) {
    return _mm256_i32gather_ps(base, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)), 4);
  }
  // base[index] and base[index + 1]: eight loads of both, for which two gathers would take twice the time.
  EMOTAG_HD void gather_pairs(const float* base, const int32_t* index, Avx2* first, Avx2* second) {
    const auto two = [&](int i, int j) {
      const __m128 low = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(base + index[i])));
      return _mm_loadh_pi(low, reinterpret_cast<const __m64*>(base + index[j]));
    };
    const __m256 low = _mm256_set_m128(two(4, 5), two(0, 1)), high = _mm256_set_m128(two(6, 7), two(2, 3));
    first->v = _mm256_shuffle_ps(low, high, 0x88);
    second->v = _mm256_shuffle_ps(low, high, 0xdd);
  }
  EMOTAG_HD void store_int(int32_t* p, Avx2 a) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm256_cvttps_epi32(a.v));
  }
  // Two vectors of whole numbers below 2¹⁶, as sixteen bits each.
  EMOTAG_HD void store_pair(uint16_t* p, uint16_t* q, Avx2 a, Avx2 b) {
    const __m256i both = _mm256_packus_epi32(_mm256_cvttps_epi32(a.v), _mm256_cvttps_epi32(b.v));
    const __m256i ordered = _mm256_permute4x64_epi64(both, 0xd8);
    _mm_store_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(ordered));
    _mm_store_si128(reinterpret_cast<__m128i*>(q), _mm256_extracti128_si256(ordered, 1));
  }
  EMOTAG_HD void store_halves(uint32_t* p, Avx2 low, Avx2 high) {
    const __m256i upper = _mm256_slli_epi32(_mm256_cvttps_epi32(high.v), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_or_si256(_mm256_cvttps_epi32(low.v), upper));
  }
  // A lane as two whole numbers of 16 bits, rounded: the lower ones and the upper ones; either of them twice; and two of the
  // four bytes as numbers.
  EMOTAG_HD Avx2 words(Avx2 low, Avx2 high) {
    return _mm256_castsi256_ps(
        _mm256_blend_epi16(_mm256_cvtps_epi32(low.v), _mm256_slli_epi32(_mm256_cvtps_epi32(high.v), 16), 0xaa));
  }
  EMOTAG_HD void store_low_twice(int32_t* p, Avx2 a) {
    const __m256i i = _mm256_castps_si256(a.v);
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm256_blend_epi16(i, _mm256_slli_epi32(i, 16), 0xaa));
  }
  EMOTAG_HD void store_high_twice(int32_t* p, Avx2 a) {
    const __m256i i = _mm256_castps_si256(a.v);
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm256_blend_epi16(_mm256_srli_epi32(i, 16), i, 0xaa));
  }
  EMOTAG_HD Avx2 third_byte(Avx2 a) {
    const __m256i upper = _mm256_srli_epi32(_mm256_castps_si256(a.v), 16);
    return _mm256_cvtepi32_ps(_mm256_and_si256(upper, _mm256_set1_epi32(0xff)));
  }
  EMOTAG_HD Avx2 fourth_byte(Avx2 a) { return _mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_castps_si256(a.v), 24)); }
  EMOTAG_HD void gather_bits(const uint16_t* words, int count, uint64_t* bits) { gather_bits_avx2(words, count, bits); }
  EMOTAG_HD Avx2 block_x() { return _mm256_setr_ps(0, 1, 2, 3, 0, 1, 2, 3); }
  EMOTAG_HD Avx2 block_y() { return _mm256_setr_ps(0, 0, 0, 0, 1, 1, 1, 1); }

  // Sixteen numbers, rounded, as unsigned words: lanes 0-3 of the first vector, of the second, then lanes 4-7 of both.
  using Words = simd::Words;
  static constexpr bool has_words = true;
  EMOTAG_HD Words to_words(const Avx2* r) {
    return _mm256_packus_epi32(_mm256_cvtps_epi32(r[0].v), _mm256_cvtps_epi32(r[1].v));
  }
  EMOTAG_HD Avx2 word_y(int i) {
    const float y = static_cast<float>(i);
    return _mm256_setr_ps(y, y, y, y, y + 2, y + 2, y + 2, y + 2);
  }
  EMOTAG_HD Avx2 load_words(const int16_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p))));
  }
  EMOTAG_HD void store_words(int16_t* p, Avx2 a) {
    const __m256i i = _mm256_cvtps_epi32(a.v);
    _mm_store_si128(reinterpret_cast<__m128i*>(p),
                    _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1)));
  }

  // Halves of two rows share a register from the start, so that nothing has to cross its middle later.
  template <int Stride>
  EMOTAG_HD void load_fours(const float* base, const int32_t* index, Avx2* f) {
    const auto row = [&](int i) { return _mm_load_ps(base + static_cast<int64_t>(index[i]) * Stride); };
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) f[i].v = _mm256_insertf128_ps(_mm256_castps128_ps256(row(i)), row(4 + i), 1);
    transpose_fours(f);
  }
  template <class Row>
  EMOTAG_HD void store_fours(const Avx2* f, const Row& row) {
    Avx2 rows[4] = {f[0], f[1], f[2], f[3]};
    transpose_fours(rows);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm_store_ps(row(i), _mm256_castps256_ps128(rows[i].v));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm_store_ps(row(4 + i), _mm256_extractf128_ps(rows[i].v, 1));
  }
  // Each half by itself.
  EMOTAG_HD void transpose_fours(Avx2* r) {
    const __m256 a = _mm256_unpacklo_ps(r[0].v, r[1].v), b = _mm256_unpackhi_ps(r[0].v, r[1].v);
    const __m256 c = _mm256_unpacklo_ps(r[2].v, r[3].v), d = _mm256_unpackhi_ps(r[2].v, r[3].v);
    r[0].v = _mm256_shuffle_ps(a, c, 0x44);
    r[1].v = _mm256_shuffle_ps(a, c, 0xee);
    r[2].v = _mm256_shuffle_ps(b, d, 0x44);
    r[3].v = _mm256_shuffle_ps(b, d, 0xee);
  }

  EMOTAG_HD Avx2 lane_sums(const Avx2* r) {
    __m256 two[4], four[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      two[i] = _mm256_add_ps(_mm256_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v),
                             _mm256_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v));
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
      four[i] = _mm256_add_ps(_mm256_shuffle_ps(two[2 * i], two[2 * i + 1], 0x44),
                              _mm256_shuffle_ps(two[2 * i], two[2 * i + 1], 0xee));
    return _mm256_add_ps(_mm256_permute2f128_ps(four[0], four[1], 0x20),
                         _mm256_permute2f128_ps(four[0], four[1], 0x31));
  }

  friend EMOTAG_INLINE Avx2 operator+(Avx2 a, Avx2 b) { return _mm256_add_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx2 operator-(Avx2 a, Avx2 b) { return _mm256_sub_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx2 operator*(Avx2 a, Avx2 b) { return _mm256_mul_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx2 operator-(Avx2 a) { return _mm256_xor_ps(a.v, _mm256_set1_ps(-0.0f)); }
  friend EMOTAG_INLINE Mask operator>(Avx2 a, Avx2 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
  friend EMOTAG_INLINE Mask operator>=(Avx2 a, Avx2 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
  friend EMOTAG_INLINE Mask operator<(Avx2 a, Avx2 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
  friend EMOTAG_INLINE Mask operator<=(Avx2 a, Avx2 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
  friend EMOTAG_INLINE Avx2 fma(Avx2 a, Avx2 b, Avx2 c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
  friend EMOTAG_INLINE Avx2 fnma(Avx2 a, Avx2 b, Avx2 c) { return _mm256_fnmadd_ps(a.v, b.v, c.v); }
  friend EMOTAG_INLINE Avx2 min(Avx2 a, Avx2 b) { return _mm256_min_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx2 max(Avx2 a, Avx2 b) { return _mm256_max_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx2 either(Avx2 a, Avx2 b) { return _mm256_or_ps(a.v, b.v); }
  friend EMOTAG_INLINE unsigned signs(Avx2 a) { return static_cast<unsigned>(_mm256_movemask_ps(a.v)); }
  friend EMOTAG_INLINE Avx2 abs(Avx2 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v); }
  friend EMOTAG_INLINE Avx2 select(Mask m, Avx2 a, Avx2 b) { return _mm256_blendv_ps(b.v, a.v, m.m); }
  friend EMOTAG_INLINE Avx2 keep(Mask m, Avx2 a) { return _mm256_and_ps(m.m, a.v); }
  // Written out, because GCC makes a comparison and a mask of the intrinsic.
  friend EMOTAG_INLINE Avx2 keep_unless_negative(Avx2 sign, Avx2 a) {
    __m256 kept;
    asm("vblendvps %3, %2, %1, %0" : "=x"(kept) : "x"(a.v), "x"(_mm256_setzero_ps()), "x"(sign.v));
    return kept;
  }
  friend EMOTAG_INLINE Avx2 sqrt(Avx2 a) { return _mm256_sqrt_ps(a.v); }
  // The estimates have 12 bits; one Newton step makes them good to about 1e-7.
  friend EMOTAG_INLINE Avx2 rcp(Avx2 a) {
    const __m256 r = _mm256_rcp_ps(a.v);
    return _mm256_mul_ps(r, _mm256_fnmadd_ps(a.v, r, _mm256_set1_ps(2.0f)));
  }
  friend EMOTAG_INLINE Avx2 rsqrt_rough(Avx2 a) { return _mm256_rsqrt_ps(a.v); }
  friend EMOTAG_INLINE Avx2 rsqrt(Avx2 a) {
    const __m256 r = _mm256_rsqrt_ps(a.v);
    const __m256 half = _mm256_mul_ps(_mm256_mul_ps(a.v, r), _mm256_mul_ps(r, _mm256_set1_ps(0.5f)));
    return _mm256_mul_ps(r, _mm256_sub_ps(_mm256_set1_ps(1.5f), half));
  }
  friend EMOTAG_INLINE Avx2 truncate(Avx2 a) { return _mm256_round_ps(a.v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
  friend EMOTAG_INLINE Avx2 ceil_positive(Avx2 a) {
    return _mm256_round_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
  }
  friend EMOTAG_INLINE Avx2 scale_exponent(Avx2 y, Avx2 magic) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(y.v), _mm256_slli_epi32(_mm256_castps_si256(magic.v), 23)));
  }
};

}  // namespace emotag::simd
