#include "kernels.h"

namespace emotag::encoder {

const Kernels* find_kernels(const std::string& name) {
  static const Kernels* const all[] = {
#if defined(__x86_64__)
      &kAvx512Kernels, &kAvx2Kernels,
#endif
      &kPlainKernels};
  for (const Kernels* kernels : all)
    if ((name == "auto" || name == kernels->name) && kernels->supported()) return kernels;
  return nullptr;
}

}  // namespace emotag::encoder
