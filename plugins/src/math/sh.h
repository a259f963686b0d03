// Colour from real spherical harmonics, in the sign convention of 3DGS.
#pragma once

#include "hd.h"

namespace emotag {

constexpr int sh_coefficients(int degree) { return (degree + 1) * (degree + 1); }

// The basis of degrees 1…Degree in the unit direction d (camera to Gaussian, world axes): b[1] … b[(Degree+1)²-1].
template <int Degree, class T>
EMOTAG_HD void sh_basis(const Vec3<T>& d, T* b) {
  const T x = d.x, y = d.y, z = d.z;
  if constexpr (Degree >= 1) {
    b[1] = y * T(-0.4886025119029199f);
    b[2] = z * T(0.4886025119029199f);
    b[3] = x * T(-0.4886025119029199f);
  }
  if constexpr (Degree >= 2) {
    const T xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    b[4] = xy * T(1.0925484305920792f);
    b[5] = yz * T(-1.0925484305920792f);
    b[6] = (zz + zz - xx - yy) * T(0.31539156525252005f);
    b[7] = xz * T(-1.0925484305920792f);
    b[8] = (xx - yy) * T(0.5462742152960396f);
    if constexpr (Degree >= 3) {
      const T four_zz = T(4.0f) * zz - xx - yy;
      b[9] = y * (T(3.0f) * xx - yy) * T(-0.5900435899266435f);
      b[10] = xy * z * T(2.890611442640554f);
      b[11] = y * four_zz * T(-0.4570457994644658f);
      b[12] = z * (zz + zz - T(3.0f) * (xx + yy)) * T(0.3731763325901154f);
      b[13] = x * four_zz * T(-0.4570457994644658f);
      b[14] = z * (xx - yy) * T(1.445305721320277f);
      b[15] = x * (xx - T(3.0f) * yy) * T(-0.5900435899266435f);
    }
  }
}

// max(SH + 0.5, 0) of one channel; coefficient(k) is the k-th coefficient, dc the zeroth.
template <int Degree, class T, class Coefficient>
EMOTAG_HD T sh_colour(T dc, const T* basis, const Coefficient& coefficient) {
  T even = fma(dc, T(0.28209479177387814f), T(0.5f));
  if constexpr (Degree >= 1) {
    T odd = basis[1] * coefficient(1);
    for (int k = 2; k < sh_coefficients(Degree); k += 2) {
      even = fma(basis[k], coefficient(k), even);
      if (k + 1 < sh_coefficients(Degree)) odd = fma(basis[k + 1], coefficient(k + 1), odd);
    }
    even = even + odd;
  }
  return max(even, T(0.0f));
}

// Σ_k s[k]·∂b[k]/∂d: the gradient in the direction, where s[k] is the gradient in the k-th basis function.
template <int Degree, class T>
EMOTAG_HD Vec3<T> sh_direction_gradient(const Vec3<T>& d, const T* s) {
  const T x = d.x, y = d.y, z = d.z;
  Vec3<T> g = {T(0.0f), T(0.0f), T(0.0f)};
  if constexpr (Degree >= 1) {
    const T c(0.4886025119029199f);
    g = {-(c * s[3]), -(c * s[1]), c * s[2]};
  }
  if constexpr (Degree >= 2) {
    const T c(1.0925484305920792f), two_c6(2.0f * 0.31539156525252005f);
    const T xy = s[4] * c, yz = -(s[5] * c), xz = -(s[7] * c), zz = s[6] * two_c6, xx_yy = s[8] * c;
    g.x = g.x + xy * y + xz * z - zz * x + xx_yy * x;
    g.y = g.y + xy * x + yz * z - zz * y - xx_yy * y;
    g.z = g.z + yz * y + xz * x + (zz + zz) * z;
  }
  if constexpr (Degree >= 3) {
    const T xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
    const T three(3.0f), four(4.0f), six(6.0f), eight(8.0f), two(2.0f);
    const T a = s[9] * T(-0.5900435899266435f), b = s[10] * T(2.890611442640554f), c = s[11] * T(-0.4570457994644658f);
    const T e = s[12] * T(0.3731763325901154f), f = s[13] * T(-0.4570457994644658f);
    const T h = s[14] * T(1.445305721320277f), i = s[15] * T(-0.5900435899266435f);
    g.x = g.x + a * (six * xy) + b * yz - c * (two * xy) - e * (six * xz) + f * (four * zz - three * xx - yy) +
          h * (two * xz) + i * (three * (xx - yy));
    g.y = g.y + a * (three * (xx - yy)) + b * xz + c * (four * zz - xx - three * yy) - e * (six * yz) -
          f * (two * xy) - h * (two * yz) - i * (six * xy);
    g.z = g.z + b * xy + c * (eight * yz) + e * (six * zz - three * (xx + yy)) + f * (eight * xz) + h * (xx - yy);
  }
  return g;
}

}  // namespace emotag
