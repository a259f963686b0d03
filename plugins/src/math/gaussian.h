// A Gaussian: its covariance, and its projection to the picture (EWA, as in 3DGS).
#pragma once

#include "../constants.h"
#include "hd.h"
#include "quaternion.h"

namespace emotag {

EMOTAG_HD float softplus(float x) { return x > 20.0f ? x : ::log1pf(::expf(x)); }

// The same for vectors, to a relative error of 4e-6: log(1 + z) = 2·artanh(z / (2 + z)), z = e^-|x|.
template <class T>
EMOTAG_HD T softplus_of(T x) {
  const T shift(12582912.0f), power = max(abs(x) * T(-constants::kLog2e), T(-100.0f));
  const T magic = power + shift, f = power - (magic - shift);  // as alpha_of
  const T high = fma(fma(T(0.0095701f), f, T(0.05591786f)), f, T(0.24024745f));
  const T z = scale_exponent(fma(fma(high, f, T(0.69312181f)), f, T(0.99999926f)), magic);
  const T s = z * rcp(z + T(2.0f)), square = s * s;
  const T tail = fma(fma(fma(square, T(1.0f / 9.0f), T(1.0f / 7.0f)), square, T(0.2f)), square, T(1.0f / 3.0f));
  return max(x, T(0.0f)) + (s + s) * fma(tail, square, T(1.0f));
}

// Upper triangle (xx xy xz yy yz zz) of Q·diag(s²)·Qᵀ.
template <class T>
EMOTAG_HD void covariance_of(const Quat<T>& unit, const Vec3<T>& scale, T* c) {
  T q[9];
  matrix_of(unit, q);
  const T sx = scale.x * scale.x, sy = scale.y * scale.y, sz = scale.z * scale.z;
  int k = 0;
  for (int i = 0; i < 3; ++i)
    for (int j = i; j < 3; ++j)
      c[k++] = q[3 * i] * sx * q[3 * j] + q[3 * i + 1] * sy * q[3 * j + 1] + q[3 * i + 2] * sz * q[3 * j + 2];
}

// Camera as the projection needs it. limit = 1.3·tan(fov/2).
struct Pinhole {
  float fx, fy, cx, cy, limit_x, limit_y, width, height;
};

// An ellipse on the picture: 255·alpha = 2^(level + qa·dx² + qb·dx·dy + qc·dy²), d = pixel - (u, v).
template <class T>
struct Splat {
  T u, v, qa, qb, qc;
  T half_x, half_y;      // half extent of the ellipse where alpha is the alpha cut, pixels
  T tile_x0, tile_y0, tile_x1, tile_y1;  // inclusive tile rectangle
};

// The first and last tile, along one axis, of the ellipse [centre ± half] within the 3σ square [centre ± radius].
template <class T>
EMOTAG_HD auto tile_range(T centre, T half, T radius, float size, T* first, T* last) {
  const T zero(0.0f), limit(size - 1.0f), tile(1.0f / constants::kTile);
  const T high = min(centre + half, centre + radius - T(1.0f));
  const T low = min(max(max(ceil_positive(max(centre - half, zero)), centre - radius), zero), T(size));
  *first = truncate(low * tile);
  *last = truncate(min(max(high, zero), limit) * tile);
  return both(both(high >= zero, low <= limit), *first <= *last);
}

// Projects one Gaussian. mean: camera space; m: row-major 3×3 that takes its local axes to camera space; c: its local
// covariance; level: log2(255·opacity). Returns whether it touches the picture (false as well for anything that is not a number).
template <class T>
EMOTAG_HD auto project(const Vec3<T>& mean, const T* m, const T* c, T level, const Pinhole& cam, Splat<T>* s) {
  const T inverse_z = rcp(mean.z), xz = mean.x * inverse_z, yz = mean.y * inverse_z;
  const T jx = T(cam.fx) * inverse_z, jy = T(cam.fy) * inverse_z;
  const T cx = min(max(xz, T(-cam.limit_x)), T(cam.limit_x)), cy = min(max(yz, T(-cam.limit_y)), T(cam.limit_y));
  const Vec3<T> row_x = {jx * fnma(cx, m[6], m[0]), jx * fnma(cx, m[7], m[1]), jx * fnma(cx, m[8], m[2])};
  const Vec3<T> row_y = {jy * fnma(cy, m[6], m[3]), jy * fnma(cy, m[7], m[4]), jy * fnma(cy, m[8], m[5])};
  const T full[9] = {c[0], c[1], c[2], c[1], c[3], c[4], c[2], c[4], c[5]};
  const Vec3<T> cov_x = rotate(full, row_x), cov_y = rotate(full, row_y);
  const T low_pass(constants::kLowPass);
  const T a = dot(row_x, cov_x) + low_pass, b = dot(row_y, cov_x), d = dot(row_y, cov_y) + low_pass;
  const T determinant = fnma(b, b, a * d), inverse = rcp(determinant);
  s->qa = d * inverse * T(-0.5f * constants::kLog2e);
  s->qb = b * inverse * T(constants::kLog2e);
  s->qc = a * inverse * T(-0.5f * constants::kLog2e);
  s->u = fma(T(cam.fx), xz, T(cam.cx - 0.5f));
  s->v = fma(T(cam.fy), yz, T(cam.cy - 0.5f));

  // The ellipse of the alpha cut: its squared radius, in standard deviations, is 2·ln(255·opacity).
  const T cut = level * T(2.0f / constants::kLog2e);
  s->half_x = sqrt(max(cut * a, T(0.0f)));
  s->half_y = sqrt(max(cut * d, T(0.0f)));
  const T mid = (a + d) * T(0.5f);
  const T largest = mid + sqrt(max(fma(mid, mid, -determinant), T(0.1f)));
  const T radius = ceil_positive(min(sqrt(largest) * T(constants::kExtentSigmas), T(1e6f)));
  const auto on_x = tile_range(s->u, s->half_x, radius, cam.width, &s->tile_x0, &s->tile_x1);
  const auto on_y = tile_range(s->v, s->half_y, radius, cam.height, &s->tile_y0, &s->tile_y1);
  const auto drawable = both(both(mean.z > T(constants::kNear), cut > T(0.0f)),
                             both(determinant > T(0.0f), determinant < T(1e30f)));
  return both(drawable, both(on_x, on_y));
}

}  // namespace emotag
