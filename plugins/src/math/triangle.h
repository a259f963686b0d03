// The frame of a triangle, to which Gaussians are bound (GaussianAvatars; system eq. 7).
#pragma once

#include "../constants.h"
#include "hd.h"

namespace emotag {

template <class T>
struct TriangleFrame {
  Vec3<T> a0, a1, a2;  // columns of R: along the first edge, normal, in the plane
  T k;                 // scale: mean of the first edge and of the height on it, metres
  Vec3<T> centre;
};

// A degenerate triangle gets zero axes instead of a division by zero: its Gaussians become thin, never NaN.
template <class T>
EMOTAG_HD TriangleFrame<T> triangle_frame(const Vec3<T>& v0, const Vec3<T>& v1, const Vec3<T>& v2) {
  const Vec3<T> e0 = v1 - v0, e1 = v2 - v0;
  const T square = max(dot(e0, e0), T(constants::kTiny));
  const T inverse = rsqrt(square);
  TriangleFrame<T> f;
  f.a0 = e0 * inverse;
  const Vec3<T> normal = cross(f.a0, e1);
  f.a1 = normal * rsqrt(max(dot(normal, normal), T(constants::kTiny)));
  f.a2 = cross(f.a0, f.a1);  // -unit(a1 × a0): already of length one
  f.k = (square * inverse + abs(dot(f.a2, e1))) * T(0.5f);
  f.centre = (v0 + v1 + v2) * T(1.0f / 3.0f);
  return f;
}

}  // namespace emotag
