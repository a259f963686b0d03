#include "scene.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "math/gaussian.h"
#include "math/sh.h"

namespace emotag {
namespace {

bool moves(const float* basis, int begin, int end) {
  return std::any_of(basis + 3 * begin, basis + 3 * end, [](float x) { return x != 0.0f; });
}

// A finite float to the nearest half, ties to even; values beyond the range become the largest half.
uint16_t to_half(float value) {
  uint32_t bits;
  const float limited = std::min(std::max(value, -65504.0f), 65504.0f);
  std::memcpy(&bits, &limited, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude < 0x38800000u)  // below 2^-14: a subnormal half counts units of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::lrintf(std::fabs(limited) * 16777216.0f)));
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | std::min((rounded - 0x38000000u) >> 13, 0x7bffu));
}

}  // namespace

Head::Head(const HeadArrays& a)
    : vertices(a.vertices), faces(a.faces), expressions(a.expressions), blocks(blocks_of(a.vertices)),
      rest(static_cast<size_t>(blocks) * 3 * kLanes), weights(static_cast<size_t>(blocks) * constants::kJoints * kLanes),
      basis_begin(blocks + 1), corners(static_cast<size_t>(3) * padded_faces()),
      joints(a.joints, a.joints + 3 * constants::kJoints),
      joint_expression_basis(a.joint_expression_basis, a.joint_expression_basis + 3 * constants::kJoints * a.expressions),
      parents(a.parents, a.parents + constants::kJoints) {
  for (int v = 0; v < vertices; ++v) {
    const int b = v / kLanes, lane = v % kLanes;
    for (int c = 0; c < 3; ++c) rest[(b * 3 + c) * kLanes + lane] = a.shape[3 * v + c];
    for (int j = 0; j < constants::kJoints; ++j)
      weights[(b * constants::kJoints + j) * kLanes + lane] = a.weights[constants::kJoints * v + j];
  }
  for (int f = 0; f < faces; ++f)
    for (int c = 0; c < 3; ++c) corners[static_cast<size_t>(c) * padded_faces() + f] = a.triangles[3 * f + c];

  const int bases = expressions + constants::kPoseFeatures;
  const auto basis_of = [&](int k) {
    return k < expressions ? a.expression_basis + static_cast<size_t>(k) * 3 * vertices
                           : a.pose_basis + static_cast<size_t>(k - expressions) * 3 * vertices;
  };
  std::vector<int32_t> index;
  for (int b = 0; b < blocks; ++b) {
    const int end = std::min(vertices, (b + 1) * kLanes);
    for (int k = 0; k < bases; ++k)
      if (moves(basis_of(k), b * kLanes, end)) index.push_back(k);
    basis_begin[b + 1] = static_cast<int32_t>(index.size());
  }
  basis_index.reset(index.size());
  std::copy(index.begin(), index.end(), basis_index.data());
  basis.reset(index.size() * 3 * kLanes);
  for (int b = 0; b < blocks; ++b)
    for (int e = basis_begin[b]; e < basis_begin[b + 1]; ++e)
      for (int v = b * kLanes; v < std::min(vertices, (b + 1) * kLanes); ++v)
        for (int c = 0; c < 3; ++c)
          basis[(static_cast<size_t>(e) * 3 + c) * kLanes + v % kLanes] = basis_of(basis_index[e])[3 * v + c];
}

Gaussians::Gaussians(const GaussianArrays& a, const int32_t* mouth, int mouth_count) : degree(a.degree) {
  std::vector<char> in_mouth(a.count, 0);
  for (int i = 0; i < mouth_count; ++i) in_mouth[mouth[i]] = 1;
  for (int i = 0; i < a.count; ++i)
    if (!in_mouth[i]) order.push_back(i);
  // Neighbours in the array share triangles: their frames are in the cache.
  std::sort(order.begin(), order.end(), [&](int i, int j) {
    return a.frame[i] != a.frame[j] ? a.frame[i] < a.frame[j] : i < j;
  });
  mouth_begin = blocks_of(static_cast<int>(order.size()));
  order.resize(static_cast<size_t>(mouth_begin) * kLanes, -1);
  order.insert(order.end(), mouth, mouth + mouth_count);
  blocks = blocks_of(static_cast<int>(order.size()));
  order.resize(static_cast<size_t>(blocks) * kLanes, -1);

  const int rest = (sh_coefficients(degree) - 1) * 3;
  frame.reset(places());
  geometry.reset(static_cast<size_t>(blocks) * kGaussianFields * kLanes);
  sh.reset(static_cast<size_t>(blocks) * rest * kLanes);
  for (int place = 0; place < places(); ++place) {
    const int i = order[place], lane = place % kLanes;
    float* block = geometry.data() + static_cast<size_t>(place / kLanes) * kGaussianFields * kLanes + lane;
    if (i < 0) {
      block[kLevel * kLanes] = -100.0f;  // never visible
      continue;
    }
    frame[place] = a.frame[i];
    const float* q = a.quats + 4 * i;
    float covariance[6];
    covariance_of(normalized(Quat<float>{q[0], q[1], q[2], q[3]}),
                  Vec3<float>{a.scales[3 * i], a.scales[3 * i + 1], a.scales[3 * i + 2]}, covariance);
    const float* coefficients = a.sh + static_cast<size_t>(i) * a.stored_coefficients * 3;
    for (int c = 0; c < 3; ++c) block[(kMean + c) * kLanes] = a.means[3 * i + c];
    for (int c = 0; c < 6; ++c) block[(kCovariance + c) * kLanes] = covariance[c];
    for (int c = 0; c < 3; ++c) block[(kColour + c) * kLanes] = coefficients[c];
    block[kLevel * kLanes] = std::max(std::log2(a.opacities[i] / constants::kAlphaCut), -100.0f);
    uint16_t* half = sh.data() + static_cast<size_t>(place / kLanes) * rest * kLanes + lane;
    for (int k = 0; k < rest; ++k) half[k * kLanes] = to_half(coefficients[3 + k]);
  }
}

Appearance::Appearance(const Gaussians& gaussians, const GaussianArrays& a, const float* offsets, int count)
    : rank(count), basis(static_cast<size_t>(gaussians.places()) * rank * kOffsetFields),
      rotation(static_cast<size_t>(gaussians.places()) * 4), scale(static_cast<size_t>(gaussians.places()) * 3) {
  for (int place = 0; place < gaussians.places(); ++place) {
    const int i = gaussians.order[place], lane = place % kLanes;
    const size_t block = place / kLanes;
    if (i < 0) {
      rotation[block * 4 * kLanes + lane] = 1.0f;
      continue;
    }
    const float* q = a.quats + 4 * i;
    const Quat<float> unit = normalized(Quat<float>{q[0], q[1], q[2], q[3]});
    const float wxyz[4] = {unit.w, unit.x, unit.y, unit.z};
    for (int c = 0; c < 4; ++c) rotation[(block * 4 + c) * kLanes + lane] = wxyz[c];
    for (int c = 0; c < 3; ++c) scale[(block * 3 + c) * kLanes + lane] = a.scales[3 * i + c];
    for (int r = 0; r < rank; ++r)
      for (int k = 0; k < kOffsetFields; ++k)
        basis[((block * rank + r) * kOffsetFields + k) * kLanes + lane] =
            to_half(offsets[(static_cast<size_t>(r) * a.count + i) * kOffsetFields + k]);
  }
}

void grid_levels(const int32_t* offsets, GridLevel* levels) {
  for (int l = 0; l < constants::kGridLevels; ++l) levels[l] = grid_level(l, offsets[l]);
}

Mouth::Mouth(const MouthArrays& a, const GaussianArrays& gaussians)
    : count(a.count), blocks(blocks_of(a.count)), audio(a.audio), bound(a.bound),
      audio_layer(static_cast<size_t>(constants::kMouthHidden) * a.audio),
      grid_layer(constants::kMouthHidden * constants::kGridFeatures),
      hidden_layer(constants::kMouthHidden * constants::kMouthHidden),
      head(constants::kMouthOutputs * constants::kMouthHidden), bias(constants::kMouthOutputs),
      rotation(static_cast<size_t>(blocks) * 4 * kLanes), scale(static_cast<size_t>(blocks) * 3 * kLanes) {
  using namespace constants;
  grid_levels(a.offsets, levels);
  for (int p = 0; p < kGridPlanes; ++p) {
    tables[p].reset(a.rows);
    std::copy(a.grids[p], a.grids[p] + a.rows, tables[p].data());
  }
  for (int o = 0; o < kMouthHidden; ++o) {
    const float* row = a.layers[0] + static_cast<size_t>(o) * (kGridFeatures + audio);
    std::copy(row, row + kGridFeatures, grid_layer.data() + o * kGridFeatures);
    std::copy(row + kGridFeatures, row + kGridFeatures + audio, audio_layer.data() + static_cast<size_t>(o) * audio);
  }
  std::copy(a.layers[1], a.layers[1] + kMouthHidden * kMouthHidden, hidden_layer.data());
  for (int o = 0; o < kMouthOutputs; ++o)
    for (int i = 0; i < kMouthHidden; ++i) {
      double sum = 0.0;
      for (int k = 0; k < kMouthHidden; ++k)
        sum += static_cast<double>(a.head[o * kMouthHidden + k]) * a.layers[2][k * kMouthHidden + i];
      head[o * kMouthHidden + i] = static_cast<float>(sum);
    }
  std::copy(a.bias, a.bias + kMouthOutputs, bias.data());
  for (int i = 0; i < blocks * kLanes; ++i) {
    const int b = i / kLanes, lane = i % kLanes, g = a.index[std::min(i, count - 1)];
    const float* r = gaussians.quats + 4 * g;
    const Quat<float> q = normalized(Quat<float>{r[0], r[1], r[2], r[3]});
    const float wxyz[4] = {q.w, q.x, q.y, q.z};
    for (int c = 0; c < 4; ++c) rotation[(b * 4 + c) * kLanes + lane] = wxyz[c];
    for (int c = 0; c < 3; ++c) scale[(b * 3 + c) * kLanes + lane] = gaussians.scales[3 * g + c];
  }
}

}  // namespace emotag
