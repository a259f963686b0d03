#include "simd/avx2.h"
#include "variant_table.h"

namespace emotag {

const Variant kAvx2Variant = make_variant<simd::Avx2>("avx2", [] {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
});

}  // namespace emotag
