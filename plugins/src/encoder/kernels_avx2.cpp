#include "lanes_avx2.h"
#include "loops.h"

namespace emotag::encoder {

const Kernels kAvx2Kernels = make_kernels<Avx2Lanes>("avx2", [] {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
});

}  // namespace emotag::encoder
