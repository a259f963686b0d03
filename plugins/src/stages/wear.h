// Before stage 2: the geometry of a frame's Gaussians with the offsets of an emotional residual.
#pragma once

#include "../frame.h"
#include "../math/gaussian.h"

namespace emotag {

// Writes one block of frame.worn: the scene's geometry with Σ_r coefficients[r]·basis[r]. Mean and colour add, a scale
// is multiplied by 1 + its offset, a quaternion adds and is normalised, the level adds and stays that of an opacity.
template <class F>
void wear_block(const Appearance& appearance, const float* coefficients, Frame& frame, int block) {
  const size_t place = static_cast<size_t>(block) * kLanes;
  const float* from = frame.scene.gaussians->geometry.data() + place * kGaussianFields;
  float* to = frame.worn.data() + place * kGaussianFields;
  const uint16_t* bases = appearance.basis.data() + place * appearance.rank * kOffsetFields;
  const float* rotation = appearance.rotation.data() + place * 4;
  const float* stored = appearance.scale.data() + place * 3;
  const F one(1.0f), opaque(constants::kOpaqueLevel);
  for (int lane = 0; lane < kLanes; lane += F::width) {
    F d[kOffsetFields];
#pragma GCC unroll 14
    for (int k = 0; k < kOffsetFields; ++k) d[k] = F(0.0f);
    for (int r = 0; r < appearance.rank; ++r) {
      const F weight(coefficients[r]);
      const uint16_t* row = bases + static_cast<size_t>(r) * kOffsetFields * kLanes + lane;
#pragma GCC unroll 14
      for (int k = 0; k < kOffsetFields; ++k) d[k] = fma(weight, F::load_half(row + k * kLanes), d[k]);
    }
#pragma GCC unroll 3
    for (int c = 0; c < 3; ++c) {
      const int mean = (kMean + c) * kLanes + lane, colour = (kColour + c) * kLanes + lane;
      F::store(to + mean, F::load(from + mean) + d[kMeanOffset + c]);
      F::store(to + colour, F::load(from + colour) + d[kColourOffset + c]);
    }
    F::store(to + kLevel * kLanes + lane, min(F::load(from + kLevel * kLanes + lane) + d[kLevelOffset], opaque));
    F q[4], scale[3], covariance[6];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) q[c] = F::load(rotation + c * kLanes + lane) + d[kTurnOffset + c];
#pragma GCC unroll 3
    for (int c = 0; c < 3; ++c) scale[c] = F::load(stored + c * kLanes + lane) * (one + d[kScaleOffset + c]);
    covariance_of(normalized(Quat<F>{q[0], q[1], q[2], q[3]}), Vec3<F>{scale[0], scale[1], scale[2]}, covariance);
#pragma GCC unroll 6
    for (int k = 0; k < 6; ++k) F::store(to + (kCovariance + k) * kLanes + lane, covariance[k]);
  }
}

}  // namespace emotag
