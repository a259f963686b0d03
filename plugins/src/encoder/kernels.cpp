#include "kernels.h"

namespace emotag::encoder {

const std::vector<const Kernels*>& all_kernels() {
  static const std::vector<const Kernels*> all = {
#if defined(__x86_64__)
      &kVnniKernels, &kAvx512Kernels, &kAvx2Kernels,
#endif
      &kPlainKernels};
  return all;
}

const Kernels* find_kernels(const std::string& name) {
  for (const Kernels* kernels : all_kernels())
    if ((name == "auto" || name == kernels->name) && kernels->supported()) return kernels;
  return nullptr;
}

}  // namespace emotag::encoder
