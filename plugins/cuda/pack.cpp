// From a scene's arrays to the blob, on the host.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "../src/math/gaussian.h"
#include "../src/math/sh.h"
#include "blob.h"
#include "fail.h"

namespace emotag::cuda {
namespace {

using namespace constants;

// What the packer knows beyond the header: which bases move which vertices, and where each Gaussian goes.
struct Contents {
  BlobHeader header = {};
  std::vector<int32_t> begin, index;  // of the entries of the basis
  std::vector<int32_t> order;
};

const float* basis_of(const EmotagCudaScene& s, int k) {
  const size_t stride = static_cast<size_t>(3) * s.vertices;
  return k < s.expressions ? s.expression_basis + k * stride : s.pose_basis + (k - s.expressions) * stride;
}

void find_entries(const EmotagCudaScene& s, Contents* c) {
  c->begin.push_back(0);
  for (int b = 0; b < c->header.vertex_blocks(); ++b) {
    const int first = b * kVertexBlock, last = std::min(s.vertices, first + kVertexBlock);
    for (int k = 0; k < s.expressions + kPoseFeatures; ++k) {
      const float* basis = basis_of(s, k);
      if (std::any_of(basis + 3 * first, basis + 3 * last, [](float x) { return x != 0.0f; })) c->index.push_back(k);
    }
    c->begin.push_back(static_cast<int32_t>(c->index.size()));
  }
}

void pad_to_block(std::vector<int32_t>* order) { order->resize((order->size() + kPlaces - 1) / kPlaces * kPlaces, -1); }

void find_order(const EmotagCudaScene& s, Contents* c) {
  std::vector<char> in_mouth(s.gaussians, 0);
  for (int i = 0; i < s.mouth; ++i) in_mouth[s.mouth_index[i]] = 1;
  for (int i = 0; i < s.gaussians; ++i)
    if (!in_mouth[i]) c->order.push_back(i);
  std::stable_sort(c->order.begin(), c->order.end(), [&](int a, int b) { return s.face_index[a] < s.face_index[b]; });
  pad_to_block(&c->order);
  c->header.mouth_begin = static_cast<int32_t>(c->order.size());
  c->order.insert(c->order.end(), s.mouth_index, s.mouth_index + s.mouth);
  pad_to_block(&c->order);
  if (c->order.empty()) c->order.resize(kPlaces, -1);  // a scene without Gaussians is a picture of its background
}

Contents contents_of(const EmotagCudaScene& s) {
  Contents c;
  BlobHeader& h = c.header;
  h.magic = kMagic;
  h.version = EMOTAG_CUDA_VERSION;
  h.vertices = s.vertices, h.faces = s.faces, h.expressions = s.expressions;
  h.gaussians = s.gaussians, h.degree = s.degree;
  h.mouth = s.mouth, h.rows = s.rows, h.audio = s.audio, h.bound = s.mouth > 0 ? s.bound : 1.0f;
  std::copy(s.parents, s.parents + kJoints, h.parents);
  if (s.mouth > 0)
    for (int l = 0; l < kGridLevels; ++l) h.levels[l] = grid_level(l, s.offsets[l]);
  find_entries(s, &c);
  find_order(s, &c);
  h.entries = static_cast<int32_t>(c.index.size());
  h.places = static_cast<int32_t>(c.order.size());
  lay_out(&h);
  return c;
}

template <class T>
T* array_at(void* blob, const BlobHeader& h, BlobArray array) {
  return reinterpret_cast<T*>(static_cast<char*>(blob) + h.at[array]);
}

void pack_head(const EmotagCudaScene& s, const Contents& c, void* blob) {
  const BlobHeader& h = c.header;
  const size_t padded = static_cast<size_t>(h.vertex_blocks()) * kVertexBlock;
  float* rest = array_at<float>(blob, h, kRest);
  float* weights = array_at<float>(blob, h, kWeights);
  for (int v = 0; v < s.vertices; ++v) {
    std::copy(s.vertex_template + 3 * v, s.vertex_template + 3 * v + 3, rest + 4 * v);
    for (int j = 0; j < kJoints; ++j) weights[j * padded + v] = s.weights[kJoints * v + j];
  }
  std::copy(c.begin.begin(), c.begin.end(), array_at<int32_t>(blob, h, kBasisBegin));
  std::copy(c.index.begin(), c.index.end(), array_at<int32_t>(blob, h, kBasisIndex));
  float* basis = array_at<float>(blob, h, kBasis);
  for (int b = 0; b < h.vertex_blocks(); ++b)
    for (int e = c.begin[b]; e < c.begin[b + 1]; ++e)
      for (int v = b * kVertexBlock; v < std::min(s.vertices, (b + 1) * kVertexBlock); ++v)
        for (int axis = 0; axis < 3; ++axis)
          basis[(static_cast<size_t>(e) * 3 + axis) * kVertexBlock + v % kVertexBlock] = basis_of(s, c.index[e])[3 * v + axis];
  std::copy(s.joints, s.joints + 3 * kJoints, array_at<float>(blob, h, kJointRest));
  std::copy(s.joint_expression_basis, s.joint_expression_basis + static_cast<size_t>(3) * kJoints * s.expressions,
            array_at<float>(blob, h, kJointBasis));
}

void pack_gaussian(const EmotagCudaScene& s, const BlobHeader& h, int place, int i, void* blob) {
  const size_t places = h.places;
  const float* q = s.quats + 4 * static_cast<size_t>(i);
  const float* scale = s.scales + 3 * static_cast<size_t>(i);
  const float* dc = s.sh + static_cast<size_t>(i) * s.stored_coefficients * 3;
  const Quat<float> unit = normalized(Quat<float>{q[0], q[1], q[2], q[3]});
  float covariance[6];
  covariance_of(unit, Vec3<float>{scale[0], scale[1], scale[2]}, covariance);
  const float level = std::max(std::log2(s.opacities[i] / kAlphaCut), -100.0f);
  float fields[16] = {s.means[3 * i], s.means[3 * i + 1], s.means[3 * i + 2], level};
  std::copy(covariance, covariance + 6, fields + 4);
  std::copy(dc, dc + 3, fields + 10);
  std::memcpy(fields + 13, s.triangles + 3 * static_cast<size_t>(s.face_index[i]), 3 * sizeof(int32_t));
  float* geometry = array_at<float>(blob, h, kGeometry);
  for (int k = 0; k < 4; ++k) std::memcpy(geometry + (k * places + place) * 4, fields + 4 * k, 16);
  _Float16 halves[48] = {};
  for (int k = 0; k < h.sh_halves(); ++k) halves[k] = static_cast<_Float16>(std::clamp(dc[3 + k], -65504.0f, 65504.0f));
  char* sh = array_at<char>(blob, h, kSh);
  for (int k = 0; k < h.sh_chunks(); ++k) std::memcpy(sh + (k * places + place) * 16, halves + 8 * k, 16);
  const float wxyz[4] = {unit.w, unit.x, unit.y, unit.z};
  std::copy(wxyz, wxyz + 4, array_at<float>(blob, h, kQuats) + 4 * static_cast<size_t>(place));
  for (int k = 0; k < 3; ++k) array_at<float>(blob, h, kScales)[k * places + place] = scale[k];
}

void pack_gaussians(const EmotagCudaScene& s, const Contents& c, void* blob) {
  std::copy(c.order.begin(), c.order.end(), array_at<int32_t>(blob, c.header, kOrder));
  float* geometry = array_at<float>(blob, c.header, kGeometry);
  for (int place = 0; place < c.header.places; ++place) {
    if (c.order[place] >= 0) {
      pack_gaussian(s, c.header, place, c.order[place], blob);
    } else {
      geometry[4 * static_cast<size_t>(place) + 3] = -100.0f;  // a level that is never visible
    }
  }
}

// out[i][o] = in[o][i]
void transpose(const float* in, int outputs, int inputs, size_t stride, float* out, int columns) {
  for (int o = 0; o < outputs; ++o)
    for (int i = 0; i < inputs; ++i) out[i * columns + o] = in[o * stride + i];
}

void pack_mouth(const EmotagCudaScene& s, const BlobHeader& h, void* blob) {
  for (int p = 0; p < kGridPlanes; ++p)
    std::copy(s.planes[p], s.planes[p] + s.rows, array_at<float>(blob, h, kPlanes) + static_cast<size_t>(p) * s.rows);
  const size_t stride = kGridFeatures + s.audio;
  for (int o = 0; o < kMouthHidden; ++o)
    std::copy(s.layers[0] + o * stride + kGridFeatures, s.layers[0] + (o + 1) * stride,
              array_at<float>(blob, h, kAudioLayer) + static_cast<size_t>(o) * s.audio);
  transpose(s.layers[0], kMouthHidden, kGridFeatures, stride, array_at<float>(blob, h, kGridLayer), kMouthHidden);
  for (int l = 0; l < 2; ++l)
    transpose(s.layers[l + 1], kMouthHidden, kMouthHidden, kMouthHidden,
              array_at<float>(blob, h, kHiddenLayers) + l * kMouthHidden * kMouthHidden, kMouthHidden);
  transpose(s.head, kMouthOutputs, kMouthHidden, kMouthHidden, array_at<float>(blob, h, kHeadLayer), kHeadColumns);
  std::copy(s.bias, s.bias + kMouthOutputs, array_at<float>(blob, h, kBias));
}

}  // namespace

void lay_out(BlobHeader* h) {
  const uint64_t vertices = static_cast<uint64_t>(h->vertex_blocks()) * kVertexBlock, places = h->places;
  const uint64_t mouth = h->mouth > 0 ? 1 : 0, hidden = kMouthHidden;
  const uint64_t bytes[kBlobArrays] = {
      vertices * 16, vertices * kJoints * 4, (h->vertex_blocks() + 1ull) * 4, h->entries * 4ull,
      h->entries * 3ull * kVertexBlock * 4, 3 * kJoints * 4, h->expressions * 3ull * kJoints * 4, places * 64,
      places * 16 * h->sh_chunks(), places * 16, places * 12, places * 4, mouth * kGridPlanes * h->rows * 4,
      mouth * hidden * h->audio * 4, mouth * kGridFeatures * hidden * 4, mouth * 2 * hidden * hidden * 4,
      mouth * hidden * kHeadColumns * 4, mouth * kHeadColumns * 4};
  uint64_t at = aligned(sizeof(BlobHeader));
  for (int k = 0; k < kBlobArrays; ++k) {
    h->at[k] = at;
    at += aligned(bytes[k]);
  }
  h->bytes = at;
}

}  // namespace emotag::cuda

using namespace emotag::cuda;

extern "C" int emotag_cuda_pack_bytes(const EmotagCudaScene* scene, size_t* bytes) {
  *bytes = contents_of(*scene).header.bytes;
  return EMOTAG_CUDA_OK;
}

extern "C" int emotag_cuda_pack(const EmotagCudaScene* scene, void* blob, size_t bytes) {
  const Contents contents = contents_of(*scene);
  if (bytes < contents.header.bytes)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "the scene needs %zu bytes, not %zu; ask emotag_cuda_pack_bytes",
                static_cast<size_t>(contents.header.bytes), bytes);
  std::memset(blob, 0, bytes);
  std::memcpy(blob, &contents.header, sizeof contents.header);
  pack_head(*scene, contents, blob);
  pack_gaussians(*scene, contents, blob);
  if (scene->mouth > 0) pack_mouth(*scene, contents.header, blob);
  return EMOTAG_CUDA_OK;
}
