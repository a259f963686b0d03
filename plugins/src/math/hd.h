// What the per-element maths is written in: one source for g++ (float and SIMD vectors) and nvcc (float).
//
// A number type T is `float` or one of the vectors in simd/. Both have the operators, T(float), and the functions below.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define EMOTAG_HD static __host__ __device__ __forceinline__
#else
#define EMOTAG_HD static inline __attribute__((always_inline))
#endif
#define EMOTAG_INLINE inline __attribute__((always_inline))

namespace emotag {

EMOTAG_HD float fma(float a, float b, float c) { return a * b + c; }
EMOTAG_HD float fnma(float a, float b, float c) { return c - a * b; }
EMOTAG_HD float min(float a, float b) { return a < b ? a : b; }
EMOTAG_HD float max(float a, float b) { return a > b ? a : b; }
EMOTAG_HD float abs(float a) { return ::fabsf(a); }
EMOTAG_HD float sqrt(float a) { return ::sqrtf(a); }
EMOTAG_HD float rsqrt(float a) { return 1.0f / ::sqrtf(a); }
EMOTAG_HD float rcp(float a) { return 1.0f / a; }
EMOTAG_HD float select(bool mask, float a, float b) { return mask ? a : b; }
EMOTAG_HD float keep(bool mask, float a) { return mask ? a : 0.0f; }
EMOTAG_HD float keep_unless_negative(float sign, float a) { return sign < 0.0f ? 0.0f : a; }
EMOTAG_HD bool both(bool a, bool b) { return a && b; }
EMOTAG_HD float truncate(float a) { return ::truncf(a); }
EMOTAG_HD float ceil_positive(float a) { return ::ceilf(a); }

// y · 2^n, where n is the integer in the low mantissa bits of `magic` (see exp2_near).
EMOTAG_HD float scale_exponent(float y, float magic) {
  int32_t a, b;
  memcpy(&a, &y, sizeof a);
  memcpy(&b, &magic, sizeof b);
  a = static_cast<int32_t>(static_cast<uint32_t>(a) + (static_cast<uint32_t>(b) << 23));
  memcpy(&y, &a, sizeof y);
  return y;
}

template <class T>
struct Vec3 {
  T x, y, z;
};

template <class T>
EMOTAG_HD Vec3<T> operator+(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class T>
EMOTAG_HD Vec3<T> operator-(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class T>
EMOTAG_HD Vec3<T> operator*(const Vec3<T>& a, T s) {
  return {a.x * s, a.y * s, a.z * s};
}
template <class T>
EMOTAG_HD T dot(const Vec3<T>& a, const Vec3<T>& b) {
  return fma(a.x, b.x, fma(a.y, b.y, a.z * b.z));
}
template <class T>
EMOTAG_HD Vec3<T> cross(const Vec3<T>& a, const Vec3<T>& b) {
  return {fnma(a.z, b.y, a.y * b.z), fnma(a.x, b.z, a.z * b.x), fnma(a.y, b.x, a.x * b.y)};
}

// The row-major 3×3 matrix m times v.
template <class T>
EMOTAG_HD Vec3<T> rotate(const T* m, const Vec3<T>& v) {
  return {fma(m[0], v.x, fma(m[1], v.y, m[2] * v.z)), fma(m[3], v.x, fma(m[4], v.y, m[5] * v.z)),
          fma(m[6], v.x, fma(m[7], v.y, m[8] * v.z))};
}

}  // namespace emotag
