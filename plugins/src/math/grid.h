// The tri-plane hash grid of the mouth: one plane, one level, one channel.
#pragma once

#include "../constants.h"
#include "hd.h"

namespace emotag {

// A level of the grid. Dense at these sizes; an index beyond the table wraps, as the hashed original does.
struct GridLevel {
  float scale;       // 2^(level·S)·base - 1
  int stride;        // resolution + 1
  int offset, size;  // rows of the table that belong to the level
};

// Bilinear value at (x, y) in [0, 1]²; 0 outside.
EMOTAG_HD float grid_lookup(const float* table, const GridLevel& level, float x, float y) {
  if (!(x >= 0.0f && x <= 1.0f && y >= 0.0f && y <= 1.0f)) return 0.0f;
  const float px = x * level.scale + 0.5f, py = y * level.scale + 0.5f;
  const float fx = ::floorf(px), fy = ::floorf(py), wx = px - fx, wy = py - fy;
  const unsigned size = static_cast<unsigned>(level.size), stride = static_cast<unsigned>(level.stride);
  const unsigned corner = static_cast<unsigned>(fx) + static_cast<unsigned>(fy) * stride;
  const float* t = table + level.offset;
  const float low = t[corner % size] * (1.0f - wx) + t[(corner + 1) % size] * wx;
  const float high = t[(corner + stride) % size] * (1.0f - wx) + t[(corner + stride + 1) % size] * wx;
  return low * (1.0f - wy) + high * wy;
}

}  // namespace emotag
