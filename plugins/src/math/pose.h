// Joints: from axis-angle to affine transforms, in double precision.
#pragma once

#include "hd.h"

namespace emotag {

// Rodrigues: axis-angle to a row-major rotation, by series near zero so that it is smooth there.
EMOTAG_HD void rotation_of(const float* axis_angle, double* r) {
  const double x = axis_angle[0], y = axis_angle[1], z = axis_angle[2];
  const double square = x * x + y * y + z * z, angle = ::sqrt(square);
  const double a = angle < 1e-4 ? 1.0 - square / 6.0 : ::sin(angle) / angle;
  const double b = angle < 1e-4 ? 0.5 - square / 24.0 : (1.0 - ::cos(angle)) / square;
  const double c = 1.0 - b * square;
  const double m[9] = {c + b * x * x,     b * x * y - a * z, b * x * z + a * y, b * x * y + a * z, c + b * y * y,
                       b * y * z - a * x, b * x * z - a * y, b * y * z + a * x, c + b * z * z};
  for (int k = 0; k < 9; ++k) r[k] = m[k];
}

// The affine 3×4 matrix that turns by r about a joint: x → R(x - J) + J.
EMOTAG_HD void turn_about(const double* r, const double* joint, double* out) {
  for (int row = 0; row < 3; ++row) {
    out[4 * row + 3] = joint[row];
    for (int k = 0; k < 3; ++k) {
      out[4 * row + k] = r[3 * row + k];
      out[4 * row + 3] -= r[3 * row + k] * joint[k];
    }
  }
}

// out = a · b for 3×4 affine matrices.
EMOTAG_HD void compose(const double* a, const double* b, double* out) {
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 4; ++c) {
      double sum = c == 3 ? a[4 * r + 3] : 0.0;
      for (int k = 0; k < 3; ++k) sum += a[4 * r + k] * b[4 * k + c];
      out[4 * r + c] = sum;
    }
}

}  // namespace emotag
