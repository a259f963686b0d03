// Stage 5: the pixels of one span of tiles. Its Gaussians come in groups; every block blends those that touch it.
#pragma once

#include "../frame.h"
#include "../math/blend.h"
#include "hits.h"

namespace emotag {

// Pixels of a span by block, row-major in the block: [block][transmittance, r, g, b][16].
struct alignas(64) TilePixels {
  float value[kBlocksInTile][4][kBlockPixels];
};

constexpr int kBatch64 = 2;                // groups of 64 that are loaded together
constexpr int kLoaded = kBatch64 * kGroup;

// Level of a Gaussian: a + b·x + c·y + qa·x² + qb·x·y + qc·y², from the middle of the span, where the terms are small
// enough for floats. Six vectors that are read one element at a time, and colours that stay as they came.
struct alignas(64) Group {
  float a[kLoaded], b[kLoaded], c[kLoaded], qa[kLoaded], qb[kLoaded], qc[kLoaded];
  float colour[kLoaded][4];
  Ellipses ellipses;
  uint64_t hits[kBatch64][kBlocksInTile];
};

// The members of a group that a block has still to blend, nearest first. There is no branch between the two words: one
// that is taken once in a few Gaussians is never foreseen.
struct Hits {
  uint64_t low, high;

  EMOTAG_INLINE bool any() const { return (low | high) != 0; }
  EMOTAG_INLINE int take() {
    const bool in_low = low != 0;
    const uint64_t word = in_low ? low : high;
    const int first = __builtin_ctzll(word) + (in_low ? 0 : kGroup);
    high = in_low ? high : high & (high - 1);
    low = low & (low - 1);
    return first;
  }
};

constexpr float kMiddleX = constants::kSpan / 2.0f, kMiddleY = constants::kTile / 2.0f;

// Loads members [first, last), at most 64, of a group and finds their blocks; (x, y) is the span's corner.
template <class F>
static EMOTAG_INLINE void load_members(const Frame& frame, const int32_t* list, int first, int last, float x, float y,
                                       unsigned done, Group* group) {
  for (int at = first; at < last; at += F::width) {
    const int32_t* const member = list + at;  // those behind the last exist and count for nothing
    prefetch_records(frame, member + F::width, F::width);
    F r[simd::kRecord];
    simd::load_records<F, kRed>(frame.records.data(), member, r);
    for (int i = 0; i < F::width; ++i)
      memcpy(group->colour[at + i], frame.records.data() + static_cast<int64_t>(member[i]) * simd::kRecord + kRed,
             sizeof group->colour[0]);
    const F u = r[kU] - F(x + kMiddleX), v = r[kV] - F(y + kMiddleY);
    const F b = -fma(r[kQa] + r[kQa], u, r[kQb] * v), c = -fma(r[kQc] + r[kQc], v, r[kQb] * u);
    F::store(group->a + at, fma(F(-0.5f), fma(b, u, c * v), r[kRecordLevel]));
    F::store(group->b + at, b);
    F::store(group->c + at, c);
    F::store(group->qa + at, r[kQa]);
    F::store(group->qb + at, r[kQb]);
    F::store(group->qc + at, r[kQc]);
    store_ellipses(r, x, y, at - first, &group->ellipses);
  }
  collect_hits<F>(group->ellipses, last - first, done, group->hits[first / kGroup]);
}

// The levels of one Gaussian at the pixels of a block.
template <class F>
struct Levels {
  static constexpr int kVectors = kBlockPixels / F::width;
  F value[kVectors];

  EMOTAG_INLINE void set(const Group& group, int j, F x, const F (&y)[kVectors]) {
    const F base = fma(x, fma(x, F(group.qa[j]), F(group.b[j])), F(group.a[j]));
    const F slope = fma(x, F(group.qb[j]), F(group.c[j])), qc(group.qc[j]);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) value[i] = fma(y[i], fma(y[i], qc, slope), base);
  }
};

// One Gaussian over the pixels of a block. The loops are over registers: they must be unrolled, and what a loop needs is
// loaded just before it, since there are only sixteen.
template <class F, int Vectors>
static EMOTAG_INLINE void blend_gaussian(const float* colour, const Levels<F>& level, Pixel<F> (&pixel)[Vectors]) {
  F weight[Vectors];
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) weight[i] = weight_of(level.value[i]) * pixel[i].transmittance;
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) pixel[i].transmittance = pixel[i].transmittance - weight[i];
  const F r(colour[0]);
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) pixel[i].r = fma(weight[i], r, pixel[i].r);
  const F g(colour[1]);
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) pixel[i].g = fma(weight[i], g, pixel[i].g);
  const F b(colour[2]);
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) pixel[i].b = fma(weight[i], b, pixel[i].b);
}

template <class F, int Vectors>
static EMOTAG_INLINE bool all_below(const Pixel<F> (&pixel)[Vectors], F stop) {
  F most = pixel[0].transmittance;
#pragma GCC unroll 4
  for (int i = 1; i < Vectors; ++i) most = max(most, pixel[i].transmittance);
  return bits(most >= stop) == 0;
}

// Loads and stores a block's pixels.
template <class F, int Vectors>
static EMOTAG_INLINE void load_pixels(const float (*value)[kBlockPixels], Pixel<F> (&pixel)[Vectors]) {
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i)
    pixel[i] = {F::load(value[0] + i * F::width), F::load(value[1] + i * F::width), F::load(value[2] + i * F::width),
                F::load(value[3] + i * F::width)};
}
template <class F, int Vectors>
static EMOTAG_INLINE void store_pixels(const Pixel<F> (&pixel)[Vectors], float (*value)[kBlockPixels]) {
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) {
    F::store(value[0] + i * F::width, pixel[i].transmittance);
    F::store(value[1] + i * F::width, pixel[i].r);
    F::store(value[2] + i * F::width, pixel[i].g);
    F::store(value[3] + i * F::width, pixel[i].b);
  }
}

// What would still come behind these pixels counts as more of the same.
template <class F, int Vectors>
static EMOTAG_INLINE void fill_up(Pixel<F> (&pixel)[Vectors]) {
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) {
    const F scale = rcp(F(1.0f) - pixel[i].transmittance);
    pixel[i] = {F(0.0f), pixel[i].r * scale, pixel[i].g * scale, pixel[i].b * scale};
  }
}

// Blends the Gaussians of one block, whose corner (x, y) is relative to the middle of the span; true if nothing behind
// them can be seen. The levels of the next one are computed while this one is blended: a processor can look ahead only as
// far as it has registers, which is about three Gaussians.
template <class F>
static EMOTAG_INLINE bool blend_block(const Group& group, Hits hits, F x, const F (&y)[kBlockPixels / F::width],
                                      float (*value)[kBlockPixels]) {
  const F stop(constants::kStopDrawing);
  Pixel<F> pixel[kBlockPixels / F::width];
  load_pixels(value, pixel);
  int j = hits.take();
  Levels<F> level, next;
  level.set(group, j, x, y);
  bool opaque = false;
  while (hits.any() && !opaque) {
    const int after = hits.take();
    next.set(group, after, x, y);
    blend_gaussian(group.colour[j], level, pixel);
    opaque = all_below(pixel, stop);
    j = after;
    level = next;
  }
  if (!opaque) {
    blend_gaussian(group.colour[j], level, pixel);
    opaque = all_below(pixel, stop);
  }
  if (opaque) fill_up(pixel);
  store_pixels(pixel, value);
  return opaque;
}

template <class F>
static EMOTAG_INLINE void clear_pixels(TilePixels* pixels, int blocks) {
  for (int s = 0; s < blocks; ++s)
    for (int i = 0; i < kBlockPixels; i += F::width)
      for (int c = 0; c < 4; ++c) F::store(pixels->value[s][c] + i, F(c == 0 ? 1.0f : 0.0f));
}

// Blends a group into the blocks of a span; returns which blocks are done.
template <class F>
static EMOTAG_INLINE unsigned blend_group(const Group& group, unsigned done, TilePixels* pixels) {
  constexpr int kVectors = kBlockPixels / F::width;
  for (int row = 0; row < kBlockRows; ++row) {
    F y[kVectors];
    for (int i = 0; i < kVectors; ++i)
      y[i] = F::block_y() + F(static_cast<float>(row * constants::kBlock + i * constants::kBlock / kVectors) - kMiddleY);
    for (int column = 0; column < kBlockColumns; ++column) {
      const int s = row * kBlockColumns + column;
      const Hits hits = {group.hits[0][s], group.hits[1][s]};
      if (!hits.any() || (done >> s & 1u) != 0) continue;
      const F x = F::block_x() + F(static_cast<float>(column * constants::kBlock) - kMiddleX);
      if (blend_block(group, hits, x, y, pixels->value[s])) done |= 1u << s;
    }
  }
  return done;
}

// Blends the Gaussians of span number `tile`, whose corner is (x, y).
template <class F>
void blend_tile(const Frame& frame, int tile, float x, float y, TilePixels* pixels) {
  clear_pixels<F>(pixels, kBlocksInTile);
  Group group;
  unsigned done = 0;
  const uint32_t end = frame.tile_begin[tile + 1];
  for (uint32_t k = frame.tile_begin[tile]; k < end && done != kAllDone; k += kLoaded) {
    const int count = end - k < kLoaded ? static_cast<int>(end - k) : kLoaded;
    const int32_t* list = frame.list.data() + k;
    load_members<F>(frame, list, 0, count < kGroup ? count : kGroup, x, y, done, &group);
    load_members<F>(frame, list, kGroup, count < kGroup ? kGroup : count, x, y, done, &group);
    done = blend_group<F>(group, done, pixels);
  }
}

}  // namespace emotag
