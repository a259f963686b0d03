#include "simd/plain.h"
#include "variant_table.h"

namespace emotag {

const Variant kPlainVariant = make_variant<simd::Plain>("plain", [] { return true; });

}  // namespace emotag
