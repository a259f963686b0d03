#include "lanes_plain.h"
#include "loops.h"

namespace emotag::encoder {

const Kernels kPlainKernels = make_kernels<PlainLanes>("plain", [] {
  return true;
});

}  // namespace emotag::encoder
