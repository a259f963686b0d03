// Gradients of a Gaussian's projection and covariance (reverse mode of gaussian.h).
#pragma once

#include "gaussian.h"

namespace emotag {

// Σ over pixels of e, e·dx, e·dy, e·dx², e·dx·dy, e·dy², where e = alpha·∂loss/∂alpha and d = pixel - (u, v).
template <class T>
struct Moments {
  T one, x, y, xx, xy, yy;
};

template <class T>
struct ProjectionGradient {
  T u, v;             // of the projected mean, pixels
  Vec3<T> mean;       // camera space
  T covariance[6];    // as covariance_of; an off-diagonal element stands for both
};

// The gradient of `project` for the splat s that it made of the same mean, m and c.
template <class T>
EMOTAG_HD ProjectionGradient<T> project_gradient(const Vec3<T>& mean, const T* m, const T* c, const Pinhole& cam,
                                                 const Splat<T>& s, const Moments<T>& e) {
  ProjectionGradient<T> g;
  const T ln2(1.0f / constants::kLog2e), two(2.0f), half(0.5f);
  g.u = -(ln2 * fma(two * s.qa, e.x, s.qb * e.y));
  g.v = -(ln2 * fma(two * s.qc, e.y, s.qb * e.x));

  // Of the conic (p, q, r), and of the projected covariance (a, b, d), its inverse.
  const T p = s.qa * (-two * ln2), q = -(s.qb * ln2), r = s.qc * (-two * ln2);
  const T gp = -half * e.xx, gq = -e.xy, gr = -half * e.yy;
  const T ga = -(p * p * gp + p * q * gq + q * q * gr);
  const T gd = -(q * q * gp + q * r * gq + r * r * gr);
  const T gb = -(two * p * q * gp + fma(p, r, q * q) * gq + two * q * r * gr);

  const T inverse_z = rcp(mean.z), xz = mean.x * inverse_z, yz = mean.y * inverse_z;
  const T jx = T(cam.fx) * inverse_z, jy = T(cam.fy) * inverse_z;
  const T limit_x(cam.limit_x), limit_y(cam.limit_y);
  const T cx = min(max(xz, -limit_x), limit_x), cy = min(max(yz, -limit_y), limit_y);
  const Vec3<T> row_x = {jx * fnma(cx, m[6], m[0]), jx * fnma(cx, m[7], m[1]), jx * fnma(cx, m[8], m[2])};
  const Vec3<T> row_y = {jy * fnma(cy, m[6], m[3]), jy * fnma(cy, m[7], m[4]), jy * fnma(cy, m[8], m[5])};
  const T full[9] = {c[0], c[1], c[2], c[1], c[3], c[4], c[2], c[4], c[5]};
  const Vec3<T> cov_x = rotate(full, row_x), cov_y = rotate(full, row_y);
  const Vec3<T> grad_x = cov_x * (two * ga) + cov_y * gb, grad_y = cov_y * (two * gd) + cov_x * gb;

  const T ux[3] = {row_x.x, row_x.y, row_x.z}, uy[3] = {row_y.x, row_y.y, row_y.z};
  int k = 0;
  for (int i = 0; i < 3; ++i)
    for (int j = i; j < 3; ++j) {
      const T one = ga * ux[i] * ux[j] + gd * uy[i] * uy[j] + half * gb * (ux[i] * uy[j] + ux[j] * uy[i]);
      g.covariance[k++] = i == j ? one : two * one;
    }

  const Vec3<T> depth = {m[6], m[7], m[8]};
  const T inside_x = select(both(xz > -limit_x, xz < limit_x), T(1.0f), T(0.0f));
  const T inside_y = select(both(yz > -limit_y, yz < limit_y), T(1.0f), T(0.0f));
  const T gxz = fma(T(cam.fx), g.u, -(inside_x * jx * dot(grad_x, depth)));
  const T gyz = fma(T(cam.fy), g.v, -(inside_y * jy * dot(grad_y, depth)));
  g.mean.x = gxz * inverse_z;
  g.mean.y = gyz * inverse_z;
  g.mean.z = -(inverse_z * (gxz * xz + gyz * yz + dot(grad_x, row_x) + dot(grad_y, row_y)));
  return g;
}

// The gradient of covariance_of(normalized(quat), scale), given that of the covariance's six elements.
template <class T>
EMOTAG_HD void covariance_gradient(const Quat<T>& quat, const Vec3<T>& scale, const T* g, Quat<T>* to_quat,
                                   Vec3<T>* to_scale) {
  const T square = fma(quat.w, quat.w, fma(quat.x, quat.x, fma(quat.y, quat.y, quat.z * quat.z)));
  const T inverse = rsqrt(max(square, T(constants::kTiny)));
  const Quat<T> n = {quat.w * inverse, quat.x * inverse, quat.y * inverse, quat.z * inverse};
  T m[9], d[9];  // the rotation, and its gradient
  matrix_of(n, m);
  const T s[3] = {scale.x, scale.y, scale.z};
  T gs[3];
  const T full[9] = {g[0] + g[0], g[1], g[2], g[1], g[3] + g[3], g[4], g[2], g[4], g[5] + g[5]};
  for (int j = 0; j < 3; ++j) {
    const Vec3<T> column = rotate(full, Vec3<T>{m[j], m[3 + j], m[6 + j]}) * s[j];
    gs[j] = fma(m[j], column.x, fma(m[3 + j], column.y, m[6 + j] * column.z));
    d[j] = column.x * s[j];
    d[3 + j] = column.y * s[j];
    d[6 + j] = column.z * s[j];
  }
  *to_scale = {gs[0], gs[1], gs[2]};
  const T two(2.0f);
  const T xy = d[1] + d[3], xz = d[2] + d[6], yz = d[5] + d[7];
  const T wx = d[7] - d[5], wy = d[2] - d[6], wz = d[3] - d[1];
  const Quat<T> u = {two * (n.x * wx + n.y * wy + n.z * wz),
                     two * (n.y * xy + n.z * xz + n.w * wx - two * n.x * (d[4] + d[8])),
                     two * (n.x * xy + n.z * yz + n.w * wy - two * n.y * (d[0] + d[8])),
                     two * (n.x * xz + n.y * yz + n.w * wz - two * n.z * (d[0] + d[4]))};
  const T along = n.w * u.w + n.x * u.x + n.y * u.y + n.z * u.z;  // turning has no component along the quaternion
  *to_quat = {(u.w - n.w * along) * inverse, (u.x - n.x * along) * inverse, (u.y - n.y * along) * inverse,
              (u.z - n.z * along) * inverse};
}

}  // namespace emotag
