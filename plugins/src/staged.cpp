#include "staged.h"

#include <algorithm>
#include <vector>

#include "math/gaussian.h"
#include "math/triangle.h"

namespace emotag {
namespace {

Vec3<float> vec_at(const float* p, int64_t i) { return {p[3 * i], p[3 * i + 1], p[3 * i + 2]}; }
Quat<float> quat_at(const float* p, int64_t i) { return {p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]}; }

void put(float* p, int64_t i, const Vec3<float>& v) { p[3 * i] = v.x, p[3 * i + 1] = v.y, p[3 * i + 2] = v.z; }
void put(float* p, int64_t i, const Quat<float>& q) {
  p[4 * i] = q.w, p[4 * i + 1] = q.x, p[4 * i + 2] = q.y, p[4 * i + 3] = q.z;
}

// out = weights · in, weights (outputs, inputs).
void multiply(const float* weights, const float* in, int inputs, float* out, int outputs) {
  for (int o = 0; o < outputs; ++o) {
    float sum = 0.0f;
    for (int i = 0; i < inputs; ++i) sum += weights[static_cast<size_t>(o) * inputs + i] * in[i];
    out[o] = sum;
  }
}

void rectify(float* x, int count) {
  for (int i = 0; i < count; ++i) x[i] = std::max(x[i], 0.0f);
}

}  // namespace

void bind_gaussians(const float* vertices, const int32_t* faces, const GaussianArrays& g, float* means, float* quats,
                    float* scales) {
  for (int i = 0; i < g.count; ++i) {
    const int32_t* face = faces + 3 * static_cast<int64_t>(g.frame[i]);
    const TriangleFrame<float> f =
        triangle_frame(vec_at(vertices, face[0]), vec_at(vertices, face[1]), vec_at(vertices, face[2]));
    const Vec3<float> local = vec_at(g.means, i);
    put(means, i, (f.a0 * local.x + f.a1 * local.y + f.a2 * local.z) * f.k + f.centre);
    put(quats, i, quat_from_columns(f.a0, f.a1, f.a2) * normalized(quat_at(g.quats, i)));
    put(scales, i, vec_at(g.scales, i) * f.k);
  }
}

void hash_grid(const float* points, int count, const float* const* tables, const int32_t* offsets, float bound,
               float* features) {
  using namespace constants;
  GridLevel levels[kGridLevels];
  grid_levels(offsets, levels);
  const int planes[kGridPlanes][2] = {{0, 1}, {1, 2}, {0, 2}};
  for (int i = 0; i < count; ++i) {
    float unit[3];
    for (int c = 0; c < 3; ++c) unit[c] = (points[3 * i + c] + bound) / (2.0f * bound);
    for (int p = 0; p < kGridPlanes; ++p)
      for (int l = 0; l < kGridLevels; ++l)
        features[static_cast<size_t>(i) * kGridFeatures + p * kGridLevels + l] =
            grid_lookup(tables[p], levels[l], unit[planes[p][0]], unit[planes[p][1]]);
  }
}

void mouth_network(const float* features, int count, const float* audio, const MouthArrays& mouth, float* out) {
  using namespace constants;
  const int inputs = kGridFeatures + mouth.audio;
  std::vector<float> in(kGridFeatures);
  in.insert(in.end(), audio, audio + mouth.audio);
  float a[kMouthHidden], b[kMouthHidden];
  for (int i = 0; i < count; ++i) {
    std::copy(features + i * kGridFeatures, features + (i + 1) * kGridFeatures, in.begin());
    multiply(mouth.layers[0], in.data(), inputs, a, kMouthHidden);
    rectify(a, kMouthHidden);
    multiply(mouth.layers[1], a, kMouthHidden, b, kMouthHidden);
    rectify(b, kMouthHidden);
    multiply(mouth.layers[2], b, kMouthHidden, a, kMouthHidden);
    float* to = out + i * kMouthOutputs;
    multiply(mouth.head, a, kMouthHidden, to, kMouthOutputs);
    for (int o = 0; o < kMouthOutputs; ++o) to[o] += mouth.bias[o];
  }
}

void apply_mouth(const int32_t* index, int count, const float* d_mu, const float* d_rot, const float* d_scale,
                 float* means, float* quats, float* scales) {
  for (int i = 0; i < count; ++i) {
    const int64_t g = index[i];
    const Vec3<float> s = vec_at(scales, g), d = vec_at(d_scale, i);
    put(means, g, vec_at(means, g) + vec_at(d_mu, i));
    put(quats, g, quat_at(quats, g) * normalized(quat_at(d_rot, i)));
    put(scales, g, Vec3<float>{s.x * softplus(d.x), s.y * softplus(d.y), s.z * softplus(d.z)});
  }
}

}  // namespace emotag
