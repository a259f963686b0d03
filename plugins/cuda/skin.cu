// Step 1: the pose's coefficients and joint transforms, the audio's share of the mouth network, and the skinned vertices.
#include "../src/math/pose.h"
#include "../src/math/skin.h"
#include "frame.cuh"

namespace emotag::cuda {
namespace {

using namespace constants;

constexpr int kLanesPerJoint = 16;      // threads that sum up one coordinate of one joint
constexpr int kSlices = 8;              // warps that share the bases of a block of vertices
constexpr int kTogether = 4;            // avatars that share one reading of the bases

// Joints under the expression, in double precision: 15 coordinates, each summed by half a warp.
__device__ void move_joints(const Job& job, const float* expression, double (*joints)[3]) {
  const int k = threadIdx.x / kLanesPerJoint, lane = threadIdx.x % kLanesPerJoint;
  const bool mine = k < 3 * kJoints;
  const float* basis = job.scene.array<float>(kJointBasis);
  double sum = 0.0;
  if (mine)
    for (int e = lane; e < job.scene.header.expressions; e += kLanesPerJoint)
      sum += static_cast<double>(expression[e]) * basis[e * 3 * kJoints + k];
  for (int step = kLanesPerJoint / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  if (mine && lane == 0) joints[k / 3][k % 3] = job.scene.array<float>(kJointRest)[k] + sum;
}

// Joint transforms from the rotations, root first: one thread, a few hundred operations.
__device__ void chain_joints(const Job& job, const double (*turns)[9], const double (*joints)[3], float* transforms) {
  double world[kJoints][12];
  for (int j = 0; j < kJoints; ++j) {
    double local[12];
    turn_about(turns[j], joints[j], local);
    const int parent = job.scene.header.parents[j];
    if (parent < 0) {
      for (int k = 0; k < 12; ++k) world[j][k] = local[k];
    } else {
      compose(world[parent], local, world[j]);
    }
    for (int k = 0; k < 12; ++k) transforms[12 * j + k] = static_cast<float>(world[j][k]);
  }
}

// The first layer of the mouth network reads the same audio for every Gaussian: done once, a warp for each row.
__device__ void prepare_audio(const Job& job, int avatar) {
  const int lane = threadIdx.x % 32, width = job.scene.header.audio;
  const float* audio = job.encoded_audio + static_cast<size_t>(avatar) * width;
  for (int o = threadIdx.x / 32; o < kMouthHidden; o += kThreads / 32) {
    const float* row = job.scene.array<float>(kAudioLayer) + static_cast<size_t>(o) * width;
    float sum = 0.0f;
    for (int i = lane; i < width; i += 32) sum += row[i] * audio[i];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
    if (lane == 0) job.work.mouth_audio[avatar * kMouthHidden + o] = sum;
  }
}

// One block for each avatar.
__global__ void __launch_bounds__(kThreads) prepare(Job job) {
  __shared__ double joints[kJoints][3];
  __shared__ double turns[kJoints][9];
  const int avatar = blockIdx.x, t = threadIdx.x, expressions = job.scene.header.expressions;
  const float* expression = job.expression + static_cast<size_t>(avatar) * expressions;
  float* coefficients = job.work.coefficients + static_cast<size_t>(avatar) * (expressions + kPoseFeatures);
  for (int e = t; e < expressions; e += kThreads) coefficients[e] = expression[e];
  move_joints(job, expression, joints);
  if (t < kJoints) {
    constexpr int kJaw = 2;
    const float* pose = job.controls[avatar].pose + 3 * t;
    rotation_of(t == kJaw && job.jaw != nullptr ? job.jaw + 3 * avatar : pose, turns[t]);
  }
  __syncthreads();
  if (t < kPoseFeatures) {
    const int entry = t % 9;
    coefficients[expressions + t] = static_cast<float>(turns[1 + t / 9][entry] - (entry % 4 == 0 ? 1.0 : 0.0));
  }
  if (t == 0) chain_joints(job, turns, joints, job.work.transforms + avatar * kJoints * 12);
  if (job.mouth_moves) prepare_audio(job, avatar);
}

// A block poses 32 vertices of up to four avatars. Each of its eight warps takes every eighth basis: one thread for each
// vertex would leave most of the GPU idle, waiting for a long chain of loads.
__global__ void __launch_bounds__(kVertexBlock* kSlices) skin(Job job) {
  __shared__ float sums[kSlices][kTogether * 3][kVertexBlock];
  __shared__ float transforms[kTogether][kJoints][12];
  const BlobHeader& h = job.scene.header;
  const int lane = threadIdx.x % kVertexBlock, slice = threadIdx.x / kVertexBlock, block = blockIdx.x;
  const int first = blockIdx.y * kTogether, stride = h.expressions + kPoseFeatures;
  const int here = job.avatars - first < kTogether ? job.avatars - first : kTogether;
  for (int i = threadIdx.x; i < here * kJoints * 12; i += kVertexBlock * kSlices)
    (&transforms[0][0][0])[i] = job.work.transforms[first * kJoints * 12 + i];

  float sum[kTogether][3] = {};
  const float* const coefficients = job.work.coefficients + static_cast<size_t>(first) * stride;
  const int* const index = job.scene.array<int>(kBasisIndex);
  const int* const begin = job.scene.array<int>(kBasisBegin) + block;
  for (int e = begin[0] + slice; e < begin[1]; e += kSlices) {
    const float* basis = job.scene.array<float>(kBasis) + static_cast<size_t>(e) * 3 * kVertexBlock + lane;
    const float x = basis[0], y = basis[kVertexBlock], z = basis[2 * kVertexBlock];
    const int k = index[e];
    for (int a = 0; a < kTogether; ++a) {
      const float c = a < here ? coefficients[a * stride + k] : 0.0f;
      sum[a][0] += c * x;
      sum[a][1] += c * y;
      sum[a][2] += c * z;
    }
  }
  for (int a = 0; a < kTogether; ++a)
    for (int axis = 0; axis < 3; ++axis) sums[slice][a * 3 + axis][lane] = sum[a][axis];
  __syncthreads();

  const int v = block * kVertexBlock + lane;
  if (slice >= here || v >= h.vertices) return;  // the first warps finish an avatar each
  const size_t plane = static_cast<size_t>(h.vertex_blocks()) * kVertexBlock;
  const float4 rest = job.scene.array<float4>(kRest)[v];
  float p[3] = {rest.x, rest.y, rest.z}, weights[kJoints];
  for (int s = 0; s < kSlices; ++s)
    for (int axis = 0; axis < 3; ++axis) p[axis] += sums[s][slice * 3 + axis][lane];
  for (int j = 0; j < kJoints; ++j) weights[j] = job.scene.array<float>(kWeights)[j * plane + v];
  const float* t = job.controls[first + slice].translation;
  const Vec3<float> out =
      skin_vertex(Vec3<float>{p[0], p[1], p[2]}, weights, transforms[slice]) + Vec3<float>{t[0], t[1], t[2]};
  const size_t to = static_cast<size_t>(first + slice) * h.vertices + v;
  if (job.vertices != nullptr) {
    job.vertices[3 * to] = out.x, job.vertices[3 * to + 1] = out.y, job.vertices[3 * to + 2] = out.z;
  } else {
    job.work.vertices[to] = make_float4(out.x, out.y, out.z, 1.0f);
  }
}

}  // namespace

cudaError_t launch_skin(const Job& job, cudaStream_t stream) {
  const cudaError_t error = launch(prepare, dim3(job.avatars), kThreads, stream, job);
  if (error != cudaSuccess) return error;
  const dim3 grid(job.scene.header.vertex_blocks(), ceil_div(job.avatars, kTogether));
  return launch(skin, grid, kVertexBlock * kSlices, stream, job);
}

}  // namespace emotag::cuda
