// Training: blends the Gaussians of one tile, and notes for the way back which pixels each of them reaches.
#pragma once

#include "trace_tile.h"

namespace emotag {

// Fields of a tile's pixels: [block][field][16]. The transmittance of a pixel that has stopped is negative.
enum TraceField { kTransmittance, kPlanes };
template <int Channels>
struct alignas(64) TraceTile {
  float value[kBlocksInTile][kPlanes + Channels][kBlockPixels];
};

// The fields of a record that blending reads, in front of its channels.
constexpr int kShapeFields = kRecordLevel + 1;

// Up to 64 records, by field, and the blocks that they touch.
template <int Channels>
struct alignas(64) TraceGroup {
  float field[kShapeFields + Channels][kGroup];
  Ellipses ellipses;
  uint64_t hits[kBlocksInTile];
};

// Loads up to 64 records and finds their blocks; the corner is the span's.
template <class F, int Channels>
static EMOTAG_INLINE void load_trace(const Trace& trace, const int32_t* list, int count, Corner corner, unsigned done,
                                     TraceGroup<Channels>* group) {
  for (int at = 0; at < count; at += F::width) {
    const Members<F> member(list + at, count - at);
    prefetch_records<simd::kRecord>(trace.records.data(), list + at + F::width, F::width);
    F r[simd::kRecord];
    simd::load_records<F>(trace.records.data(), member.index, r);
    for (int f = 0; f < kShapeFields; ++f) F::store(group->field[f] + at, r[f]);
    for (int c = 0; c < Channels; ++c) F::store(group->field[kShapeFields + c] + at, r[channel_field(c)]);
    const F first_tile = truncate(r[kTiles] * F(1.0f / 256.0f)), last_tile = fnma(first_tile, F(256.0f), r[kTiles]);
    store_ellipses(r, r[kHalfX], first_tile, last_tile, static_cast<float>(corner.x), static_cast<float>(corner.y), at,
                   &group->ellipses);
  }
  collect_hits<F>(group->ellipses, count, done, group->hits);
}

// One vector of a block's pixels.
template <class F, int Channels>
struct TracePixel {
  F transmittance, value[Channels];

  EMOTAG_INLINE void load(const float (*from)[kBlockPixels], int at) {
    transmittance = F::load(from[kTransmittance] + at);
    for (int c = 0; c < Channels; ++c) value[c] = F::load(from[kPlanes + c] + at);
  }
  EMOTAG_INLINE void store(float (*to)[kBlockPixels], int at) const {
    F::store(to[kTransmittance] + at, transmittance);
    for (int c = 0; c < Channels; ++c) F::store(to[kPlanes + c] + at, value[c]);
  }
};

// Whether all pixels have stopped.
template <class F, int Channels, int Vectors>
static EMOTAG_INLINE bool stopped(const TracePixel<F, Channels> (&pixel)[Vectors]) {
  F most = pixel[0].transmittance;
#pragma GCC unroll 4
  for (int i = 1; i < Vectors; ++i) most = max(most, pixel[i].transmittance);
  return signs(most) == (1u << F::width) - 1;
}

// The levels of one Gaussian at a block's pixels, and its alpha there.
template <class F, int Vectors>
struct TraceLevels {
  F level[Vectors], alpha[Vectors];

  template <int Channels>
  EMOTAG_INLINE void set(const TraceGroup<Channels>& group, int j, F px, F py) {
    const auto& field = group.field;
    const F dx = px - F(field[kU][j]), dy = py - F(field[kV][j]);
    const F base = fma(F(field[kQa][j]) * dx, dx, F(field[kRecordLevel][j])), slope = F(field[kQb][j]) * dx;
#pragma GCC unroll 4
    for (int i = 0; i < Vectors; ++i) {
      const F y = i == 0 ? dy : dy + F(static_cast<float>(i * F::width / constants::kBlock));
      level[i] = fma(y, fma(F(field[kQc][j]), y, slope), base);
      alpha[i] = alpha_at(level[i]);
    }
  }
};

// Blends Gaussian j over a block's pixels; returns the strips that it reaches.
template <class F, int Channels, int Vectors>
static EMOTAG_INLINE uint64_t trace_gaussian(const TraceGroup<Channels>& group, int j,
                                             const TraceLevels<F, Vectors>& levels,
                                             TracePixel<F, Channels> (&pixel)[Vectors]) {
  constexpr int kStripVectors = F::width < kStripPixels ? kStripPixels / F::width : 1;
  constexpr unsigned kStripsInVector = F::width > kStripPixels ? 3 : 1, kNone = (1u << F::width) - 1;
  unsigned strips = 0;
#pragma GCC unroll 4
  for (int i = 0; i < Vectors; ++i) {
    const Step<F> step(levels.alpha[i], pixel[i].transmittance);
    const bool reaches = signs(either(levels.level[i], pixel[i].transmittance)) != kNone;
    strips |= (reaches ? kStripsInVector : 0) << (i / kStripVectors);
    for (int c = 0; c < Channels; ++c)
      pixel[i].value[c] = fma(step.weight, F(group.field[kShapeFields + c][j]), pixel[i].value[c]);
    pixel[i].transmittance = select(step.goes, step.after, either(pixel[i].transmittance, F(-0.0f)));
  }
  return strips;
}

// Blends the Gaussians of one block; true if nothing behind them counts. reached: of each Gaussian, this block's strips
// are noted there from bit `shift` on. The levels of the next one are computed while this one is blended, as drawing does.
template <class F, int Channels>
static EMOTAG_INLINE bool trace_block(const TraceGroup<Channels>& group, uint64_t hits, Corner corner, int shift,
                                      float (*value)[kBlockPixels], uint64_t* reached) {
  constexpr int kVectors = kBlockPixels / F::width;
  const F px = F::block_x() + F(static_cast<float>(corner.x)), py = F::block_y() + F(static_cast<float>(corner.y));
  TracePixel<F, Channels> pixel[kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) pixel[i].load(value, i * F::width);
  int j = __builtin_ctzll(hits);
  TraceLevels<F, kVectors> levels, next;
  levels.set(group, j, px, py);
  bool done = false;
  hits &= hits - 1;
  while (hits != 0 && !done) {
    const int after = __builtin_ctzll(hits);
    hits &= hits - 1;
    next.set(group, after, px, py);
    reached[j] |= trace_gaussian(group, j, levels, pixel) << shift;
    done = stopped(pixel);
    j = after;
    levels = next;
  }
  if (!done) {
    reached[j] |= trace_gaussian(group, j, levels, pixel) << shift;
    done = stopped(pixel);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) pixel[i].store(value, i * F::width);
  return done;
}

// Before the first Gaussian: pixels outside the picture have stopped.
template <int Channels>
static EMOTAG_INLINE void start_block(const View& view, Corner at, float (*value)[kBlockPixels]) {
  using Row = simd::Plain;
  const int columns = inside(at.x, view.width), rows = inside(at.y, view.height);
  for (int i = 0; i < kBlockPixels; i += Row::width) {
    const Row in = first_of<Row>(i / constants::kBlock < rows ? columns : 0);
    Row::store(value[kTransmittance] + i, in + in - Row(1.0f));
    for (int c = 0; c < Channels; ++c) Row::store(value[kPlanes + c] + i, Row(0.0f));
  }
}

// Writes a block into the planes of the picture.
template <int Channels>
static EMOTAG_INLINE void finish_block(const View& view, Corner at, const float (*value)[kBlockPixels], float* channels,
                                       float* alpha) {
  using Row = simd::Plain;
  const size_t plane = static_cast<size_t>(view.width) * view.height;
  const int columns = inside(at.x, view.width), rows = inside(at.y, view.height);
  for (int y = 0; y < rows; ++y) {
    const size_t to = static_cast<size_t>(at.y + y) * view.width + at.x;
    const int from = y * constants::kBlock;
    store_row(alpha + to, Row(1.0f) - abs(Row::load(value[kTransmittance] + from)), columns);
    for (int c = 0; c < Channels; ++c)
      store_row(channels + c * plane + to, Row::load(value[kPlanes + c] + from), columns);
  }
}

template <class F, int Channels>
void trace_tile_of(Trace& trace, int tile, float* channels, float* alpha) {
  const View& view = trace.view;
  TraceTile<Channels> pixels;
  unsigned done = 0;
  for (int s = 0; s < kBlocksInTile; ++s) start_block<Channels>(view, corner_of(view, tile, s), pixels.value[s]);
  TraceGroup<Channels> group;
  const Corner corner = corner_of(view, tile, 0);
  const uint32_t end = trace.tile_begin[tile + 1];
  for (uint32_t k = trace.tile_begin[tile]; k < end; k += kGroup) {
    const int count = end - k < kGroup ? static_cast<int>(end - k) : kGroup;
    uint64_t* reached = trace.reached.data() + k;
    memset(reached, 0, count * sizeof *reached);
    if (done == kAllDone) continue;
    load_trace<F, Channels>(trace, trace.list.data() + k, count, corner, done, &group);
    for (int s = 0; s < kBlocksInTile; ++s)
      if (group.hits[s] != 0 && (done >> s & 1u) == 0 &&
          trace_block<F, Channels>(group, group.hits[s], corner_of(view, tile, s), 2 * s, pixels.value[s], reached))
        done |= 1u << s;
  }
  for (int s = 0; s < kBlocksInTile; ++s)
    finish_block<Channels>(view, corner_of(view, tile, s), pixels.value[s], channels, alpha);
}

// Blends tile number `tile` into the planes of the picture.
template <class F>
void trace_tile(Trace& trace, int tile, float* channels, float* alpha) {
  if (trace.has_features) return trace_tile_of<F, kColours + kMaxFeatures>(trace, tile, channels, alpha);
  trace_tile_of<F, kColours>(trace, tile, channels, alpha);
}

}  // namespace emotag
