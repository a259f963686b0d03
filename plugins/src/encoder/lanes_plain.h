// What the encoder needs beyond simd::Plain: bytes, whole numbers, and the tile of its products. Any CPU; on x86-64
// products are added in pairs, which all of them can.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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
    for (int i = 0; i < R * kLanes; ++i) out[i] = 0;
    add_groups<R>(w, bytes, stride, p.groups, out);
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < kLanes; ++c) out[kLanes * r + c] -= zero[r] * p.sums[kLanes * panel + c];
  }

#if defined(__SSE2__)  // every x86-64 has it
  static constexpr int kBlock = 12;  // groups whose inputs are spread out at once: they stay in the nearest cache

  template <int R>
  static void add_groups(const int8_t* w, const uint8_t* bytes, int stride, int groups, int32_t* out) {
    alignas(16) __m128i pairs[kBlock * R * 8];
    for (int first = 0; first < groups; first += kBlock) {
      const int count = groups - first < kBlock ? groups - first : kBlock;
      for (int group = 0; group < count; ++group)
        for (int r = 0; r < R; ++r)
          spread_pairs(bytes + static_cast<size_t>(stride) * (first + group) + kLanes * r, pairs + 8 * (R * group + r));
      for (int quarter = 0; quarter < 4; ++quarter)
        add_quarter<R>(w + size_t{kPanelGroup} * first + kLanes * quarter, pairs, count, out + 4 * quarter);
    }
  }

  // Sixteen inputs as eight pairs of sixteen bits, each four times.
  EMOTAG_HD void spread_pairs(const uint8_t* inputs, __m128i* pairs) {
    const __m128i all = _mm_loadu_si128(reinterpret_cast<const __m128i*>(inputs)), nothing = _mm_setzero_si128();
    const __m128i half[2] = {_mm_unpacklo_epi8(all, nothing), _mm_unpackhi_epi8(all, nothing)};
    for (int i = 0; i < 2; ++i) {
      pairs[4 * i] = _mm_shuffle_epi32(half[i], 0x00);
      pairs[4 * i + 1] = _mm_shuffle_epi32(half[i], 0x55);
      pairs[4 * i + 2] = _mm_shuffle_epi32(half[i], 0xaa);
      pairs[4 * i + 3] = _mm_shuffle_epi32(half[i], 0xff);
    }
  }

  // Four columns of some groups.
  template <int R>
  EMOTAG_HD void add_quarter(const int8_t* w, const __m128i* pairs, int groups, int32_t* out) {
    __m128i total[R];
    for (int r = 0; r < R; ++r) total[r] = _mm_load_si128(reinterpret_cast<const __m128i*>(out + kLanes * r));
    for (int group = 0; group < groups; ++group, w += kPanelGroup, pairs += 8 * R)
      for (int j = 0; j < 4; ++j) {
        const __m128i four = _mm_load_si128(reinterpret_cast<const __m128i*>(w + 64 * j));
        const __m128 low = _mm_castsi128_ps(_mm_srai_epi16(_mm_unpacklo_epi8(four, four), 8));
        const __m128 high = _mm_castsi128_ps(_mm_srai_epi16(_mm_unpackhi_epi8(four, four), 8));
        const __m128i first = _mm_castps_si128(_mm_shuffle_ps(low, high, 0x88));   // inputs 0 and 1 of each column
        const __m128i second = _mm_castps_si128(_mm_shuffle_ps(low, high, 0xdd));  // inputs 2 and 3
        for (int r = 0; r < R; ++r) {
          const __m128i* pair = pairs + 8 * r + 2 * j;
          const __m128i sum = _mm_add_epi32(_mm_madd_epi16(first, pair[0]), _mm_madd_epi16(second, pair[1]));
          total[r] = _mm_add_epi32(total[r], sum);
        }
      }
    for (int r = 0; r < R; ++r) _mm_store_si128(reinterpret_cast<__m128i*>(out + kLanes * r), total[r]);
  }
#else
  template <int R>
  static void add_groups(const int8_t* w, const uint8_t* bytes, int stride, int groups, int32_t* out) {
    for (int group = 0; group < groups; ++group, w += kPanelGroup, bytes += stride)
      for (int j = 0; j < 4; ++j)
        for (int r = 0; r < R; ++r) {
          const uint8_t* q = bytes + kLanes * r + 4 * j;
          for (int c = 0; c < kLanes; ++c) {
            const int8_t* four = w + 64 * j + 4 * c;
            out[kLanes * r + c] += q[0] * four[0] + q[1] * four[1] + q[2] * four[2] + q[3] * four[3];
          }
        }
  }
#endif
};

}  // namespace emotag::encoder
