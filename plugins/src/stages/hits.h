// Stage 5a: which 4×4 blocks of a span its Gaussians touch. They come in groups of 64, one bit each.
#pragma once

#include "../frame.h"
#include "../simd/records.h"

namespace emotag {

constexpr int kGroup = 64;
constexpr int kBlockColumns = constants::kSpan / constants::kBlock;
constexpr int kBlockRows = constants::kTile / constants::kBlock;
constexpr int kBlocksInTile = kBlockColumns * kBlockRows;
constexpr int kBlockPixels = constants::kBlock * constants::kBlock;
constexpr unsigned kAllDone = 0xffffffffu;  // one bit for each block
static_assert(kBlocksInTile == 32 && kBlockColumns == 8, "a block's bit is one of 32, a row of blocks a byte");

// The blocks that each Gaussian of a group touches, as bits: rows 0 and 1 of the span, rows 2 and 3.
struct alignas(64) Touched {
  uint16_t top[kGroup], bottom[kGroup];
};

// 2^x for the whole number next to x, x in 0…9.
template <class F>
static EMOTAG_INLINE F power_of_two(F x) {
  return scale_exponent(F(1.0f), x + F(12582912.0f));  // see alpha_of
}

// The blocks of one row of blocks that hold a pixel in [left, right] ∩ [from, to], as a sum of powers of two. Half a
// quarter of a pixel keeps the roundings to whole blocks away from their ties.
template <class F>
static EMOTAG_INLINE F row_of_blocks(F left, F right, F from, F to) {
  const F quarter(1.0f / constants::kBlock);
  const F first = min(ceil_positive(max(left, from)), F(constants::kSpan)), last = min(right, to);
  const F bits = power_of_two(fma(last, quarter, F(0.501f))) - power_of_two(fma(first, quarter, F(-0.375f)));
  return keep(last >= first, bits);
}

// What decides which blocks an ellipse touches, relative to a corner of a span: its x-interval at height y above v is
// u + skew·y ± √(level - bend·y²). From … to: the pixels of its tiles.
enum EllipseField { kEllipseU, kEllipseV, kSkew, kBend, kSquare, kRightY, kFrom, kTo, kEllipseFields };

// A group's ellipses, by field.
struct alignas(64) Ellipses {
  float field[kEllipseFields][kGroup];
};

// One vector of records (as far as the level), at `at` of a group; (x, y) is the span's corner. half_x: of the ellipse's width.
template <class F>
static EMOTAG_INLINE void store_ellipses(const F* r, F half_x, F first_tile, F last_tile, float x, float y, int at,
                                         Ellipses* to) {
  const F tile(constants::kTile), inverse_a = rcp(r[kQa]);
  const F skew = r[kQb] * inverse_a * F(-0.5f);
  F::store(to->field[kEllipseU] + at, r[kU] - F(x));
  F::store(to->field[kEllipseV] + at, r[kV] - F(y));
  F::store(to->field[kSkew] + at, skew);
  F::store(to->field[kBend] + at, fma(r[kQb] * F(0.5f), skew, r[kQc]) * inverse_a);
  F::store(to->field[kSquare] + at, -r[kRecordLevel] * inverse_a);
  F::store(to->field[kRightY] + at, r[kQb] * rcp(r[kQc]) * F(-0.5f) * half_x);
  F::store(to->field[kFrom] + at, max(fma(first_tile, tile, F(-x)), F(0.0f)));
  F::store(to->field[kTo] + at, min(fma(last_tile, tile, F(constants::kTile - 1.0f - x)), F(constants::kSpan - 1.0f)));
}

// The blocks that one vector of ellipses touches. For each strip of four rows the ellipse's x-interval is exact: its ends
// are at the ellipse's own extremes, or at the strip's edge nearest to them. Blocks that are done count as not touched
// where their whole row is.
template <class F>
static EMOTAG_INLINE void find_touched(const Ellipses& ellipses, int at, unsigned done, F* top, F* bottom) {
  const auto field = [&](EllipseField f) { return F::load(ellipses.field[f] + at); };
  const F u = field(kEllipseU), v = field(kEllipseV), skew = field(kSkew), bend = field(kBend), level = field(kSquare);
  const F right_y = field(kRightY), from = field(kFrom), to = field(kTo);
  const F zero(0.0f), slack(0.02f), side(constants::kBlock - 1.0f), tiny(1e-12f);
  const F u_right = u + slack, u_left = u - slack;
  *top = *bottom = zero;
#pragma GCC unroll 4
  for (int row = 0; row < kBlockRows; ++row) {
    if ((done >> (row * kBlockColumns) & 0xffu) == 0xffu) continue;
    const F above = F(row * 4.0f) - v, below = above + side;
    const F at_right = min(max(right_y, above), below), at_left = min(max(-right_y, above), below);
    const F right_square = fnma(bend * at_right, at_right, level), left_square = fnma(bend * at_left, at_left, level);
    const F rs = max(right_square, tiny), ls = max(left_square, tiny);
    const F right = fma(rs, rsqrt_rough(rs), fma(skew, at_right, u_right));
    const F left = fnma(ls, rsqrt_rough(ls), fma(skew, at_left, u_left));
    const F blocks = keep(max(right_square, left_square) >= zero, row_of_blocks(left, right, from, to));
    F& half = row < 2 ? *top : *bottom;
    half = row % 2 == 0 ? blocks : fma(blocks, F(256.0f), half);
  }
}

// Asks for the records of a later vector of a list; the list has room behind its end, filled with records that exist.
template <int Stride>
static EMOTAG_INLINE void prefetch_records(const float* records, const int32_t* list, int count) {
  for (int i = 0; i < count; ++i) __builtin_prefetch(records + static_cast<int64_t>(list[i]) * Stride);
}

// The numbers of one vector of a group's records; `here` of them count, the others repeat the first.
template <class F>
struct Members {
  int32_t index[F::width];
  EMOTAG_INLINE Members(const int32_t* list, int here) {
    for (int i = 0; i < F::width; ++i) index[i] = list[i < here ? i : 0];
  }
};

// hits[block]: bit i says whether member i, of `count`, touches the block. A loop of its own: a processor looks ahead about
// as far as one vector's blocks take, and beside loading it would not see the next vector's.
template <class F>
static EMOTAG_INLINE void collect_hits(const Ellipses& ellipses, int count, unsigned done, uint64_t* hits) {
  Touched touched;
  for (int at = 0; at < count; at += F::width) {
    F top, bottom;
    find_touched(ellipses, at, done, &top, &bottom);
    F::store_pair(touched.top + at, touched.bottom + at, top, bottom);
  }
  F::gather_bits(touched.top, count, hits);
  F::gather_bits(touched.bottom, count, hits + kBlocksInTile / 2);
}

}  // namespace emotag
