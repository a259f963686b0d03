// Linear blend skinning of one vertex (FLAME, eq. 1).
#pragma once

#include "../constants.h"
#include "hd.h"

namespace emotag {

// transforms: 3×4 row-major matrices of the joints, shape [joints][12]; weights: the vertex's share of each joint.
template <class T>
EMOTAG_HD Vec3<T> skin_vertex(const Vec3<T>& rest, const T* weights, const float (*transforms)[12]) {
  T m[12];
  for (int k = 0; k < 12; ++k) m[k] = weights[0] * T(transforms[0][k]);
  for (int j = 1; j < constants::kJoints; ++j)
    for (int k = 0; k < 12; ++k) m[k] = fma(weights[j], T(transforms[j][k]), m[k]);
  return {fma(m[0], rest.x, fma(m[1], rest.y, fma(m[2], rest.z, m[3]))),
          fma(m[4], rest.x, fma(m[5], rest.y, fma(m[6], rest.z, m[7]))),
          fma(m[8], rest.x, fma(m[9], rest.y, fma(m[10], rest.z, m[11])))};
}

}  // namespace emotag
