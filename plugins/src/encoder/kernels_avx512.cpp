#include "lanes_avx512.h"
#include "loops.h"

// Compiled everywhere, chosen at run time. Like variant_avx512.cpp it has run in an emulator alone.
namespace emotag::encoder {

const Kernels kAvx512Kernels = make_kernels<Avx512Lanes>("avx512", [] {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
});

}  // namespace emotag::encoder
