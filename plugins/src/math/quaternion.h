// Quaternions, wxyz.
#pragma once

#include "../constants.h"
#include "hd.h"

namespace emotag {

template <class T>
struct Quat {
  T w, x, y, z;
};

template <class T>
EMOTAG_HD Quat<T> normalized(const Quat<T>& q) {
  const T square = fma(q.w, q.w, fma(q.x, q.x, fma(q.y, q.y, q.z * q.z)));
  const T s = rsqrt(max(square, T(constants::kTiny)));
  return {q.w * s, q.x * s, q.y * s, q.z * s};
}

// Hamilton product a ⊗ b: rotate by b, then by a.
template <class T>
EMOTAG_HD Quat<T> operator*(const Quat<T>& a, const Quat<T>& b) {
  return {a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z, a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
          a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x, a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w};
}

// Row-major rotation matrix of a unit quaternion.
template <class T>
EMOTAG_HD void matrix_of(const Quat<T>& q, T* m) {
  const T two(2.0f), one(1.0f);
  m[0] = one - two * (q.y * q.y + q.z * q.z);
  m[1] = two * (q.x * q.y - q.w * q.z);
  m[2] = two * (q.x * q.z + q.w * q.y);
  m[3] = two * (q.x * q.y + q.w * q.z);
  m[4] = one - two * (q.x * q.x + q.z * q.z);
  m[5] = two * (q.y * q.z - q.w * q.x);
  m[6] = two * (q.x * q.z - q.w * q.y);
  m[7] = two * (q.y * q.z + q.w * q.x);
  m[8] = one - two * (q.x * q.x + q.y * q.y);
}

// Quaternion of the rotation with columns a0, a1, a2. The largest component comes from a square root and the others
// from a division by it, so half-turns (w near 0) lose nothing. Zero columns give the identity.
EMOTAG_HD Quat<float> quat_from_columns(const Vec3<float>& a0, const Vec3<float>& a1, const Vec3<float>& a2) {
  const float xx = a0.x, yy = a1.y, zz = a2.z, trace = xx + yy + zz;
  Quat<float> q;
  if (trace >= xx && trace >= yy && trace >= zz) {
    q = {1.0f + trace, a1.z - a2.y, a2.x - a0.z, a0.y - a1.x};
  } else if (xx >= yy && xx >= zz) {
    q = {a1.z - a2.y, 1.0f + xx - yy - zz, a0.y + a1.x, a2.x + a0.z};
  } else if (yy >= zz) {
    q = {a2.x - a0.z, a0.y + a1.x, 1.0f - xx + yy - zz, a1.z + a2.y};
  } else {
    q = {a0.y - a1.x, a2.x + a0.z, a1.z + a2.y, 1.0f - xx - yy + zz};
  }
  return normalized(q);
}

}  // namespace emotag
