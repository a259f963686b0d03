// What every kernel is given: the scene, the workspace and the caller's pointers, all on the device, in one argument.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "../src/math/gaussian.h"
#include "../src/math/triangle.h"
#include "blob.h"
#include "emotag_cuda.h"

namespace emotag::cuda {

constexpr int kThreads = 256;
constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kMouthBatch = 16;     // Gaussians that a block of threads puts through the network together
constexpr int kMoved = 12;          // floats of a moved Gaussian: offset 3, local covariance 6, unused 3
constexpr int kDepthBits = 28;      // of a sort key: depths from the near plane to 2^32 times as far
constexpr int kMaxMask = 64;        // tiles of a rectangle that a Gaussian's exact tiles are kept for

// The device's own record of the frame.
struct State {
  uint32_t pairs;      // in the lists; 0 after an overflow
  uint32_t overflow;
};

// The header of the blob and its arrays.
struct SceneView {
  BlobHeader header;
  const char* base;

  template <class T>
  __host__ __device__ const T* array(BlobArray which) const {
    return reinterpret_cast<const T*>(base + header.at[which]);
  }
};

struct Workspace {
  float* coefficients;   // [B][E + 36]
  float* transforms;     // [B][5][12]
  float* mouth_audio;    // [B][64]
  float4* vertices;      // [B][V]
  float4* moved;         // [B][mouth, padded to kMouthBatch][3]
  float4* records;       // [B][places][2]: u v qa qb | qc level rg b, colours as halves
  uint32_t* depths;      // [B][places]: bits of z above those of the near plane
  uchar4* rects;         // [B][places]: x0 y0 x1 y1 in tiles, inclusive
  uint64_t* masks;       // [B][places]: which tiles of the rectangle, row by row, if they are at most kMaxMask
  uint32_t* counts;      // [B][places]: tiles
  uint32_t* block_sums;  // [B·places / kPlaces]: pairs of a block of Gaussians
  uint32_t* block_begin; // [B·places / kPlaces]: where they begin in the lists
  State* state;
  uint64_t* keys[2];     // [capacity]: picture and tile, then depth
  uint32_t* values[2];   // [capacity]: record number
  uint32_t* tile_begin;  // [B·tiles + 1]
  void* sort_room;
};

struct Job {
  SceneView scene;
  Workspace work;
  int avatars, width, height, tiles_x, tiles;  // tiles: of one picture
  int pixels, background;
  bool mouth_moves;
  uint32_t capacity;
  uint32_t sorted;                             // which of the two buffers holds the sorted pairs
  const EmotagCudaControls* controls;
  const float *expression, *jaw, *encoded_audio;
  const void* background_image;
  uint64_t background_stride;
  float* vertices;                             // the caller's, or null
  void* picture;
  EmotagCudaStatus* status;
};

__device__ inline Vec3<float> vertex_at(const Job& job, int avatar, int v) {
  if (job.vertices != nullptr) {
    const float* p = job.vertices + (static_cast<size_t>(avatar) * job.scene.header.vertices + v) * 3;
    return {p[0], p[1], p[2]};
  }
  const float4 p = job.work.vertices[static_cast<size_t>(avatar) * job.scene.header.vertices + v];
  return {p.x, p.y, p.z};
}

// A Gaussian as it is stored, 64 bytes in four loads that neighbouring threads share lines of.
struct Stored {
  Vec3<float> mean;
  float level;
  float covariance[6];
  float dc[3];
  int corners[3];
};

__device__ inline Stored stored_at(const Job& job, int place) {
  const int places = job.scene.header.places;
  const float4* from = job.scene.array<float4>(kGeometry) + place;
  const float4 a = from[0], b = from[places], c = from[2 * places], d = from[3 * places];
  return {{a.x, a.y, a.z}, a.w, {b.x, b.y, b.z, b.w, c.x, c.y}, {c.z, c.w, d.x},
          {__float_as_int(d.y), __float_as_int(d.z), __float_as_int(d.w)}};
}

// The triangle is turned into a frame again for each of its Gaussians: six on average, cheaper than a launch and a trip
// through memory. It is done in the world: in the camera's coordinates, a metre away, edges of a millimetre lose digits.
__device__ inline TriangleFrame<float> frame_of(const Job& job, int avatar, const int* corners) {
  return triangle_frame(vertex_at(job, avatar, corners[0]), vertex_at(job, avatar, corners[1]),
                        vertex_at(job, avatar, corners[2]));
}

__device__ inline Vec3<float> mean_in_world(const TriangleFrame<float>& f, const Vec3<float>& local) {
  return (f.a0 * local.x + f.a1 * local.y + f.a2 * local.z) * f.k + f.centre;
}

// Where the place's moved geometry is, or -1.
__device__ inline int moved_index(const Job& job, int place) {
  const int i = place - job.scene.header.mouth_begin;
  return job.mouth_moves && i >= 0 && i < job.scene.header.mouth ? i : -1;
}

__host__ __device__ inline int padded_mouth(const BlobHeader& h) {
  return (h.mouth + kMouthBatch - 1) / kMouthBatch * kMouthBatch;
}

// The kernels' launches, one for each step; every one of them returns the runtime's answer.
cudaError_t launch_skin(const Job& job, cudaStream_t stream);
cudaError_t launch_mouth(const Job& job, cudaStream_t stream);
cudaError_t launch_project(const Job& job, cudaStream_t stream);
cudaError_t launch_sort(Job& job, size_t room, cudaStream_t stream);
cudaError_t launch_blend(const Job& job, cudaStream_t stream);
cudaError_t launch_bound(const Job& job, float* means, float* quats, float* scales, cudaStream_t stream);

// Bytes that sorting needs beside its buffers.
cudaError_t sort_room(uint32_t capacity, int key_bits, size_t* bytes);

// Bits of the keys: the padding behind the pairs sorts as one more tile.
inline int key_bits(uint64_t all_tiles) {
  int bits = kDepthBits;
  while (all_tiles >> (bits - kDepthBits) != 0) ++bits;
  return bits;
}

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, int threads, cudaStream_t stream, const Arguments&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

}  // namespace emotag::cuda
