// Sixteen floats: AVX-512 F, BW, DQ, VL.
#pragma once

#include <immintrin.h>

#include "../math/hd.h"
#include "bits_avx2.h"
#include "words.h"

namespace emotag::simd {

struct Avx512 {
  static constexpr int width = 16;
  static constexpr __mmask32 kUpper = 0xaaaaaaaau;  // words

  struct Mask {
    __mmask16 m;
    friend EMOTAG_INLINE Mask both(Mask a, Mask b) { return {static_cast<__mmask16>(a.m & b.m)}; }
    friend EMOTAG_INLINE unsigned bits(Mask a) { return a.m; }
  };

  __m512 v;
  Avx512() = default;
  EMOTAG_INLINE explicit Avx512(float a) : v(_mm512_set1_ps(a)) {}
  EMOTAG_INLINE Avx512(__m512 a) : v(a) {}

  EMOTAG_HD Avx512 load(const float* p) { return _mm512_load_ps(p); }
  EMOTAG_HD Avx512 loadu(const float* p) { return _mm512_loadu_ps(p); }
  EMOTAG_HD void store(float* p, Avx512 a) { _mm512_store_ps(p, a.v); }
  EMOTAG_HD void storeu(float* p, Avx512 a) { _mm512_storeu_ps(p, a.v); }
  EMOTAG_HD Avx512 load_half(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
  }
  EMOTAG_HD Avx512 gather(const float* base, const int32_t* index) {
    return _mm512_i32gather_ps(_mm512_loadu_si512(index), base, 4);
  }
  EMOTAG_HD void gather_pairs(const float* base, const int32_t* index, Avx512* first, Avx512* second) {
    *first = gather(base, index);
    *second = gather(base + 1, index);
  }
  EMOTAG_HD void store_int(int32_t* p, Avx512 a) { _mm512_store_si512(p, _mm512_cvttps_epi32(a.v)); }
  EMOTAG_HD void store_pair(uint16_t* p, uint16_t* q, Avx512 a, Avx512 b) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvttps_epi32(a.v)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(q), _mm512_cvtepi32_epi16(_mm512_cvttps_epi32(b.v)));
  }
  EMOTAG_HD void store_halves(uint32_t* p, Avx512 low, Avx512 high) {
    const __m512i upper = _mm512_slli_epi32(_mm512_cvttps_epi32(high.v), 16);
    _mm512_storeu_si512(p, _mm512_or_si512(_mm512_cvttps_epi32(low.v), upper));
  }
  EMOTAG_HD Avx512 words(Avx512 low, Avx512 high) {
    const __m512i upper = _mm512_slli_epi32(_mm512_cvtps_epi32(high.v), 16);
    return _mm512_castsi512_ps(_mm512_mask_blend_epi16(kUpper, _mm512_cvtps_epi32(low.v), upper));
  }
  EMOTAG_HD void store_low_twice(int32_t* p, Avx512 a) {
    const __m512i i = _mm512_castps_si512(a.v);
    _mm512_store_si512(p, _mm512_mask_blend_epi16(kUpper, i, _mm512_slli_epi32(i, 16)));
  }
  EMOTAG_HD void store_high_twice(int32_t* p, Avx512 a) {
    const __m512i i = _mm512_castps_si512(a.v);
    _mm512_store_si512(p, _mm512_mask_blend_epi16(kUpper, _mm512_srli_epi32(i, 16), i));
  }
  EMOTAG_HD Avx512 third_byte(Avx512 a) {
    const __m512i upper = _mm512_srli_epi32(_mm512_castps_si512(a.v), 16);
    return _mm512_cvtepi32_ps(_mm512_and_si512(upper, _mm512_set1_epi32(0xff)));
  }
  EMOTAG_HD Avx512 fourth_byte(Avx512 a) { return _mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_castps_si512(a.v), 24)); }
  EMOTAG_HD void gather_bits(const uint16_t* words, int count, uint64_t* bits) { gather_bits_avx2(words, count, bits); }
  EMOTAG_HD Avx512 block_x() { return _mm512_setr_ps(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3); }
  EMOTAG_HD Avx512 block_y() { return _mm512_setr_ps(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3); }

  using Words = simd::Words;
  static constexpr bool has_words = true;
  EMOTAG_HD Words to_words(const Avx512* r) {
    return _mm512_cvtusepi32_epi16(_mm512_max_epi32(_mm512_cvtps_epi32(r[0].v), _mm512_setzero_si512()));
  }
  EMOTAG_HD Avx512 word_y(int) { return block_y(); }
  EMOTAG_HD Avx512 load_words(const int16_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(p))));
  }
  EMOTAG_HD void store_words(int16_t* p, Avx512 a) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(a.v)));
  }

  // As Avx2's, by quarters of a register.
  template <int Stride>
  EMOTAG_HD void load_fours(const float* base, const int32_t* index, Avx512* f) {
    const auto row = [&](int i) { return _mm_load_ps(base + static_cast<int64_t>(index[i]) * Stride); };
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __m512 rows = _mm512_castps128_ps512(row(i));
      rows = _mm512_insertf32x4(rows, row(4 + i), 1);
      rows = _mm512_insertf32x4(rows, row(8 + i), 2);
      f[i].v = _mm512_insertf32x4(rows, row(12 + i), 3);
    }
    transpose_fours(f);
  }
  template <class Row>
  EMOTAG_HD void store_fours(const Avx512* f, const Row& row) {
    Avx512 rows[4] = {f[0], f[1], f[2], f[3]};
    transpose_fours(rows);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm_store_ps(row(i), _mm512_castps512_ps128(rows[i].v));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm_store_ps(row(4 + i), _mm512_extractf32x4_ps(rows[i].v, 1));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm_store_ps(row(8 + i), _mm512_extractf32x4_ps(rows[i].v, 2));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm_store_ps(row(12 + i), _mm512_extractf32x4_ps(rows[i].v, 3));
  }
  EMOTAG_HD void transpose_fours(Avx512* r) {
    const __m512 a = _mm512_unpacklo_ps(r[0].v, r[1].v), b = _mm512_unpackhi_ps(r[0].v, r[1].v);
    const __m512 c = _mm512_unpacklo_ps(r[2].v, r[3].v), d = _mm512_unpackhi_ps(r[2].v, r[3].v);
    r[0].v = _mm512_shuffle_ps(a, c, 0x44);
    r[1].v = _mm512_shuffle_ps(a, c, 0xee);
    r[2].v = _mm512_shuffle_ps(b, d, 0x44);
    r[3].v = _mm512_shuffle_ps(b, d, 0xee);
  }

  EMOTAG_HD Avx512 lane_sums(const Avx512* r) {
    __m512 four[4], eight[2];  // four[i], lane 4q + k: the sum over quarter q of r[4i + k]
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(r[4 * i].v, r[4 * i + 1].v),
                                     _mm512_unpackhi_ps(r[4 * i].v, r[4 * i + 1].v));
      const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(r[4 * i + 2].v, r[4 * i + 3].v),
                                     _mm512_unpackhi_ps(r[4 * i + 2].v, r[4 * i + 3].v));
      four[i] = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
      eight[i] = _mm512_add_ps(_mm512_shuffle_f32x4(four[2 * i], four[2 * i + 1], 0x88),
                               _mm512_shuffle_f32x4(four[2 * i], four[2 * i + 1], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(eight[0], eight[1], 0x88),
                         _mm512_shuffle_f32x4(eight[0], eight[1], 0xdd));
  }

  friend EMOTAG_INLINE Avx512 operator+(Avx512 a, Avx512 b) { return _mm512_add_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx512 operator-(Avx512 a, Avx512 b) { return _mm512_sub_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx512 operator*(Avx512 a, Avx512 b) { return _mm512_mul_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx512 operator-(Avx512 a) { return _mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f)); }
  friend EMOTAG_INLINE Mask operator>(Avx512 a, Avx512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
  friend EMOTAG_INLINE Mask operator>=(Avx512 a, Avx512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
  friend EMOTAG_INLINE Mask operator<(Avx512 a, Avx512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
  friend EMOTAG_INLINE Mask operator<=(Avx512 a, Avx512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
  friend EMOTAG_INLINE Avx512 fma(Avx512 a, Avx512 b, Avx512 c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
  friend EMOTAG_INLINE Avx512 fnma(Avx512 a, Avx512 b, Avx512 c) { return _mm512_fnmadd_ps(a.v, b.v, c.v); }
  friend EMOTAG_INLINE Avx512 min(Avx512 a, Avx512 b) { return _mm512_min_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx512 max(Avx512 a, Avx512 b) { return _mm512_max_ps(a.v, b.v); }
  friend EMOTAG_INLINE Avx512 either(Avx512 a, Avx512 b) { return _mm512_or_ps(a.v, b.v); }
  friend EMOTAG_INLINE unsigned signs(Avx512 a) { return _mm512_movepi32_mask(_mm512_castps_si512(a.v)); }
  friend EMOTAG_INLINE Avx512 abs(Avx512 a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v); }
  friend EMOTAG_INLINE Avx512 select(Mask m, Avx512 a, Avx512 b) { return _mm512_mask_blend_ps(m.m, b.v, a.v); }
  friend EMOTAG_INLINE Avx512 keep(Mask m, Avx512 a) { return _mm512_maskz_mov_ps(m.m, a.v); }
  friend EMOTAG_INLINE Avx512 keep_unless_negative(Avx512 sign, Avx512 a) {
    return _mm512_mask_mov_ps(a.v, _mm512_movepi32_mask(_mm512_castps_si512(sign.v)), _mm512_setzero_ps());
  }
  friend EMOTAG_INLINE Avx512 sqrt(Avx512 a) { return _mm512_sqrt_ps(a.v); }
  // The estimates have 14 bits; one Newton step makes them good to about 1e-7.
  friend EMOTAG_INLINE Avx512 rcp(Avx512 a) {
    const __m512 r = _mm512_rcp14_ps(a.v);
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(2.0f)));
  }
  friend EMOTAG_INLINE Avx512 rsqrt_rough(Avx512 a) { return _mm512_rsqrt14_ps(a.v); }
  friend EMOTAG_INLINE Avx512 rsqrt(Avx512 a) {
    const __m512 r = _mm512_rsqrt14_ps(a.v);
    const __m512 half = _mm512_mul_ps(_mm512_mul_ps(a.v, r), _mm512_mul_ps(r, _mm512_set1_ps(0.5f)));
    return _mm512_mul_ps(r, _mm512_sub_ps(_mm512_set1_ps(1.5f), half));
  }
  friend EMOTAG_INLINE Avx512 truncate(Avx512 a) {
    return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
  }
  friend EMOTAG_INLINE Avx512 ceil_positive(Avx512 a) {
    return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
  }
  friend EMOTAG_INLINE Avx512 scale_exponent(Avx512 y, Avx512 magic) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(y.v), _mm512_slli_epi32(_mm512_castps_si512(magic.v), 23)));
  }
};

}  // namespace emotag::simd
