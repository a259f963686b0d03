// Kernels with mistakes that the emulation must find, and one that is right.
#include <cuda_runtime.h>

namespace {

__global__ void reverse(const float* in, float* out, bool wait) {
  __shared__ float all[64];
  all[threadIdx.x] = in[threadIdx.x];
  if (wait) __syncthreads();
  out[threadIdx.x] = all[63 - threadIdx.x];
}

__global__ void split_barrier(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
    out[0] = 1;
  } else {
    __syncthreads();
    out[1] = 2;
  }
}

__global__ void leave_early(float* out) {
  if (threadIdx.x == 5) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void vote_apart(float* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = static_cast<float>(__ballot_sync(~0u, 1));
}

__global__ void warp_sum(const float* in, float* out) {
  float sum = in[threadIdx.x];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(~0u, sum, step);
  float up = in[threadIdx.x];
  for (int step = 1; step < 32; step *= 2) {
    const float before = __shfl_up_sync(~0u, up, step);
    if (threadIdx.x % 32 >= static_cast<unsigned>(step)) up += before;
  }
  if (threadIdx.x % 32 == 0) atomicAdd(out + 64, sum);
  out[threadIdx.x] = up;
}

template <class... Parameters, class... Arguments>
int run(void (*kernel)(Parameters...), unsigned threads, Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1);
  config.blockDim = dim3(threads);
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace

extern "C" int run_reverse(const float* in, float* out, int wait) { return run(reverse, 64, in, out, wait != 0); }
extern "C" int run_split_barrier(float* out) { return run(split_barrier, 64, out); }
extern "C" int run_leave_early(float* out) { return run(leave_early, 64, out); }
extern "C" int run_vote_apart(float* out) { return run(vote_apart, 64, out); }
extern "C" int run_warp_sum(const float* in, float* out) { return run(warp_sum, 64, in, out); }
extern "C" int run_too_many(float* out) { return run(leave_early, 2048, out); }
