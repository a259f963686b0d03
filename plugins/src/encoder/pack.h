// Matrices as files hold them, packed for the kernels.
#pragma once

#include "arena.h"
#include "product.h"

namespace emotag::encoder {

// [outputs][taps · channels], one scale and one bias an output. levels: of the rows that it is multiplied with.
struct ProductArrays {
  int outputs, taps, channels, levels;
  const int8_t* weights;
  const float* scale;
  const float* bias;
};

// The same as floats. Weights may lie in any order: the next output and the next input are so many floats further.
struct FloatArrays {
  int outputs, taps, channels;
  const float* weights;
  int64_t output_step, input_step;
  const float* bias;
};

// Of several taps, each is padded. Throws std::invalid_argument if a row of so many levels could make a sum of eight
// products exceed 16 bits, std::bad_alloc.
Product pack(const ProductArrays& arrays, Arena* arena);
Product pack(const FloatArrays& arrays, Arena* arena);

}  // namespace emotag::encoder
