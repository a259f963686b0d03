// Stage 2: the offsets of the mouth Gaussians. The audio's share of the first layer is the same for all of them.
#pragma once

#include "../frame.h"
#include "../math/gaussian.h"
#include "../simd/records.h"
#include "project.h"

namespace emotag {

constexpr int kBatch = kLanes;  // Gaussians that go through the network together: one block

// out[o] = start[o] + Σ_i weights[o][i]·in[i] for a batch; activations are [channel][16]. Together outputs share what is
// loaded of the inputs.
template <class F, int Together, bool Relu>
static EMOTAG_INLINE void dense(const float* weights, const float* start, const float (*in)[kBatch], int inputs,
                                float (*out)[kBatch], int outputs) {
  constexpr int kVectors = kBatch / F::width;
  for (int o = 0; o < outputs; o += Together) {
    F sum[Together][kVectors];
#pragma GCC unroll 8
    for (int t = 0; t < Together; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[t][v] = F(start == nullptr ? 0.0f : start[o + t]);
    for (int i = 0; i < inputs; ++i) {
      F x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) x[v] = F::load(in[i] + v * F::width);
#pragma GCC unroll 8
      for (int t = 0; t < Together; ++t) {
        const F weight(weights[(o + t) * inputs + i]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[t][v] = fma(weight, x[v], sum[t][v]);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < Together; ++t)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        F::store(out[o + t] + v * F::width, Relu ? max(sum[t][v], F(0.0f)) : sum[t][v]);
  }
}

// One mouth block: world positions in, the ten raw outputs of the network out, [channel][16].
template <class F>
static EMOTAG_INLINE void mouth_network(const Mouth& mouth, const float* audio, const float (*position)[kBatch],
                                        float (*out)[kBatch]) {
  using namespace constants;
  constexpr int kTogether = F::width / 2;  // eight sums, whatever the width
  alignas(64) float grid[kGridFeatures][kBatch], a[kMouthHidden][kBatch], b[kMouthHidden][kBatch];
  const int planes[kGridPlanes][2] = {{0, 1}, {1, 2}, {0, 2}};
  const F inverse(0.5f / mouth.bound), half(0.5f);
  for (int i = 0; i < kBatch; i += F::width) {
    F unit[3];
    for (int c = 0; c < 3; ++c) unit[c] = fma(F::load(position[c] + i), inverse, half);
    for (int p = 0; p < kGridPlanes; ++p)
      for (int l = 0; l < kGridLevels; ++l)
        F::store(grid[p * kGridLevels + l] + i,
                 grid_lookup_of(mouth.tables[p].data(), mouth.levels[l], unit[planes[p][0]], unit[planes[p][1]]));
  }
  dense<F, kTogether, true>(mouth.grid_layer.data(), audio, grid, kGridFeatures, a, kMouthHidden);
  dense<F, kTogether, true>(mouth.hidden_layer.data(), nullptr, a, kMouthHidden, b, kMouthHidden);
  dense<F, 2, false>(mouth.head.data(), mouth.bias.data(), b, kMouthHidden, out, kMouthOutputs);
}

// Writes geometry and offset of mouth block `block`.
template <class F>
void mouth_block(Frame& frame, int block) {
  using namespace constants;
  const Gaussians& g = *frame.scene.gaussians;
  const Mouth& mouth = *frame.scene.mouth;
  const size_t place = static_cast<size_t>(g.mouth_begin + block);
  const float* from = frame.geometry + place * kGaussianFields * kLanes;
  float* geometry = frame.mouth_geometry.data() + static_cast<size_t>(block) * kGaussianFields * kLanes;
  float* offset = frame.mouth_offset.data() + static_cast<size_t>(block) * 3 * kLanes;
  memcpy(geometry, from, kGaussianFields * kLanes * sizeof(float));

  F view[9], back[9];
  for (int k = 0; k < 9; ++k) view[k] = F(frame.view.rotation[k]), back[k] = F(frame.view.rotation[k % 3 * 3 + k / 3]);
  const float* t = frame.view.translation;
  const Vec3<F> translation = {F(t[0]), F(t[1]), F(t[2])};
  alignas(64) float position[3][kBatch], out[kMouthOutputs][kBatch];
  for (int lane = 0; lane < kLanes; lane += F::width) {
    const Bound<F> bound = bind_to_frames<F>(frame, geometry + lane, g.frame.data() + place * kLanes + lane);
    const Vec3<F> world = rotate(back, bound.mean - translation);
    F::store(position[0] + lane, world.x);
    F::store(position[1] + lane, world.y);
    F::store(position[2] + lane, world.z);
  }
  mouth_network<F>(mouth, frame.mouth_audio.data(), position, out);
  for (int lane = 0; lane < kLanes; lane += F::width) {
    const F metres(kMouthMeanScale);
    const Vec3<F> shift = rotate(view, Vec3<F>{F::load(out[0] + lane) * metres, F::load(out[1] + lane) * metres,
                                               F::load(out[2] + lane) * metres});
    F::store(offset + lane, shift.x);
    F::store(offset + kLanes + lane, shift.y);
    F::store(offset + 2 * kLanes + lane, shift.z);
    const float* q = mouth.rotation.data() + static_cast<size_t>(block) * 4 * kLanes + lane;
    const float* s = mouth.scale.data() + static_cast<size_t>(block) * 3 * kLanes + lane;
    const Quat<F> turn = normalized(Quat<F>{F::load(out[3] + lane), F::load(out[4] + lane), F::load(out[5] + lane),
                                            F::load(out[6] + lane)});
    const Quat<F> local = {F::load(q), F::load(q + kLanes), F::load(q + 2 * kLanes), F::load(q + 3 * kLanes)};
    F scale[3];
    for (int c = 0; c < 3; ++c)
      scale[c] = F::load(s + c * kLanes) * softplus_of(F::load(out[7 + c] + lane) * F(kMouthScaleScale));
    F covariance[6];
    covariance_of(local * turn, Vec3<F>{scale[0], scale[1], scale[2]}, covariance);
    for (int k = 0; k < 6; ++k) F::store(geometry + (kCovariance + k) * kLanes + lane, covariance[k]);
  }
}

}  // namespace emotag
