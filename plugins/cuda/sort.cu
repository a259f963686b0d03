// Step 4: the pairs of a Gaussian and a tile, sorted by picture, tile and depth, and where each tile's begin.
//
// Sums and positions are computed, not claimed with atomics, and the sort is stable: equal depths keep the Gaussians'
// order, so a frame comes out the same bit for bit however the GPU schedules it.
#include <cub/device/device_radix_sort.cuh>

#include "frame.cuh"

namespace emotag::cuda {
namespace {

constexpr int kScanThreads = 1024;

// Inclusive sum over the block; every thread of it calls. `room` has a slot for each warp.
template <class T>
__device__ T block_sum_up_to(T value, T* room) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int step = 1; step < 32; step *= 2) {
    const T before = __shfl_up_sync(kFullWarp, value, step);
    if (lane >= step) value += before;
  }
  if (lane == 31) room[warp] = value;
  __syncthreads();
  for (int w = 0; w < warp; ++w) value += room[w];
  __syncthreads();
  return value;
}

// One block: from the pairs of each block of Gaussians to where they begin, the frame's state, and the caller's status.
__global__ void __launch_bounds__(kScanThreads) place_blocks(Job job, int blocks) {
  __shared__ unsigned long long room[kScanThreads / 32];
  __shared__ unsigned long long carried;
  const int t = threadIdx.x;
  if (t == 0) carried = 0;
  __syncthreads();
  for (int first = 0; first < blocks; first += kScanThreads) {
    const int i = first + t;
    const unsigned long long mine = i < blocks ? job.work.block_sums[i] : 0;
    const unsigned long long begin = carried, end = begin + block_sum_up_to(mine, room);
    if (i < blocks) job.work.block_begin[i] = static_cast<uint32_t>(end - mine);  // of no meaning after an overflow
    __syncthreads();
    if (t == kScanThreads - 1) carried = end;
    __syncthreads();
  }
  if (t != 0) return;
  const bool overflow = carried > job.capacity;
  job.work.state->pairs = overflow ? 0 : static_cast<uint32_t>(carried);
  job.work.state->overflow = overflow;
  const uint32_t frames = job.status->frames;
  *job.status = {carried, job.capacity, overflow, frames + 1, {0, 0}};
}

// Writes the pairs of one Gaussian from `to` on.
__device__ void write_pairs(const Job& job, int avatar, size_t at, uint32_t to) {
  const uchar4 r = job.work.rects[at];
  const int columns = r.z - r.x + 1, area = columns * (r.w - r.y + 1);
  const uint64_t mask = job.work.masks[at];
  const uint32_t depth = job.work.depths[at];
  for (int k = 0; k < area; ++k) {
    if (area <= kMaxMask && (mask >> k & 1) == 0) continue;
    const uint64_t tile = static_cast<uint64_t>(avatar) * job.tiles + (r.y + k / columns) * job.tiles_x + r.x + k % columns;
    job.work.keys[0][to] = tile << kDepthBits | depth;
    job.work.values[0][to] = static_cast<uint32_t>(at);
    ++to;
  }
}

// The grid of projection again. What is left of the buffers is filled with keys that sort behind all pairs: the sort is
// launched for the whole capacity, because the host does not know the count and must not wait for it.
__global__ void __launch_bounds__(kPlaces) list_pairs(Job job) {
  __shared__ uint32_t room[kPlaces / 32];
  const int place = blockIdx.x * kPlaces + threadIdx.x, avatar = blockIdx.y;
  const size_t at = static_cast<size_t>(avatar) * job.scene.header.places + place;
  const uint32_t count = job.work.counts[at];
  const uint32_t end = block_sum_up_to(count, room);
  const State state = *job.work.state;
  if (!state.overflow && count > 0)
    write_pairs(job, avatar, at, job.work.block_begin[static_cast<size_t>(avatar) * gridDim.x + blockIdx.x] + end - count);
  const uint64_t behind = static_cast<uint64_t>(job.avatars) * job.tiles << kDepthBits;
  const uint64_t threads = static_cast<uint64_t>(gridDim.x) * gridDim.y * kPlaces;
  for (uint64_t i = state.pairs + at; i < job.capacity; i += threads) {
    job.work.keys[0][i] = behind;
    job.work.values[0][i] = 0;
  }
}

// A thread for each sorted pair; the first of a tile also speaks for the empty tiles before it, the last pair for those
// behind it.
__global__ void __launch_bounds__(kThreads) find_tiles(Job job) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x, pairs = job.work.state->pairs;
  const uint32_t all = static_cast<uint32_t>(job.avatars) * job.tiles;
  const uint64_t* keys = job.work.keys[job.sorted];
  if (pairs == 0) {  // also after an overflow
    for (uint64_t tile = i; tile <= all; tile += static_cast<uint64_t>(gridDim.x) * kThreads) job.work.tile_begin[tile] = 0;
    return;
  }
  if (i >= pairs) return;
  const uint32_t tile = static_cast<uint32_t>(keys[i] >> kDepthBits);
  const uint32_t after_previous = i == 0 ? 0 : static_cast<uint32_t>(keys[i - 1] >> kDepthBits) + 1;
  for (uint32_t k = after_previous; k <= tile; ++k) job.work.tile_begin[k] = i;
  if (i + 1 == pairs)
    for (uint32_t k = tile + 1; k <= all; ++k) job.work.tile_begin[k] = pairs;
}

}  // namespace

cudaError_t sort_room(uint32_t capacity, int bits, size_t* bytes) {
  cub::DoubleBuffer<uint64_t> keys(nullptr, nullptr);
  cub::DoubleBuffer<uint32_t> values(nullptr, nullptr);
  return cub::DeviceRadixSort::SortPairs(nullptr, *bytes, keys, values, capacity, 0, bits, cudaStream_t{});
}

cudaError_t launch_sort(Job& job, size_t room, cudaStream_t stream) {
  const int blocks = job.scene.header.places / kPlaces;
  cudaError_t error = launch(place_blocks, dim3(1), kScanThreads, stream, job, blocks * job.avatars);
  if (error == cudaSuccess) error = launch(list_pairs, dim3(blocks, job.avatars), kPlaces, stream, job);
  if (error != cudaSuccess) return error;
  cub::DoubleBuffer<uint64_t> keys(job.work.keys[0], job.work.keys[1]);
  cub::DoubleBuffer<uint32_t> values(job.work.values[0], job.work.values[1]);
  error = cub::DeviceRadixSort::SortPairs(job.work.sort_room, room, keys, values, job.capacity, 0,
                                          key_bits(static_cast<uint64_t>(job.avatars) * job.tiles), stream);
  if (error != cudaSuccess) return error;
  job.sorted = static_cast<uint32_t>(keys.selector);
  return launch(find_tiles, dim3((job.capacity + kThreads - 1) / kThreads), kThreads, stream, job);
}

}  // namespace emotag::cuda
