#include "pose.h"

#include <algorithm>
#include <cmath>

namespace emotag {
namespace {

// Rodrigues: axis-angle to a row-major rotation, by series near zero so that it is smooth there.
void rotation_of(const float* axis_angle, double* r) {
  const double x = axis_angle[0], y = axis_angle[1], z = axis_angle[2];
  const double square = x * x + y * y + z * z, angle = std::sqrt(square);
  const double a = angle < 1e-4 ? 1.0 - square / 6.0 : std::sin(angle) / angle;
  const double b = angle < 1e-4 ? 0.5 - square / 24.0 : (1.0 - std::cos(angle)) / square;
  const double c = 1.0 - b * square;
  const double m[9] = {c + b * x * x,     b * x * y - a * z, b * x * z + a * y, b * x * y + a * z, c + b * y * y,
                       b * y * z - a * x, b * x * z - a * y, b * y * z + a * x, c + b * z * z};
  std::copy(m, m + 9, r);
}

// out = a · b for 3×4 affine matrices.
void compose(const double* a, const double* b, double* out) {
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 4; ++c) {
      double sum = c == 3 ? a[4 * r + 3] : 0.0;
      for (int k = 0; k < 3; ++k) sum += a[4 * r + k] * b[4 * k + c];
      out[4 * r + c] = sum;
    }
}

}  // namespace

void prepare_pose(const Head& head, const float* expression, const float* pose, const float* translation, Pose* out) {
  using constants::kJoints;
  out->coefficients.reserve(head.expressions + constants::kPoseFeatures);
  std::copy(expression, expression + head.expressions, out->coefficients.data());
  double joints[3 * kJoints];
  std::copy(head.joints.begin(), head.joints.end(), joints);
  for (int e = 0; e < head.expressions; ++e)
    for (int k = 0; k < 3 * kJoints; ++k)
      joints[k] += static_cast<double>(expression[e]) * head.joint_expression_basis[e * 3 * kJoints + k];

  double world[kJoints][12];
  for (int j = 0; j < kJoints; ++j) {
    double r[9], local[12];
    rotation_of(pose + 3 * j, r);
    if (j > 0)
      for (int k = 0; k < 9; ++k)
        out->coefficients[head.expressions + 9 * (j - 1) + k] = static_cast<float>(r[k] - (k % 4 == 0 ? 1.0 : 0.0));
    for (int row = 0; row < 3; ++row) {  // turn about the joint: x → R(x - J) + J
      local[4 * row + 3] = joints[3 * j + row];
      for (int k = 0; k < 3; ++k) {
        local[4 * row + k] = r[3 * row + k];
        local[4 * row + 3] -= r[3 * row + k] * joints[3 * j + k];
      }
    }
    if (head.parents[j] < 0) {
      std::copy(local, local + 12, world[j]);
    } else {
      compose(world[head.parents[j]], local, world[j]);
    }
  }
  for (int j = 0; j < kJoints; ++j)
    for (int k = 0; k < 12; ++k)
      out->transforms[j][k] = static_cast<float>(world[j][k]);
  out->translation = {translation[0], translation[1], translation[2]};
}

}  // namespace emotag
