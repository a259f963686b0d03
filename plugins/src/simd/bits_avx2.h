// A transposition of bits that every processor with AVX2 can do.
#pragma once

#include <immintrin.h>

#include "../math/hd.h"

namespace emotag::simd {

// Bit i of bits[k] is bit k of words[i], 16 of 64 words; those from `count` on are zero or count for nothing.
EMOTAG_HD void gather_bits_avx2(const uint16_t* words, int count, uint64_t* bits) {
  const __m256i low = _mm256_set1_epi16(0xff);
  for (int half = 0; half < 2; ++half) {
    __m256i byte[2];  // the low, or the high, bytes of 32 words each
    for (int i = 0; i < 2; ++i) {
      const __m256i* from = reinterpret_cast<const __m256i*>(words) + 2 * i;
      const __m256i a = _mm256_load_si256(from), b = _mm256_load_si256(from + 1);
      const __m256i bytes = half == 0 ? _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low))
                                      : _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
      byte[i] = _mm256_permute4x64_epi64(bytes, 0xd8);
    }
    const uint64_t mask = count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
#pragma GCC unroll 8
    for (int k = 7; k >= 0; --k) {
      const uint64_t first = static_cast<uint32_t>(_mm256_movemask_epi8(byte[0]));
      const uint64_t second = static_cast<uint32_t>(_mm256_movemask_epi8(byte[1]));
      bits[8 * half + k] = (first | second << 32) & mask;
      byte[0] = _mm256_add_epi8(byte[0], byte[0]);
      byte[1] = _mm256_add_epi8(byte[1], byte[1]);
    }
  }
}

}  // namespace emotag::simd
