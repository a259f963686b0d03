// Step 2: the offsets of the mouth Gaussians: tri-plane hash grid at the bound position, network, moved geometry.
#include "frame.cuh"

namespace emotag::cuda {
namespace {

using namespace constants;

constexpr int kRows = kThreads / kMouthHidden;        // groups of threads, each with all outputs of some Gaussians
constexpr int kEach = kMouthBatch / kRows;            // Gaussians of a thread
static_assert(kEach == 4, "a thread reads the activations of its Gaussians as one float4");

// One layer for the batch: thread (o, group) sums output o of four Gaussians. Weights are [inputs][columns], so a warp
// reads them in one line, and all groups share it; activations are [input][16], read by a whole warp at once.
__device__ float4 dense(const float* weights, int inputs, int columns, float start, const float (*in)[kMouthBatch],
                        int o, int group) {
  float4 sum = make_float4(start, start, start, start);
  for (int i = 0; i < inputs; ++i) {
    const float w = weights[i * columns + o];
    const float4 x = *reinterpret_cast<const float4*>(in[i] + group * kEach);
    sum.x += w * x.x;
    sum.y += w * x.y;
    sum.z += w * x.z;
    sum.w += w * x.w;
  }
  return sum;
}

__device__ float4 rectified(float4 v) {
  return make_float4(max(v.x, 0.0f), max(v.y, 0.0f), max(v.z, 0.0f), max(v.w, 0.0f));
}

// The moved Gaussian from the network's ten outputs (system eq. 8).
__device__ void store_moved(const Job& job, int avatar, int i, const float (*out)[kMouthBatch], int column) {
  const int place = job.scene.header.mouth_begin + i, places = job.scene.header.places;
  const float4 q = job.scene.array<float4>(kQuats)[place];
  const float* s = job.scene.array<float>(kScales) + place;
  const Quat<float> turn = normalized(Quat<float>{out[3][column], out[4][column], out[5][column], out[6][column]});
  float scale[3];
  for (int c = 0; c < 3; ++c) scale[c] = s[c * places] * softplus(out[7 + c][column] * kMouthScaleScale);
  float covariance[6];
  covariance_of(Quat<float>{q.x, q.y, q.z, q.w} * turn, Vec3<float>{scale[0], scale[1], scale[2]}, covariance);
  float4* to = job.work.moved + (static_cast<size_t>(avatar) * padded_mouth(job.scene.header) + i) * 3;
  to[0] = make_float4(out[0][column] * kMouthMeanScale, out[1][column] * kMouthMeanScale,
                      out[2][column] * kMouthMeanScale, covariance[0]);
  to[1] = make_float4(covariance[1], covariance[2], covariance[3], covariance[4]);
  to[2] = make_float4(covariance[5], 0.0f, 0.0f, 0.0f);
}

// A block takes sixteen Gaussians of one avatar through the network.
__global__ void __launch_bounds__(kThreads) move_mouth(Job job) {
  __shared__ float position[3][kMouthBatch];
  __shared__ __align__(16) float even[kMouthHidden][kMouthBatch];
  __shared__ __align__(16) float odd[kMouthHidden][kMouthBatch];
  const BlobHeader& h = job.scene.header;
  const int t = threadIdx.x, avatar = blockIdx.y, first = blockIdx.x * kMouthBatch;
  if (t < kMouthBatch) {
    const int i = first + t < h.mouth ? first + t : h.mouth - 1;
    const Stored g = stored_at(job, h.mouth_begin + i);
    const Vec3<float> p = mean_in_world(frame_of(job, avatar, g.corners), g.mean);
    position[0][t] = p.x, position[1][t] = p.y, position[2][t] = p.z;
  }
  __syncthreads();
  const float inverse = 0.5f / h.bound;
  for (int k = t; k < kGridFeatures * kMouthBatch; k += kThreads) {
    const int feature = k / kMouthBatch, g = k % kMouthBatch, plane = feature / kGridLevels;
    const int x = plane == 1 ? 1 : 0, y = plane == 0 ? 1 : 2;  // xy, yz, xz
    even[feature][g] = grid_lookup(job.scene.array<float>(kPlanes) + static_cast<size_t>(plane) * h.rows,
                                   h.levels[feature % kGridLevels], (position[x][g] + h.bound) * inverse,
                                   (position[y][g] + h.bound) * inverse);
  }
  __syncthreads();
  const int o = t % kMouthHidden, group = t / kMouthHidden;
  const float audio = job.work.mouth_audio[avatar * kMouthHidden + o];
  const float* const hidden = job.scene.array<float>(kHiddenLayers);
  float4 sum = dense(job.scene.array<float>(kGridLayer), kGridFeatures, kMouthHidden, audio, even, o, group);
  *reinterpret_cast<float4*>(odd[o] + group * kEach) = rectified(sum);
  __syncthreads();
  sum = dense(hidden, kMouthHidden, kMouthHidden, 0.0f, odd, o, group);
  *reinterpret_cast<float4*>(even[o] + group * kEach) = rectified(sum);
  __syncthreads();
  sum = dense(hidden + kMouthHidden * kMouthHidden, kMouthHidden, kMouthHidden, 0.0f, even, o, group);
  *reinterpret_cast<float4*>(odd[o] + group * kEach) = sum;
  __syncthreads();
  if (o < kHeadColumns) {
    sum = dense(job.scene.array<float>(kHeadLayer), kMouthHidden, kHeadColumns, job.scene.array<float>(kBias)[o], odd, o,
                group);
    *reinterpret_cast<float4*>(even[o] + group * kEach) = sum;
  }
  __syncthreads();
  if (t < kMouthBatch && first + t < h.mouth) store_moved(job, avatar, first + t, even, t);
}

}  // namespace

cudaError_t launch_mouth(const Job& job, cudaStream_t stream) {
  if (!job.mouth_moves) return cudaSuccess;
  return launch(move_mouth, dim3(padded_mouth(job.scene.header) / kMouthBatch, job.avatars), kThreads, stream, job);
}

}  // namespace emotag::cuda
