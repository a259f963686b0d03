// Products of a few rows with a matrix of constants, in 8 bits or as floats.
//
// In 8 bits a row is quantised when it is needed: x ≈ (q - zero) · scale with 0 ≤ q ≤ levels. Weights are signed bytes with one
// scale a column. But for VNNI, sixteen products of a column are added up in two sums of 16 bits, eight each, before they are
// widened, so the weights must be such that no row can make such a sum overflow; `pack` refuses others.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../math/hd.h"

namespace emotag::encoder {

constexpr int kLanes = 16;       // columns of a panel, inputs of a group, and what every row of floats is padded to
constexpr int kMostRows = 10;    // that a tile is made of; more rows are done in several tiles
constexpr int kPanelGroup = 256; // bytes of one panel and one group: [4][16 columns][4 inputs]
constexpr int kFloatBlock = 128; // inputs of a panel of floats that all rows meet before the next ones: 8 KB of weights

constexpr EMOTAG_INLINE int padded(int count) { return (count + kLanes - 1) / kLanes * kLanes; }

// y[outputs] = (weights · x) · scale + bias. All arrays are padded to whole panels with zeros.
struct Product {
  int inputs = 0, outputs = 0;     // as stored, inputs padded
  int groups = 0, panels = 0;      // of 16 inputs, of 16 outputs
  float levels = 0;                // of its rows
  const int8_t* weights = nullptr; // [panel][group][4][16][4]
  const int32_t* sums = nullptr;   // of the weights of a column
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* floats = nullptr;   // [panel][inputs][16]; where there are any, bytes, sums, scale and levels are not
};

// Rows as bytes: [group][row][16], so that a group of all rows lies together. Or as they are, for products of floats.
struct Rows {
  uint8_t* bytes = nullptr;
  float* scale = nullptr;
  int32_t* zero = nullptr;
  int stride = 0;  // bytes of a group
  const float* floats = nullptr;
  size_t float_stride = 0;  // floats of a row
};

enum class Then { kNothing, kGelu, kAdd };

// The first `rows` of `from` times a matrix. Writes, or adds to, rows of floats that are 16 · panels wide.
struct Job {
  const Product* product = nullptr;
  Rows from;
  int rows = 0;
  float* out = nullptr;
  size_t stride = 0;  // floats of a row of `out`
  Then then = Then::kNothing;
};

// (x - mean) / sqrt(variance + epsilon) · gain + bias over `count` channels; padding of gain and bias is zero.
struct Norm {
  int count = 0;
  float epsilon = 0;
  const float* gain = nullptr;
  const float* bias = nullptr;
};

}  // namespace emotag::encoder
