#include "lanes_vnni.h"
#include "loops.h"

namespace emotag::encoder {

const Kernels kVnniKernels = make_kernels<VnniLanes>("avx512vnni", [] {
  return __builtin_cpu_supports("avx512vnni") && kAvx512Kernels.supported();
});

}  // namespace emotag::encoder
