#include "pose.h"

#include <algorithm>

#include "math/pose.h"

namespace emotag {

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
    turn_about(r, joints + 3 * j, local);
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
