// Four floats in the portable vector type of GCC and Clang: any CPU. The reference of what a vector type offers; avx2.h and
// avx512.h offer the same.
#pragma once

#include "../math/hd.h"

namespace emotag::simd {

struct Plain {
  static constexpr int width = 4;
  typedef float Floats __attribute__((vector_size(16)));
  typedef int32_t Ints __attribute__((vector_size(16)));

  struct Mask {
    Ints m;
    friend EMOTAG_INLINE Mask both(Mask a, Mask b) { return {a.m & b.m}; }
    friend EMOTAG_INLINE unsigned bits(Mask a) {
      return (a.m[0] & 1) | (a.m[1] & 2) | (a.m[2] & 4) | (a.m[3] & 8);
    }
  };

  Floats v;
  Plain() = default;
  EMOTAG_INLINE explicit Plain(float a) : v{a, a, a, a} {}
  EMOTAG_INLINE Plain(Floats a) : v(a) {}

  EMOTAG_HD Plain load(const float* p) { return loadu(p); }
  EMOTAG_HD Plain loadu(const float* p) {
    Plain a;
    memcpy(&a.v, p, sizeof a.v);
    return a;
  }
  EMOTAG_HD void store(float* p, Plain a) { memcpy(p, &a.v, sizeof a.v); }
  EMOTAG_HD void storeu(float* p, Plain a) { store(p, a); }
  // IEEE half to float by moving the bits up and rescaling the exponent; exact for all finite values.
  EMOTAG_HD Plain load_half(const uint16_t* p) {
    const Ints h = {p[0], p[1], p[2], p[3]};
    const Ints magnitude = (h & 0x7fff) << 13;
    const Floats scaled = reinterpret<Floats>(magnitude) * 5.192296858534828e33f;  // 2^112
    return reinterpret<Floats>(reinterpret<Ints>(scaled) | ((h & 0x8000) << 16));
  }
  EMOTAG_HD Plain gather(const float* base, const int32_t* index) {
    return Floats{base[index[0]], base[index[1]], base[index[2]], base[index[3]]};
  }
  EMOTAG_HD void gather_pairs(const float* base, const int32_t* index, Plain* first, Plain* second) {
    *first = gather(base, index);
    *second = gather(base + 1, index);
  }
  EMOTAG_HD void store_int(int32_t* p, Plain a) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<int32_t>(a.v[i]);
  }
  // Two vectors of whole numbers below 2¹⁶, as sixteen bits each.
  EMOTAG_HD void store_pair(uint16_t* p, uint16_t* q, Plain a, Plain b) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<uint16_t>(a.v[i]), q[i] = static_cast<uint16_t>(b.v[i]);
  }
  // Whole numbers below 2¹⁶ as the halves of words of 32 bits; p may be anywhere.
  EMOTAG_HD void store_halves(uint32_t* p, Plain low, Plain high) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<uint32_t>(low.v[i]) | static_cast<uint32_t>(high.v[i]) << 16;
  }
  // A lane as two whole numbers of 16 bits, rounded: the lower ones and the upper ones; and two of its four bytes as numbers.
  EMOTAG_HD Plain words(Plain low, Plain high) {
    const Plain half(0.5f), most(65535.0f), a = min(low + half, most), b = min(high + half, most);
    uint32_t both[4];
    store_halves(both, a, b);
    Plain words;
    memcpy(&words.v, both, sizeof words.v);
    return words;
  }
  EMOTAG_HD Plain third_byte(Plain a) { return byte_of<2>(a); }
  EMOTAG_HD Plain fourth_byte(Plain a) { return byte_of<3>(a); }
  template <int Byte>
  EMOTAG_HD Plain byte_of(Plain a) {
    uint32_t words[4];
    memcpy(words, &a.v, sizeof words);
    Plain bytes;
    for (int i = 0; i < 4; ++i) bytes.v[i] = static_cast<float>(words[i] >> 8 * Byte & 0xffu);
    return bytes;
  }
  // Bit i of bits[k] is bit k of words[i], 16 of up to 64 words.
  EMOTAG_HD void gather_bits(const uint16_t* words, int count, uint64_t* bits) {
    for (int k = 0; k < 16; ++k) bits[k] = 0;
    for (int i = 0; i < count; ++i)
      for (unsigned word = words[i]; word != 0; word &= word - 1) bits[__builtin_ctz(word)] |= uint64_t{1} << i;
  }
  // Lane i is pixel i of a 4×4 block: rows of four.
  EMOTAG_HD Plain block_x() { return Floats{0, 1, 2, 3}; }
  EMOTAG_HD Plain block_y() { return Floats{0, 0, 0, 0}; }

  static constexpr bool has_words = false;

  // Four numbers of each row: f[k], lane i = base[Stride · index[i] + k]; and back to row(i)[k], in the order of i.
  template <int Stride>
  EMOTAG_HD void load_fours(const float* base, const int32_t* index, Plain* f) {
    for (int i = 0; i < 4; ++i) f[i] = loadu(base + static_cast<int64_t>(index[i]) * Stride);
    transpose(f);
  }
  template <class Row>
  EMOTAG_HD void store_fours(const Plain* f, const Row& row) {
    Plain rows[4] = {f[0], f[1], f[2], f[3]};
    transpose(rows);
    for (int i = 0; i < 4; ++i) store(row(i), rows[i]);
  }

  // Four elements of a, 0…3, and b, 4…7.
  template <int I, int J, int K, int L>
  EMOTAG_HD Floats pick(Floats a, Floats b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, I, J, K, L);
#else
    return __builtin_shuffle(a, b, Ints{I, J, K, L});
#endif
  }
  EMOTAG_HD void transpose(Plain* r) {
    const Floats a = r[0].v, b = r[1].v, c = r[2].v, d = r[3].v;
    const Floats ab_low = pick<0, 4, 1, 5>(a, b), ab_high = pick<2, 6, 3, 7>(a, b);
    const Floats cd_low = pick<0, 4, 1, 5>(c, d), cd_high = pick<2, 6, 3, 7>(c, d);
    r[0].v = pick<0, 1, 4, 5>(ab_low, cd_low);
    r[1].v = pick<2, 3, 6, 7>(ab_low, cd_low);
    r[2].v = pick<0, 1, 4, 5>(ab_high, cd_high);
    r[3].v = pick<2, 3, 6, 7>(ab_high, cd_high);
  }

  // Lane i is the sum over the lanes of r[i].
  EMOTAG_HD Plain lane_sums(const Plain* r) {
    Plain rows[4] = {r[0], r[1], r[2], r[3]};
    transpose(rows);
    return (rows[0] + rows[1]) + (rows[2] + rows[3]);
  }

  template <class To, class From>
  EMOTAG_HD To reinterpret(From a) {
    To b;
    memcpy(&b, &a, sizeof b);
    return b;
  }
  EMOTAG_HD Floats choose(Ints m, Floats a, Floats b) {
    return reinterpret<Floats>((m & reinterpret<Ints>(a)) | (~m & reinterpret<Ints>(b)));
  }

  friend EMOTAG_INLINE Plain operator+(Plain a, Plain b) { return a.v + b.v; }
  friend EMOTAG_INLINE Plain operator-(Plain a, Plain b) { return a.v - b.v; }
  friend EMOTAG_INLINE Plain operator*(Plain a, Plain b) { return a.v * b.v; }
  friend EMOTAG_INLINE Plain operator-(Plain a) { return -a.v; }
  friend EMOTAG_INLINE Mask operator>(Plain a, Plain b) { return {a.v > b.v}; }
  friend EMOTAG_INLINE Mask operator>=(Plain a, Plain b) { return {a.v >= b.v}; }
  friend EMOTAG_INLINE Mask operator<(Plain a, Plain b) { return {a.v < b.v}; }
  friend EMOTAG_INLINE Mask operator<=(Plain a, Plain b) { return {a.v <= b.v}; }
  friend EMOTAG_INLINE Plain fma(Plain a, Plain b, Plain c) { return a.v * b.v + c.v; }
  friend EMOTAG_INLINE Plain fnma(Plain a, Plain b, Plain c) { return c.v - a.v * b.v; }
  friend EMOTAG_INLINE Plain min(Plain a, Plain b) { return choose(a.v < b.v, a.v, b.v); }
  friend EMOTAG_INLINE Plain max(Plain a, Plain b) { return choose(a.v > b.v, a.v, b.v); }
  // The bits of one or of the other: with -0, a number's negative.
  friend EMOTAG_INLINE Plain either(Plain a, Plain b) {
    return reinterpret<Floats>(reinterpret<Ints>(a.v) | reinterpret<Ints>(b.v));
  }
  // One bit a lane: whether its sign is set.
  friend EMOTAG_INLINE unsigned signs(Plain a) { return bits(Mask{reinterpret<Ints>(a.v) >> 31}); }
  friend EMOTAG_INLINE Plain abs(Plain a) { return max(a, -a); }
  friend EMOTAG_INLINE Plain select(Mask m, Plain a, Plain b) { return choose(m.m, a.v, b.v); }
  friend EMOTAG_INLINE Plain keep(Mask m, Plain a) { return reinterpret<Floats>(m.m & reinterpret<Ints>(a.v)); }
  friend EMOTAG_INLINE Plain keep_unless_negative(Plain sign, Plain a) {
    return reinterpret<Floats>(~(reinterpret<Ints>(sign.v) >> 31) & reinterpret<Ints>(a.v));
  }
  friend EMOTAG_INLINE Plain sqrt(Plain a) {
    return Floats{__builtin_sqrtf(a.v[0]), __builtin_sqrtf(a.v[1]), __builtin_sqrtf(a.v[2]), __builtin_sqrtf(a.v[3])};
  }
  friend EMOTAG_INLINE Plain rcp(Plain a) { return 1.0f / a.v; }
  friend EMOTAG_INLINE Plain rsqrt(Plain a) { return 1.0f / sqrt(a).v; }
  friend EMOTAG_INLINE Plain rsqrt_rough(Plain a) { return rsqrt(a); }
  friend EMOTAG_INLINE Plain truncate(Plain a) {
    return __builtin_convertvector(__builtin_convertvector(a.v, Ints), Floats);
  }
  friend EMOTAG_INLINE Plain ceil_positive(Plain a) {
    const Plain t = truncate(a);
    return t.v + choose(t.v < a.v, Floats{1, 1, 1, 1}, Floats{});
  }
  friend EMOTAG_INLINE Plain scale_exponent(Plain y, Plain magic) {
    return reinterpret<Floats>(reinterpret<Ints>(y.v) + (reinterpret<Ints>(magic.v) << 23));
  }
};

}  // namespace emotag::simd
