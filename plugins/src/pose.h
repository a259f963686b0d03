// From controls to what skinning needs: basis coefficients and joint transforms, in double precision, once a frame.
#pragma once

#include "scene.h"

namespace emotag {

struct Pose {
  Aligned<float> coefficients;            // [expressions + 36]
  float transforms[constants::kJoints][12];  // 3×4 row-major
  Vec3<float> translation;                   // metres, added after skinning
};

// expression: (E,), pose: (5,3) axis-angle, translation: (3,) metres, added last.
void prepare_pose(const Head& head, const float* expression, const float* pose, const float* translation, Pose* out);

}  // namespace emotag
