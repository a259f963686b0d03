#include "loops.h"

namespace emotag::yardstick {
namespace {
struct Avx2 {};
}  // namespace

const Loops kAvx2 = Work<Avx2>::loops([] {
  return static_cast<bool>(__builtin_cpu_supports("avx2")) && static_cast<bool>(__builtin_cpu_supports("fma"));
});

}  // namespace emotag::yardstick
