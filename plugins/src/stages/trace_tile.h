// Training: the pixels of one tile, what a Gaussian does to them, and which of them it reaches.
#pragma once

#include "../trace.h"
#include "../math/blend.h"
#include "../simd/plain.h"
#include "hits.h"

namespace emotag {

// A strip is half a block, two rows: the 64 of a span are the bits of a word, bit 2·block + half.
constexpr int kStripPixels = kBlockPixels / 2;
static_assert(2 * kBlocksInTile == 64, "a span's strips are the bits of a word");

constexpr int channel_field(int c) { return c < kColours ? kRed + c : kFeature + c - kColours; }

// A block's corner in the picture.
struct Corner {
  int x, y;
};

static inline Corner corner_of(const View& view, int tile, int block) {
  return {tile % view.tiles_x() * constants::kSpan + block % kBlockColumns * constants::kBlock,
          tile / view.tiles_x() * constants::kTile + block / kBlockColumns * constants::kBlock};
}

// How many pixels of a block are inside the picture, along one axis.
static inline int inside(int corner, int side) {
  const int left = side - corner;
  return left < 0 ? 0 : left < constants::kBlock ? left : constants::kBlock;
}

// A row of a block, of which `width` pixels are in the picture; the others are zero.
template <class Row>
static EMOTAG_INLINE Row load_row(const float* from, int width) {
  if (width == Row::width) return Row::loadu(from);
  float row[Row::width] = {};
  for (int x = 0; x < width; ++x) row[x] = from[x];
  return Row::loadu(row);
}

template <class Row>
static EMOTAG_INLINE void store_row(float* to, Row row, int width) {
  if (width == Row::width) return Row::store(to, row);
  float pixels[Row::width];
  Row::store(pixels, row);
  for (int x = 0; x < width; ++x) to[x] = pixels[x];
}

// Ones for the pixels of a row that are in the picture, zero for the others.
template <class Row>
static EMOTAG_INLINE Row first_of(int width) {
  return keep(Row::block_x() < Row(static_cast<float>(width)), Row(1.0f));
}

template <class F>
static EMOTAG_INLINE F alpha_at(F level) {
  return keep_unless_negative(level, precise_alpha_of(level));
}

// One Gaussian over one vector of pixels: what it takes, and what it leaves.
template <class F>
struct Step {
  F alpha, after, weight;  // alpha before it is cut at kAlphaMax
  typename F::Mask goes;   // the pixel does not stop here

  EMOTAG_INLINE Step(F opacity, F transmittance) : alpha(opacity) {
    const F taken = min(alpha, F(constants::kAlphaMax)) * transmittance;
    after = transmittance - taken;
    goes = after >= F(constants::kStopTransmittance);
    weight = keep(goes, taken);
  }
};

}  // namespace emotag
