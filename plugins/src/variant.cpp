#include "variant.h"

namespace emotag {

const std::vector<const Variant*>& variants() {
  static const std::vector<const Variant*> all = {
#if defined(__x86_64__)
      &kAvx512Variant, &kAvx2Variant,
#endif
      &kPlainVariant};
  return all;
}

const Variant* find_variant(const std::string& name) {
  for (const Variant* variant : variants())
    if ((name == "auto" || name == variant->name) && variant->supported()) return variant;
  return nullptr;
}

}  // namespace emotag
