// Step 5: the pixels. One block for each 16×16 tile; each of its eight warps owns 8×4 pixels.
#include "../src/math/blend.h"
#include "../src/math/ellipse.h"
#include "frame.cuh"

namespace emotag::cuda {
namespace {

using namespace constants;

constexpr int kWarpWidth = 8, kWarpHeight = 4;   // pixels
constexpr int kHitsPerVote = 4;                  // Gaussians between two looks whether the warp's pixels are opaque
constexpr float kSlack = 0.02f;                  // pixels

// Gaussians of a tile that the whole block loads together, nearest first.
struct Batch {
  float4 place[kThreads];    // u, v, qa, qb
  float4 look[kThreads];     // qc, level, red and green, blue
};

// Whether a Gaussian's ellipse touches the warp's pixels.
__device__ bool touches(const float4& place, const float4& look, float x, float y) {
  float left, right;
  const EllipseRows rows = ellipse_rows(place.z, place.w, look.x, look.y);
  const bool there = ellipse_span(rows, y - place.y, y - place.y + (kWarpHeight - 1), kSlack, &left, &right);
  return there && place.x + right >= x && place.x + left <= x + (kWarpWidth - 1);
}

__device__ float2 halves_of(float packed) {
  return __half22float2(*reinterpret_cast<const __half2*>(&packed));
}

__device__ void blend_one(const float4& place, const float4& look, float x, float y, Pixel<float>* pixel) {
  const float dx = x - place.x, dy = y - place.y;
  const float level = fma(dy, fma(look.x, dy, place.w * dx), fma(place.z * dx, dx, look.y));
  const float2 red_green = halves_of(look.z), blue = halves_of(look.w);
  blend_step(*pixel, level, red_green.x, red_green.y, blue.x);
}

// The warp's share of a batch. Each lane tests one Gaussian against the warp's pixels, and the warp then blends only
// those that a vote names: most Gaussians of a tile touch few of its warps. True once nothing behind can be seen.
__device__ bool blend_batch(const Batch& batch, int count, float warp_x, float warp_y, float x, float y, Pixel<float>* pixel) {
  const int lane = threadIdx.x % 32;
  for (int first = 0; first < count; first += 32) {
    const int mine = first + lane;
    unsigned hits = __ballot_sync(kFullWarp, mine < count && touches(batch.place[mine], batch.look[mine], warp_x, warp_y));
    while (hits != 0) {
      for (int k = 0; k < kHitsPerVote && hits != 0; ++k) {
        const int i = first + __ffs(static_cast<int>(hits)) - 1;
        hits &= hits - 1;
        blend_one(batch.place[i], batch.look[i], x, y, pixel);
      }
      if (__all_sync(kFullWarp, pixel->transmittance < kStopDrawing)) return true;
    }
  }
  return false;
}

// Red, green and blue of the background at a pixel, 0…1.
__device__ Vec3<float> background_at(const Job& job, int avatar, size_t pixel) {
  const char* image = static_cast<const char*>(job.background_image) + avatar * job.background_stride;
  if (job.background == EMOTAG_CUDA_IMAGE_U8) {
    const unsigned char* p = reinterpret_cast<const unsigned char*>(image) + 3 * pixel;
    return {p[0] / 255.0f, p[1] / 255.0f, p[2] / 255.0f};
  }
  if (job.background == EMOTAG_CUDA_IMAGE_F32) {
    const float* p = reinterpret_cast<const float*>(image) + 3 * pixel;
    return {p[0], p[1], p[2]};
  }
  const float* colour = job.controls[avatar].background;
  return {colour[0], colour[1], colour[2]};
}

__device__ uint32_t byte_of(float value) { return static_cast<uint32_t>(min(max(value * 255.0f, 0.0f), 255.0f)); }

// A pixel over its background as four bytes, truncated; without a background alpha is straight.
__device__ uint32_t packed_pixel(const Job& job, int avatar, size_t at, const Pixel<float>& p) {
  if (job.background == EMOTAG_CUDA_NO_BACKGROUND) {
    const float alpha = 1.0f - p.transmittance, scale = alpha > 0.0f ? 1.0f / max(alpha, 1e-6f) : 0.0f;
    return byte_of(p.r * scale) | byte_of(p.g * scale) << 8 | byte_of(p.b * scale) << 16 | byte_of(alpha) << 24;
  }
  const Vec3<float> under = background_at(job, avatar, at);
  return byte_of(p.r + p.transmittance * under.x) | byte_of(p.g + p.transmittance * under.y) << 8 |
         byte_of(p.b + p.transmittance * under.z) << 16 | 0xff000000u;
}

__device__ float4 float_pixel(const Job& job, int avatar, size_t at, const Pixel<float>& p) {
  Vec3<float> under = {0.0f, 0.0f, 0.0f};
  if (job.background != EMOTAG_CUDA_NO_BACKGROUND) under = background_at(job, avatar, at);
  return make_float4(p.r + p.transmittance * under.x, p.g + p.transmittance * under.y, p.b + p.transmittance * under.z,
                     1.0f - p.transmittance);
}

// Three bytes a pixel: through shared memory, so that a whole tile leaves as 32-bit words, twelve to a row, where its
// rows are whole and begin at a multiple of four.
__device__ void store_rgb8(const Job& job, int avatar, int tile_x, int tile_y, uint32_t pixel, int x, int y,
                           unsigned char* bytes) {
  const int tx = x - tile_x * kTile, ty = y - tile_y * kTile, t = threadIdx.x;
  for (int c = 0; c < 3; ++c) bytes[(ty * kTile + tx) * 3 + c] = static_cast<unsigned char>(pixel >> (8 * c));
  __syncthreads();
  unsigned char* picture =
      static_cast<unsigned char*>(job.picture) + static_cast<size_t>(avatar) * job.height * job.width * 3;
  constexpr int kWords = kTile * 3 / 4;  // of a row
  if (job.width % 4 == 0 && (tile_x + 1) * kTile <= job.width) {
    const int row = tile_y * kTile + t / kWords;
    if (t >= kWords * kTile || row >= job.height) return;
    const size_t to = (static_cast<size_t>(row) * job.width + tile_x * kTile) * 3;
    reinterpret_cast<uint32_t*>(picture + to)[t % kWords] = reinterpret_cast<const uint32_t*>(bytes)[t];
  } else if (x < job.width && y < job.height) {
    const size_t to = (static_cast<size_t>(y) * job.width + x) * 3;
    for (int c = 0; c < 3; ++c) picture[to + c] = static_cast<unsigned char>(pixel >> (8 * c));
  }
}

__device__ void store_pixel(const Job& job, int avatar, int tile_x, int tile_y, int x, int y, const Pixel<float>& p,
                            unsigned char* bytes) {
  const bool inside = x < job.width && y < job.height;
  const size_t at = inside ? static_cast<size_t>(y) * job.width + x : 0;
  if (job.pixels == EMOTAG_CUDA_RGB8)
    return store_rgb8(job, avatar, tile_x, tile_y, packed_pixel(job, avatar, at, p), x, y, bytes);
  if (!inside) return;
  const size_t to = static_cast<size_t>(avatar) * job.height * job.width + at;
  if (job.pixels == EMOTAG_CUDA_RGBA8) {
    static_cast<uint32_t*>(job.picture)[to] = packed_pixel(job, avatar, at, p);
  } else {
    static_cast<float4*>(job.picture)[to] = float_pixel(job, avatar, at, p);
  }
}

__global__ void __launch_bounds__(kThreads) blend_tiles(Job job) {
  __shared__ Batch batch;
  __shared__ __align__(16) unsigned char bytes[kTile * kTile * 3];
  if (job.work.state->overflow) return;  // the caller's pictures stay as they were
  const int t = threadIdx.x, warp = t / 32, lane = t % 32, avatar = blockIdx.y;
  const int tile_x = blockIdx.x % job.tiles_x, tile_y = blockIdx.x / job.tiles_x;
  const int warp_x = tile_x * kTile + warp % 2 * kWarpWidth, warp_y = tile_y * kTile + warp / 2 * kWarpHeight;
  const int x = warp_x + lane % kWarpWidth, y = warp_y + lane / kWarpWidth;
  const uint32_t* begin = job.work.tile_begin + static_cast<size_t>(avatar) * job.tiles + blockIdx.x;
  const uint32_t* list = job.work.values[job.sorted];

  Pixel<float> pixel = {x < job.width && y < job.height ? 1.0f : 0.0f, 0.0f, 0.0f, 0.0f};  // outside: opaque already
  bool opaque = false;                                                                     // the same in a whole warp
  const uint32_t end = begin[1];
  for (uint32_t first = begin[0]; first < end; first += kThreads) {
    if (__syncthreads_count(opaque) == kThreads) break;  // also: nobody reads the old batch any more
    const int count = end - first < kThreads ? static_cast<int>(end - first) : kThreads;
    if (t < count) {
      const float4* record = job.work.records + 2 * static_cast<size_t>(list[first + t]);
      batch.place[t] = record[0];
      batch.look[t] = record[1];
    }
    __syncthreads();
    if (!opaque)
      opaque = blend_batch(batch, count, static_cast<float>(warp_x), static_cast<float>(warp_y), static_cast<float>(x),
                           static_cast<float>(y), &pixel);
  }
  if (opaque && pixel.transmittance < 1.0f) {  // what would still come counts as more of the same
    const float scale = 1.0f / (1.0f - pixel.transmittance);
    pixel = {0.0f, pixel.r * scale, pixel.g * scale, pixel.b * scale};
  }
  store_pixel(job, avatar, tile_x, tile_y, x, y, pixel, bytes);
}

}  // namespace

cudaError_t launch_blend(const Job& job, cudaStream_t stream) {
  return launch(blend_tiles, dim3(job.tiles, job.avatars), kThreads, stream, job);
}

}  // namespace emotag::cuda
