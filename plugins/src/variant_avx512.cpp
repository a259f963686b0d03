#include "simd/avx512.h"
#include "variant_table.h"

// Compiled everywhere, chosen at run time. The machine it was written on has no AVX-512: it has run in an emulator alone
// (`make test-avx512`; docs/performance.md says what); the tests run it wherever it is supported.
namespace emotag {

const Variant kAvx512Variant = make_variant<simd::Avx512>("avx512", [] {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
});

}  // namespace emotag
