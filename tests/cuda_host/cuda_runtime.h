// Stands in for CUDA's header of this name, so that g++ compiles the kernels as they are and they run on the host.
//
// Each thread of a block is a fiber; blocks run one after another. What is checked while they run: that every thread of
// a block reaches the same __syncthreads, and every lane of a warp the same vote or shuffle (all lanes take part), and
// that nobody leaves while others wait. A seed shuffles the order of blocks and of threads. Shared memory starts every
// block filled with 0xff. Not covered: the memory model, the GPU's own rounding, occupancy, speed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#if defined(__SANITIZE_ADDRESS__)  // its own section would cost it the red zones
#define __shared__ static
#else
#define __shared__ static __attribute__((section("cuda_host_shared")))
#endif

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct float3 { float x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorLaunchOutOfResources = 701,
};
using cudaStream_t = void*;
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

extern dim3 blockDim, gridDim;

namespace cuda_host {

struct Place {
  dim3 thread, block;
};
extern Place* here;          // of the fiber that runs

cudaError_t launch(const cudaLaunchConfig_t& config, const std::function<void()>& kernel);
cudaError_t pending_error();  // what a test asked to fail with

// Waits for the block; returns how many threads said yes.
int block_barrier(bool yes, const char* file, int line);
// Waits for the warp; returns what its 32 lanes brought.
const uint64_t* warp_exchange(unsigned mask, uint64_t value, const char* file, int line);
unsigned lane();

template <class T>
T shuffle(unsigned mask, T value, unsigned source, const char* file, int line) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = warp_exchange(mask, bits, file, line)[source];
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace cuda_host

#define threadIdx (cuda_host::here->thread)
#define blockIdx (cuda_host::here->block)
#define CUDA_HOST_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDA_HOST_SITE) { cuda_host::block_barrier(true, file, line); }
inline int __syncthreads_count(int yes, CUDA_HOST_SITE) { return cuda_host::block_barrier(yes != 0, file, line); }
inline void __syncwarp(unsigned mask = ~0u, CUDA_HOST_SITE) { cuda_host::warp_exchange(mask, 0, file, line); }
inline unsigned __ballot_sync(unsigned mask, int yes, CUDA_HOST_SITE) {
  const uint64_t* lanes = cuda_host::warp_exchange(mask, yes != 0, file, line);
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i) votes |= static_cast<unsigned>(lanes[i]) << i;
  return votes;
}
inline int __all_sync(unsigned mask, int yes, CUDA_HOST_SITE) { return __ballot_sync(mask, yes, file, line) == ~0u; }
inline int __any_sync(unsigned mask, int yes, CUDA_HOST_SITE) { return __ballot_sync(mask, yes, file, line) != 0; }
template <class T>
T __shfl_sync(unsigned mask, T value, int source, CUDA_HOST_SITE) {
  return cuda_host::shuffle(mask, value, source & 31, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, CUDA_HOST_SITE) {
  return cuda_host::shuffle(mask, value, cuda_host::lane() ^ bits, file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, CUDA_HOST_SITE) {
  const unsigned me = cuda_host::lane();
  return cuda_host::shuffle(mask, value, me < by ? me : me - by, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, CUDA_HOST_SITE) {
  const unsigned me = cuda_host::lane();
  return cuda_host::shuffle(mask, value, me + by > 31 ? me : me + by, file, line);
}

// Fibers take turns only at barriers, so a plain update is atomic.
template <class T>
T atomicAdd(T* to, T value) {
  const T old = *to;
  *to = old + value;
  return old;
}

template <class T>
T __ldg(const T* from) { return *from; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __float_as_uint(float x) { unsigned u; std::memcpy(&u, &x, 4); return u; }
inline int __float_as_int(float x) { int i; std::memcpy(&i, &x, 4); return i; }
inline float __int_as_float(int i) { float x; std::memcpy(&x, &i, 4); return x; }
inline float __uint_as_float(unsigned u) { float x; std::memcpy(&x, &u, 4); return x; }

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  return cuda_host::launch(*config, [&] { kernel(arguments...); });
}
inline cudaError_t cudaGetDevice(int* device) { *device = 0; return cuda_host::pending_error(); }
inline const char* cudaGetErrorString(cudaError_t) { return "an error that a test asked for"; }
