// Stage 5: the pixels of one span of tiles. Its Gaussians come in groups; every block blends those that touch it.
#pragma once

#include "../frame.h"
#include "hits.h"

namespace emotag {

// Pixels of a span by block, row-major in the block: [block][transmittance, r, g, b][16].
template <class P>
struct alignas(64) TilePixels {
  typename P::Number value[kBlocksInTile][4][kBlockPixels];
};

constexpr int kBatch64 = 2;                // groups of 64 that are loaded together
constexpr int kLoaded = kBatch64 * kGroup;

// Level of a Gaussian: a + b·x + c·y + qa·x² + qb·x·y + qc·y², from the middle of the span, where the terms are small
// enough for floats. Read one element at a time, as are the colours.
template <class P>
struct alignas(64) Group {
  float a[kLoaded], b[kLoaded], c[kLoaded], qa[kLoaded], qb[kLoaded], qc[kLoaded];
  alignas(64) typename P::Colour colour[3][kLoaded];
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

constexpr int kAhead = 3;  // vectors whose records are on their way while one is loaded: the third cache is that far
static_assert((kAhead + 1) * kLanes <= kListMargin);

// Half the width of a record's ellipse, to a hundredth for needles of up to 800 pixels; of longer ones the determinant is lost
// in rounding, and where nothing of it is left they count as large.
template <class F>
static EMOTAG_INLINE F half_width(const F* r) {
  const F determinant = fma(r[kQa], r[kQc], r[kQb] * r[kQb] * F(-0.25f));
  const F square = min(-r[kRecordLevel] * r[kQc] * rcp(max(determinant, F(1e-30f))), F(1e12f));
  return square * rsqrt_rough(max(square, F(1e-12f)));
}

// Loads members [first, last), at most 64, of a group and finds their blocks; (x, y) is the span's corner.
template <class F, class P>
static EMOTAG_INLINE void load_members(const Frame& frame, const int32_t* list, int first, int last, float x, float y,
                                       unsigned done, Group<P>* group) {
  const F unit(P::kLevelUnit), bias(P::kLevelUnit * P::kLevelBias);
  for (int at = first; at < last; at += F::width) {
    const int32_t* const member = list + at;  // those behind the last exist and count for nothing
    prefetch_records<kRecordFields>(frame.records.data(), member + kAhead * F::width, F::width);
    F r[kRecordFields];
    simd::load_records<F, kRecordFields, kRecordFields>(frame.records.data(), member, r);
    P::load_colours(frame, member, r, at, group->colour);
    const F qa = r[kQa] * unit, qb = r[kQb] * unit, qc = r[kQc] * unit;
    const F u = r[kU] - F(x + kMiddleX), v = r[kV] - F(y + kMiddleY);
    const F b = -fma(qa + qa, u, qb * v), c = -fma(qc + qc, v, qb * u);
    F::store(group->a + at, fma(F(-0.5f), fma(b, u, c * v), fma(r[kRecordLevel], unit, bias)));
    F::store(group->b + at, b);
    F::store(group->c + at, c);
    F::store(group->qa + at, qa);
    F::store(group->qb + at, qb);
    F::store(group->qc + at, qc);
    store_ellipses(r, half_width(r), F::fourth_byte(r[kBlueTiles]), F::third_byte(r[kBlueTiles]), x, y, at - first,
                   &group->ellipses);
  }
  collect_hits<F>(group->ellipses, last - first, done, group->hits[first / kGroup]);
}

// The levels of member j at the pixels of a block.
template <class F, class P>
static EMOTAG_INLINE void set_level(const Group<P>& group, int j, F x, const F (&y)[P::kVectors], typename P::Level* level) {
  const F base = fma(x, fma(x, F(group.qa[j]), F(group.b[j])), F(group.a[j]));
  const F slope = fma(x, F(group.qb[j]), F(group.c[j])), qc(group.qc[j]);
  F value[P::kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < P::kVectors; ++i) value[i] = fma(y[i], fma(y[i], qc, slope), base);
  level->set(value);
}

// Blends the Gaussians of one block, whose corner (x, y) is relative to the middle of the span; true if nothing behind
// them can be seen. The levels of the next one are computed while this one is blended: a processor can look ahead only as
// far as it has registers, which is about three Gaussians.
template <class F, class P>
static EMOTAG_INLINE bool blend_block(const Group<P>& group, Hits hits, F x, const F (&y)[P::kVectors],
                                      typename P::Number (*value)[kBlockPixels]) {
  P pixels;
  pixels.load(value);
  int j = hits.take();
  typename P::Level level, next;
  set_level<F, P>(group, j, x, y, &level);
  bool opaque = false;
  while (hits.any() && !opaque) {
    const int after = hits.take();
    set_level<F, P>(group, after, x, y, &next);
    pixels.blend(group.colour, j, level);
    opaque = pixels.opaque();
    j = after;
    level = next;
  }
  if (!opaque) {
    pixels.blend(group.colour, j, level);
    opaque = pixels.opaque();
  }
  if (opaque) pixels.fill_up();
  pixels.store(value);
  return opaque;
}

// Blends a group into the blocks of a span; returns which blocks are done.
template <class F, class P>
static EMOTAG_INLINE unsigned blend_group(const Group<P>& group, unsigned done, TilePixels<P>* pixels) {
  for (int row = 0; row < kBlockRows; ++row) {
    F y[P::kVectors];
    for (int i = 0; i < P::kVectors; ++i) y[i] = P::row(i) + F(static_cast<float>(row * constants::kBlock) - kMiddleY);
    for (int column = 0; column < kBlockColumns; ++column) {
      const int s = row * kBlockColumns + column;
      const Hits hits = {group.hits[0][s], group.hits[1][s]};
      if (!hits.any() || (done >> s & 1u) != 0) continue;
      const F x = F::block_x() + F(static_cast<float>(column * constants::kBlock) - kMiddleX);
      if (blend_block<F, P>(group, hits, x, y, pixels->value[s])) done |= 1u << s;
    }
  }
  return done;
}

// Blends the Gaussians of span number `tile`, whose corner is (x, y).
template <class F, class P>
void blend_tile(const Frame& frame, int tile, float x, float y, TilePixels<P>* pixels) {
  for (int s = 0; s < kBlocksInTile; ++s) P::erase(pixels->value[s]);
  Group<P> group;
  unsigned done = 0;
  const uint32_t end = frame.tile_begin[tile + 1];
  for (uint32_t k = frame.tile_begin[tile]; k < end && done != kAllDone; k += kLoaded) {
    const int count = end - k < kLoaded ? static_cast<int>(end - k) : kLoaded;
    const int32_t* list = frame.list.data() + k;
    load_members<F, P>(frame, list, 0, count < kGroup ? count : kGroup, x, y, done, &group);
    load_members<F, P>(frame, list, kGroup, count < kGroup ? kGroup : count, x, y, done, &group);
    done = blend_group<F, P>(group, done, pixels);
  }
}

}  // namespace emotag
