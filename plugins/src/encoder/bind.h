#pragma once

#include <nanobind/nanobind.h>

namespace emotag {

void define_encoder(nanobind::module_& m);

}  // namespace emotag
