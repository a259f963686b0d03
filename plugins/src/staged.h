// The steps of a frame one by one, in scalar code from the same headers: for tests, parity reports and training data.
#pragma once

#include "scene.h"

namespace emotag {

// Gaussians in the world, (G,3), (G,4) wxyz, (G,3); see GaussianArrays for the inputs.
void bind_gaussians(const float* vertices, const int32_t* faces, const GaussianArrays& gaussians, float* means,
                    float* quats, float* scales);

// Features (N,36) of points (N,3): planes xy, yz, xz, coarse to fine.
void hash_grid(const float* points, int count, const float* const* tables, const int32_t* offsets, float bound,
               float* features);

// Raw outputs (N,10) of the mouth network for features (N,36) and encoded audio (A,).
void mouth_network(const float* features, int count, const float* audio, const MouthArrays& mouth, float* out);

// In place, for the M mouth Gaussians: position adds, rotation composes q ⊗ unit(Δr), scale multiplies by softplus(Δs).
void apply_mouth(const int32_t* index, int count, const float* d_mu, const float* d_rot, const float* d_scale,
                 float* means, float* quats, float* scales);

}  // namespace emotag
