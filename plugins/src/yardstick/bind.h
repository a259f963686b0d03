#pragma once

#include <nanobind/nanobind.h>

namespace emotag {

void define_yardstick(nanobind::module_& m);

}  // namespace emotag
