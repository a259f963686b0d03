// Step 3: every Gaussian bound to its triangle, projected, coloured, and the tiles that it really touches.
#include "../src/math/ellipse.h"
#include "../src/math/sh.h"
#include "frame.cuh"

namespace emotag::cuda {
namespace {

using namespace constants;

constexpr float kSlack = 0.02f;  // pixels that an ellipse is taken to be wider, against rounding

// Coefficients of one Gaussian above the zeroth, read as whole chunks: neighbouring threads share lines, and the
// unrolled sums then take halves out of registers.
template <int Degree>
struct ShReader {
  static constexpr int kHalves = (sh_coefficients(Degree) - 1) * 3, kChunks = (kHalves + 7) / 8;
  uint4 chunks[kChunks];

  __device__ ShReader(const uint4* from, int places) {
    for (int k = 0; k < kChunks; ++k) chunks[k] = from[static_cast<size_t>(k) * places];
  }

  // Coefficient k ≥ 1 of one channel.
  __device__ float at(int k, int channel) const {
    const int i = (k - 1) * 3 + channel, word = i % 8 / 2;
    const uint4& c = chunks[i / 8];
    const unsigned bits = word == 0 ? c.x : word == 1 ? c.y : word == 2 ? c.z : c.w;
    const float2 both = __half22float2(*reinterpret_cast<const __half2*>(&bits));
    return i % 2 == 0 ? both.x : both.y;
  }
};

template <int Degree>
__device__ void colour_at(const uint4* from, int places, const float* dc, const Vec3<float>& direction, float* colour) {
  if constexpr (Degree == 0) {
    for (int c = 0; c < 3; ++c) colour[c] = sh_colour<0>(dc[c], &dc[c], [](int) { return 0.0f; });
  } else {
    const ShReader<Degree> sh(from, places);
    float basis[sh_coefficients(Degree)];
    sh_basis<Degree>(direction, basis);
    for (int c = 0; c < 3; ++c) colour[c] = sh_colour<Degree>(dc[c], basis, [&](int k) { return sh.at(k, c); });
  }
}

// Colour as seen from the camera; mean is in its coordinates.
__device__ void colour_of(const Job& job, int place, const float* dc, const Vec3<float>& mean, const float* view,
                          float* colour) {
  const uint4* const from = job.scene.array<uint4>(kSh) + place;
  const int places = job.scene.header.places;
  const Vec3<float> d = mean * rsqrt(max(dot(mean, mean), kTiny));
  const float back[9] = {view[0], view[4], view[8], view[1], view[5], view[9], view[2], view[6], view[10]};
  const Vec3<float> direction = rotate(back, d);
  switch (job.scene.header.degree) {  // the same for all threads
    case 0: return colour_at<0>(from, places, dc, direction, colour);
    case 1: return colour_at<1>(from, places, dc, direction, colour);
    case 2: return colour_at<2>(from, places, dc, direction, colour);
    default: return colour_at<3>(from, places, dc, direction, colour);
  }
}

__device__ Pinhole pinhole_of(const Job& job, const float* intrinsics) {
  const float width = static_cast<float>(job.width), height = static_cast<float>(job.height);
  return {intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3], kJacobianClamp * width / (2.0f * intrinsics[0]),
          kJacobianClamp * height / (2.0f * intrinsics[1]), width, height};
}

// Which tiles of the rectangle the ellipse of the alpha cut touches. Three in ten of the pairs that 3DGS's squares give are
// empty, and each would be sorted and loaded. The mask is kept, not found again when the lists are written: two compilations of
// the same expression may round differently, and then the lists would not fit their places.
__device__ uint64_t tiles_of(const Splat<float>& s, float level, int x0, int y0, int x1, int y1) {
  const EllipseRows rows = ellipse_rows(s.qa, s.qb, s.qc, level);
  const int columns = x1 - x0 + 1;
  uint64_t mask = 0;
  for (int y = y0; y <= y1; ++y) {
    const float top = static_cast<float>(y * kTile) - s.v;
    float left, right;
    if (!ellipse_span(rows, top, top + (kTile - 1), kSlack, &left, &right)) continue;
    const float tile = 1.0f / kTile, first_x = (left + s.u - (kTile - 1)) * tile, last_x = (right + s.u) * tile;
    const int first = static_cast<int>(max(::ceilf(first_x), static_cast<float>(x0)));
    const int last = static_cast<int>(min(::floorf(last_x), static_cast<float>(x1)));
    for (int x = first; x <= last; ++x) mask |= uint64_t{1} << ((y - y0) * columns + x - x0);
  }
  return mask;
}

// A bound Gaussian in the camera's coordinates.
struct InCamera {
  Vec3<float> mean;
  float axes[9];
};

__device__ InCamera bind_to_camera(const Job& job, int avatar, int place, Stored* g, const float* view) {
  const TriangleFrame<float> f = frame_of(job, avatar, g->corners);
  Vec3<float> world = mean_in_world(f, g->mean);
  const int moved = moved_index(job, place);
  if (moved >= 0) {
    const float4* from = job.work.moved + (static_cast<size_t>(avatar) * padded_mouth(job.scene.header) + moved) * 3;
    const float4 a = from[0], b = from[1], c = from[2];
    world = world + Vec3<float>{a.x, a.y, a.z};
    const float covariance[6] = {a.w, b.x, b.y, b.z, b.w, c.x};
    for (int k = 0; k < 6; ++k) g->covariance[k] = covariance[k];
  }
  const float turn[9] = {view[0], view[1], view[2], view[4], view[5], view[6], view[8], view[9], view[10]};
  const Vec3<float> a0 = rotate(turn, f.a0 * f.k), a1 = rotate(turn, f.a1 * f.k), a2 = rotate(turn, f.a2 * f.k);
  return {rotate(turn, world) + Vec3<float>{view[3], view[7], view[11]},
          {a0.x, a1.x, a2.x, a0.y, a1.y, a2.y, a0.z, a1.z, a2.z}};
}

__device__ float packed_halves(float a, float b) {
  const __half2 both = __floats2half2_rn(a, b);
  return *reinterpret_cast<const float*>(&both);
}

// Projects one Gaussian and writes what drawing needs; returns the number of its tiles.
__device__ uint32_t project_place(const Job& job, int avatar, int place, size_t at) {
  Stored g = stored_at(job, place);
  if (!(g.level > 0.0f)) return 0;  // padding, or too faint to be seen anywhere
  const EmotagCudaControls& controls = job.controls[avatar];
  const InCamera in = bind_to_camera(job, avatar, place, &g, controls.view);
  Splat<float> s;
  if (!project(in.mean, in.axes, g.covariance, g.level, pinhole_of(job, controls.intrinsics), &s)) return 0;

  const int x0 = static_cast<int>(s.tile_x0), y0 = static_cast<int>(s.tile_y0);
  const int x1 = static_cast<int>(s.tile_x1), y1 = static_cast<int>(s.tile_y1);
  const int area = (x1 - x0 + 1) * (y1 - y0 + 1);
  const uint64_t mask = area <= kMaxMask ? tiles_of(s, g.level, x0, y0, x1, y1) : ~uint64_t{0};
  if (mask == 0) return 0;
  job.work.rects[at] = {static_cast<unsigned char>(x0), static_cast<unsigned char>(y0),
                        static_cast<unsigned char>(x1), static_cast<unsigned char>(y1)};
  job.work.masks[at] = mask;
  const uint32_t depth = __float_as_uint(in.mean.z) - __float_as_uint(kNear), farthest = (1u << kDepthBits) - 1;
  job.work.depths[at] = depth < farthest ? depth : farthest;

  // 32 bytes, one sector of the cache: colours as halves cost 0.06 of an 8-bit level at most.
  float colour[3];
  colour_of(job, place, g.dc, in.mean, controls.view, colour);
  constexpr float kLargestHalf = 65504.0f;
  for (int c = 0; c < 3; ++c) colour[c] = min(colour[c], kLargestHalf);
  job.work.records[2 * at] = make_float4(s.u, s.v, s.qa, s.qb);
  job.work.records[2 * at + 1] = make_float4(s.qc, g.level, packed_halves(colour[0], colour[1]), packed_halves(colour[2], 0.0f));
  return area <= kMaxMask ? static_cast<uint32_t>(__popcll(mask)) : static_cast<uint32_t>(area);
}

__global__ void __launch_bounds__(kPlaces) project_gaussians(Job job) {
  __shared__ uint32_t warp_sums[kPlaces / 32];
  const int place = blockIdx.x * kPlaces + threadIdx.x, avatar = blockIdx.y;
  const size_t at = static_cast<size_t>(avatar) * job.scene.header.places + place;
  uint32_t sum = project_place(job, avatar, place, at);
  job.work.counts[at] = sum;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kFullWarp, sum, step);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  uint32_t total = 0;
  for (uint32_t part : warp_sums) total += part;
  job.work.block_sums[static_cast<size_t>(avatar) * gridDim.x + blockIdx.x] = total;
}

// The binding alone, in the world and in the scene's order.
__global__ void __launch_bounds__(kPlaces) write_bound(Job job, float* means, float* quats, float* scales) {
  const int place = blockIdx.x * kPlaces + threadIdx.x, i = job.scene.array<int>(kOrder)[place];
  if (i < 0) return;
  const Stored g = stored_at(job, place);
  const TriangleFrame<float> f = frame_of(job, 0, g.corners);
  const Vec3<float> mean = mean_in_world(f, g.mean);
  const float4 q = job.scene.array<float4>(kQuats)[place];
  const Quat<float> turn = quat_from_columns(f.a0, f.a1, f.a2) * Quat<float>{q.x, q.y, q.z, q.w};
  const float* scale = job.scene.array<float>(kScales) + place;
  means[3 * i] = mean.x, means[3 * i + 1] = mean.y, means[3 * i + 2] = mean.z;
  quats[4 * i] = turn.w, quats[4 * i + 1] = turn.x, quats[4 * i + 2] = turn.y, quats[4 * i + 3] = turn.z;
  for (int k = 0; k < 3; ++k) scales[3 * i + k] = scale[static_cast<size_t>(k) * job.scene.header.places] * f.k;
}

}  // namespace

cudaError_t launch_project(const Job& job, cudaStream_t stream) {
  return launch(project_gaussians, dim3(job.scene.header.places / kPlaces, job.avatars), kPlaces, stream, job);
}

cudaError_t launch_bound(const Job& job, float* means, float* quats, float* scales, cudaStream_t stream) {
  return launch(write_bound, dim3(job.scene.header.places / kPlaces), kPlaces, stream, job, means, quats, scales);
}

}  // namespace emotag::cuda
