// Stage 5: the pixels of one tile. Its Gaussians come in groups of 64; for each group an exact ellipse test finds which
// 4×4 blocks each of them touches, then every block blends its own.
#pragma once

#include "../frame.h"
#include "../math/blend.h"
#include "../simd/records.h"

namespace emotag {

constexpr int kGroup = 64;
constexpr int kTileBlocks = constants::kTile / constants::kBlock;                    // along one side
constexpr int kBlocksInTile = kTileBlocks * kTileBlocks;
constexpr int kBlockPixels = constants::kBlock * constants::kBlock;
constexpr int kBlendFields = kHalfX;                                                 // the record without its extent
constexpr unsigned kAllDone = (1u << kBlocksInTile) - 1;

// Pixels of a tile by block, row-major in the block: [block][transmittance, r, g, b][16].
struct alignas(64) TilePixels {
  float value[kBlocksInTile][4][kBlockPixels];
};

template <int Fields>
struct alignas(64) GroupOf {
  float field[Fields][kGroup];   // the first fields of the record
  uint64_t hits[kBlocksInTile];  // bit i: Gaussian i of the group touches the block
};
using Group = GroupOf<kBlendFields>;

// The blocks that one vector of ellipses touches, as bits from `at` on in `hits`. For each strip of four rows the
// ellipse's x-interval is exact: its ends are at the ellipse's own extremes, or at the strip's edge nearest to them.
template <class F>
static EMOTAG_INLINE void find_hits(const F* r, float x, float y, int at, unsigned valid, unsigned done,
                                   uint64_t* hits) {
  const F u = r[kU] - F(x), v = r[kV] - F(y), zero(0.0f), slack(0.02f), side(constants::kBlock - 1.0f);
  const F inverse_a = rcp(r[kQa]);
  const F skew = r[kQb] * inverse_a * F(-0.5f);
  const F level = -r[kRecordLevel] * inverse_a;
  const F bend = fma(r[kQb] * F(0.5f), skew, r[kQc]) * inverse_a;
  const F right_y = r[kQb] * rcp(r[kQc]) * F(-0.5f) * r[kHalfX];
  for (int row = 0; row < kTileBlocks; ++row) {
    if ((done >> (row * kTileBlocks) & 15u) == 15u) continue;
    const F top = F(row * 4.0f) - v, bottom = top + side;
    const F at_right = min(max(right_y, top), bottom), at_left = min(max(-right_y, top), bottom);
    const F right_square = fnma(bend * at_right, at_right, level), left_square = fnma(bend * at_left, at_left, level);
    const unsigned reached = bits(max(right_square, left_square) >= zero) & valid;
    const F tiny(1e-12f), rs = max(right_square, tiny), ls = max(left_square, tiny);
    const F right = fma(rs, rsqrt_rough(rs), fma(skew, at_right, u + slack));
    const F left = fnma(ls, rsqrt_rough(ls), fma(skew, at_left, u - slack));
#pragma GCC unroll 4
    for (int column = 0; column < kTileBlocks; ++column) {
      const unsigned hit = bits(both(right >= F(column * 4.0f), left <= F(column * 4.0f) + side)) & reached;
      hits[row * kTileBlocks + column] |= static_cast<uint64_t>(hit) << at;
    }
  }
}

// Loads up to 64 records and finds their blocks.
template <class F, int Fields>
static EMOTAG_INLINE void load_group(const Raster& frame, const int32_t* list, int count, float x, float y, unsigned done,
                                     GroupOf<Fields>* group) {
  constexpr int kLoaded = Fields > kHalfX + 1 ? Fields : kHalfX + 1;
  for (int s = 0; s < kBlocksInTile; ++s) group->hits[s] = 0;
  for (int at = 0; at < count; at += F::width) {
    const int here = count - at < F::width ? count - at : F::width;
    int32_t index[F::width];
    for (int i = 0; i < F::width; ++i) {
      index[i] = list[at + (i < here ? i : 0)];
      // The list has room behind its end, filled with records that exist.
      __builtin_prefetch(frame.records.data() + static_cast<int64_t>(list[at + F::width + i]) * simd::kRecord);
    }
    F fields[simd::kRecord];
    simd::load_records<F, kLoaded>(frame.records.data(), index, fields);
    for (int f = 0; f < Fields; ++f) F::store(group->field[f] + at, fields[f]);
    find_hits(fields, x, y, at, (1u << here) - 1u, done, group->hits);
  }
}

// One Gaussian over the pixels of a block. The loops are over registers: they must be unrolled.
template <class F, int Vectors>
static EMOTAG_INLINE void blend_gaussian(const Group& group, int j, F px, F py, Pixel<F> (&pixel)[Vectors]) {
  const F dx = px - F(group.field[kU][j]), dy = py - F(group.field[kV][j]), qc(group.field[kQc][j]);
  const F base = fma(F(group.field[kQa][j]) * dx, dx, F(group.field[kRecordLevel][j]));
  const F slope = F(group.field[kQb][j]) * dx;
  const F r(group.field[kRed][j]), g(group.field[kGreen][j]), b(group.field[kBlue][j]);
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) {
    const F y = i == 0 ? dy : dy + F(static_cast<float>(i * (constants::kBlock / Vectors)));
    blend_step(pixel[i], fma(y, fma(qc, y, slope), base), r, g, b);
  }
}

template <class F, int Vectors>
static EMOTAG_INLINE bool all_below(const Pixel<F> (&pixel)[Vectors], F stop) {
  F most = pixel[0].transmittance;
#pragma GCC unroll 4
  for (int i = 1; i < Vectors; ++i) most = max(most, pixel[i].transmittance);
  return bits(most >= stop) == 0;
}

// Blends the Gaussians of one block; true if nothing behind them can be seen.
template <class F>
static EMOTAG_INLINE bool blend_block(const Group& group, uint64_t hits, float x, float y, float (*value)[kBlockPixels]) {
  constexpr int kVectors = kBlockPixels / F::width;
  const F px = F::block_x() + F(x), py = F::block_y() + F(y), stop(constants::kStopDrawing);
  Pixel<F> pixel[kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i)
    pixel[i] = {F::load(value[0] + i * F::width), F::load(value[1] + i * F::width), F::load(value[2] + i * F::width),
                F::load(value[3] + i * F::width)};
  bool opaque = false;
  do {
    blend_gaussian(group, __builtin_ctzll(hits), px, py, pixel);
    hits &= hits - 1;
    opaque = all_below(pixel, stop);
  } while (hits != 0 && !opaque);
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    F scale(1.0f);
    if (opaque) {  // what would still come counts as more of the same
      scale = rcp(F(1.0f) - pixel[i].transmittance);
      pixel[i].transmittance = F(0.0f);
    }
    F::store(value[0] + i * F::width, pixel[i].transmittance);
    F::store(value[1] + i * F::width, pixel[i].r * scale);
    F::store(value[2] + i * F::width, pixel[i].g * scale);
    F::store(value[3] + i * F::width, pixel[i].b * scale);
  }
  return opaque;
}

// Blends the Gaussians of tile (tile_x, tile_y).
template <class F>
void blend_tile(const Frame& frame, int tile_x, int tile_y, TilePixels* pixels) {
  const int tile = tile_y * frame.view.tiles_x() + tile_x;
  const float x = static_cast<float>(tile_x * constants::kTile), y = static_cast<float>(tile_y * constants::kTile);
  for (int s = 0; s < kBlocksInTile; ++s)
    for (int i = 0; i < kBlockPixels; i += F::width)
      for (int c = 0; c < 4; ++c) F::store(pixels->value[s][c] + i, F(c == 0 ? 1.0f : 0.0f));
  Group group;
  unsigned done = 0;
  const uint32_t end = frame.tile_begin[tile + 1];
  for (uint32_t k = frame.tile_begin[tile]; k < end && done != kAllDone; k += kGroup) {
    const int count = end - k < kGroup ? static_cast<int>(end - k) : kGroup;
    load_group<F>(frame, frame.list.data() + k, count, x, y, done, &group);
    for (int s = 0; s < kBlocksInTile; ++s) {
      if (group.hits[s] == 0 || (done >> s & 1u) != 0) continue;
      if (blend_block<F>(group, group.hits[s], x + static_cast<float>(s % kTileBlocks * constants::kBlock),
                         y + static_cast<float>(s / kTileBlocks * constants::kBlock), pixels->value[s]))
        done |= 1u << s;
    }
  }
}

}  // namespace emotag
