// The tri-plane hash grid of the mouth: one plane, one level, one channel.
#pragma once

#include "../constants.h"
#include "hd.h"

namespace emotag {

// A level of the grid. Every level has at least (resolution + 1)² rows, so no index ever wraps: never hashed.
struct GridLevel {
  float scale;       // 2^(level·S)·base - 1
  int stride;        // resolution + 1
  int offset;        // first row of the table that belongs to the level
};

// Level number `level`, whose rows begin at `offset`.
inline GridLevel grid_level(int level, int offset) {
  const double growth = std::log2(static_cast<double>(constants::kGridFinest) / constants::kGridBase) / 11.0;
  const float scale = static_cast<float>(std::exp2(level * growth) * constants::kGridBase - 1.0);
  return {scale, static_cast<int>(std::ceil(scale)) + 2, offset};
}

// Bilinear value at (x, y) in [0, 1]²; 0 outside.
EMOTAG_HD float grid_lookup(const float* table, const GridLevel& level, float x, float y) {
  if (!(x >= 0.0f && x <= 1.0f && y >= 0.0f && y <= 1.0f)) return 0.0f;
  const float px = x * level.scale + 0.5f, py = y * level.scale + 0.5f;
  const float fx = ::floorf(px), fy = ::floorf(py), wx = px - fx, wy = py - fy;
  const float* t = table + level.offset + static_cast<int>(fx) + static_cast<int>(fy) * level.stride;
  const float low = t[0] * (1.0f - wx) + t[1] * wx;
  const float high = t[level.stride] * (1.0f - wx) + t[level.stride + 1] * wx;
  return low * (1.0f - wy) + high * wy;
}

// The same for a vector of points.
template <class T>
EMOTAG_HD T grid_lookup_of(const float* table, const GridLevel& level, T x, T y) {
  const T zero(0.0f), one(1.0f), half(0.5f), scale(level.scale);
  const T px = fma(min(max(x, zero), one), scale, half), py = fma(min(max(y, zero), one), scale, half);
  const T fx = truncate(px), fy = truncate(py), wx = px - fx, wy = py - fy;
  alignas(64) int32_t at[T::width];
  T::store_int(at, fma(fy, T(static_cast<float>(level.stride)), fx));
  const float* low_row = table + level.offset;
  const float* high_row = low_row + level.stride;
  T low, low_right, high, high_right;
  T::gather_pairs(low_row, at, &low, &low_right);
  T::gather_pairs(high_row, at, &high, &high_right);
  const T from = fma(wx, low_right - low, low), to = fma(wx, high_right - high, high);
  return keep(both(both(x >= zero, x <= one), both(y >= zero, y <= one)), fma(wy, to - from, from));
}

}  // namespace emotag
