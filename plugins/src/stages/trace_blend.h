// Training: the pixels of one tile, and the gradients of its Gaussians.
//
// The way back goes front to back again. What lies behind Gaussian j is what the whole pixel has less what came so far, so
// nothing has to be remembered but the picture. With q_j = channels_j·gradient, weight w_j = alpha_j·T_j and
// rest_j = Σ_{i>j} w_i·q_i - T_end·(gradient of alpha):
//   alpha_j·∂loss/∂alpha_j = w_j·(q_j - rest_j/T_{j+1}).
#pragma once

#include "../trace.h"
#include "../math/blend.h"
#include "hits.h"

namespace emotag {

// Fields of a tile's pixels: [block][field][16]. T is zero where a pixel has stopped.
enum TraceField { kTransmittance, kEnd, kPlanes };  // kEnd: transmittance at the end; on the way back, the rest
template <int Channels>
struct alignas(64) TraceTile {
  float value[kBlocksInTile][kPlanes + Channels][kBlockPixels];
};

template <int Channels>
constexpr int trace_fields() {
  return Channels == kColours ? kRecordFields : kFeature + kMaxFeatures;
}
// Up to 64 records, by field, and the blocks that they touch.
template <int Channels>
struct alignas(64) TraceGroup {
  float field[trace_fields<Channels>()][kGroup];
  Touched touched;
  uint64_t hits[kBlocksInTile];
};
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

// A block of a plane of the picture, zero outside it.
static EMOTAG_INLINE void load_block(const View& view, const float* plane, Corner at, float* to) {
  const int columns = inside(at.x, view.width), rows = inside(at.y, view.height);
  memset(to, 0, kBlockPixels * sizeof(float));
  for (int y = 0; y < rows; ++y) {
    const float* from = plane + static_cast<size_t>(at.y + y) * view.width + at.x;
    for (int x = 0; x < columns; ++x) to[y * constants::kBlock + x] = from[x];
  }
}

static EMOTAG_INLINE void store_block(const View& view, const float* from, Corner at, float* plane) {
  const int columns = inside(at.x, view.width), rows = inside(at.y, view.height);
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < columns; ++x)
      plane[static_cast<size_t>(at.y + y) * view.width + at.x + x] = from[y * constants::kBlock + x];
}

// Pixels outside the picture have stopped before the first Gaussian.
static EMOTAG_INLINE void start_block(const View& view, Corner at, float* transmittance) {
  const int columns = inside(at.x, view.width), rows = inside(at.y, view.height);
  for (int i = 0; i < kBlockPixels; ++i)
    transmittance[i] = i % constants::kBlock < columns && i / constants::kBlock < rows ? 1.0f : 0.0f;
}

// Loads up to 64 records and finds their blocks; the corner is the span's.
template <class F, int Channels>
static EMOTAG_INLINE void load_trace(const Trace& trace, const int32_t* list, int count, Corner corner, unsigned done,
                                     TraceGroup<Channels>* group) {
  for (int at = 0; at < count; at += F::width) {
    const Members<F> member(list + at, count - at);
    prefetch_records(trace, list + at + F::width, F::width);
    F r[simd::kRecord], top, bottom;
    simd::load_records<F>(trace.records.data(), member.index, r);
    for (int f = 0; f < trace_fields<Channels>(); ++f) F::store(group->field[f] + at, r[f]);
    find_touched(r, static_cast<float>(corner.x), static_cast<float>(corner.y), done, &top, &bottom);
    F::store_pair(group->touched.top + at, group->touched.bottom + at, top, bottom);
  }
  collect_hits<F>(group->touched, count, group->hits);
}

// The level of a Gaussian at the pixels of a block, one vector after another.
template <class F>
struct Ellipse {
  F dx, dy, slope, base, qc;

  template <int Channels>
  EMOTAG_INLINE Ellipse(const TraceGroup<Channels>& group, int j, F px, F py) {
    dx = px - F(group.field[kU][j]);
    dy = py - F(group.field[kV][j]);
    qc = F(group.field[kQc][j]);
    base = fma(F(group.field[kQa][j]) * dx, dx, F(group.field[kRecordLevel][j]));
    slope = F(group.field[kQb][j]) * dx;
  }
  // Rows of the i-th vector of a block, from the Gaussian's centre.
  EMOTAG_INLINE F y(int i) const { return i == 0 ? dy : dy + F(static_cast<float>(i * F::width / constants::kBlock)); }
  EMOTAG_INLINE F level(int i) const { return fma(y(i), fma(qc, y(i), slope), base); }
};

// One Gaussian over one vector of pixels: what it takes, and what it leaves.
template <class F>
struct Step {
  F alpha, after, weight;  // alpha before it is cut at kAlphaMax
  typename F::Mask goes;   // the pixel does not stop here

  EMOTAG_INLINE Step(F level, F transmittance) {
    alpha = keep_unless_negative(level, precise_alpha_of(level));
    const F taken = min(alpha, F(constants::kAlphaMax)) * transmittance;
    after = transmittance - taken;
    goes = after >= F(constants::kStopTransmittance);
    weight = keep(goes, taken);
  }
  EMOTAG_INLINE F left() const { return keep(goes, after); }
};

template <class F, int Channels>
struct TracePixel {
  F transmittance, end, value[Channels];

  EMOTAG_INLINE void load(const float (*from)[kBlockPixels], int at) {
    transmittance = F::load(from[kTransmittance] + at);
    end = F::load(from[kEnd] + at);
    for (int c = 0; c < Channels; ++c) value[c] = F::load(from[kPlanes + c] + at);
  }
};

template <class F, int Channels, int Vectors>
static EMOTAG_INLINE bool stopped(const TracePixel<F, Channels> (&pixel)[Vectors]) {
  F most = pixel[0].transmittance;
#pragma GCC unroll 4
  for (int i = 1; i < Vectors; ++i) most = max(most, pixel[i].transmittance);
  return bits(most > F(0.0f)) == 0;
}

// Blends the Gaussians of one block; true if nothing behind them counts.
template <class F, int Channels>
static EMOTAG_INLINE bool trace_block(const TraceGroup<Channels>& group, uint64_t hits, Corner corner,
                                      float (*value)[kBlockPixels]) {
  constexpr int kVectors = kBlockPixels / F::width;
  const F px = F::block_x() + F(static_cast<float>(corner.x)), py = F::block_y() + F(static_cast<float>(corner.y));
  TracePixel<F, Channels> pixel[kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) pixel[i].load(value, i * F::width);
  bool done;
  do {
    const int j = __builtin_ctzll(hits);
    const Ellipse<F> ellipse(group, j, px, py);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      const Step<F> step(ellipse.level(i), pixel[i].transmittance);
      for (int c = 0; c < Channels; ++c)
        pixel[i].value[c] = fma(step.weight, F(group.field[channel_field(c)][j]), pixel[i].value[c]);
      pixel[i].end = pixel[i].end - step.weight;
      pixel[i].transmittance = step.left();
    }
    hits &= hits - 1;
    done = stopped(pixel);
  } while (hits != 0 && !done);
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    F::store(value[kTransmittance] + i * F::width, pixel[i].transmittance);
    F::store(value[kEnd] + i * F::width, pixel[i].end);
    for (int c = 0; c < Channels; ++c) F::store(value[kPlanes + c] + i * F::width, pixel[i].value[c]);
  }
  return done;
}

// Lane sums of one Gaussian of a group: [field][lane].
template <class F, int Channels>
struct alignas(64) LaneSums {
  float field[gradient_fields(Channels)][F::width];

  EMOTAG_INLINE void clear() {
    for (auto& f : field) F::store(f, F(0.0f));
  }
  EMOTAG_INLINE void add(int f, F value) { F::store(field[f], F::load(field[f]) + value); }
  // Adds the sums over the lanes to a record of sixteen floats.
  EMOTAG_INLINE void add_to(float* record) const {
    constexpr int kFields = gradient_fields(Channels);
    for (int part = 0; part < kFields; part += F::width) {
      F rows[F::width];
#pragma GCC unroll 16
      for (int i = 0; i < F::width; ++i) rows[i] = part + i < kFields ? F::load(field[part + i]) : F(0.0f);
      F::transpose(rows);
      F total = F::load(record + part);
#pragma GCC unroll 16
      for (int i = 0; i < F::width; ++i) total = total + rows[i];
      F::store(record + part, total);
    }
  }
};

// The gradients of the Gaussians of one block; true if nothing behind them counts. Here a pixel's value is its gradient.
template <class F, int Channels>
static EMOTAG_INLINE bool untrace_block(const TraceGroup<Channels>& group, uint64_t hits, Corner corner,
                                        float (*value)[kBlockPixels], LaneSums<F, Channels>* sums) {
  constexpr int kVectors = kBlockPixels / F::width;
  const F px = F::block_x() + F(static_cast<float>(corner.x)), py = F::block_y() + F(static_cast<float>(corner.y));
  TracePixel<F, Channels> pixel[kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) pixel[i].load(value, i * F::width);
  bool done;
  do {
    const int j = __builtin_ctzll(hits);
    const Ellipse<F> ellipse(group, j, px, py);
    F one, y, yy, channel[Channels];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      const Step<F> step(ellipse.level(i), pixel[i].transmittance);
      F q = F(group.field[kRed][j]) * pixel[i].value[0];
      for (int c = 1; c < Channels; ++c) q = fma(F(group.field[channel_field(c)][j]), pixel[i].value[c], q);
      for (int c = 0; c < Channels; ++c)
        channel[c] = i == 0 ? step.weight * pixel[i].value[c] : fma(step.weight, pixel[i].value[c], channel[c]);
      pixel[i].end = fnma(step.weight, q, pixel[i].end);
      pixel[i].transmittance = step.left();
      const F behind = pixel[i].end * rcp(max(step.after, F(constants::kStopTransmittance)));
      const F e = keep(step.alpha < F(constants::kAlphaMax), step.weight * (q - behind));
      const F ey = e * ellipse.y(i);
      one = i == 0 ? e : one + e;
      y = i == 0 ? ey : y + ey;
      yy = i == 0 ? ey * ellipse.y(i) : fma(ey, ellipse.y(i), yy);
    }
    LaneSums<F, Channels>& sum = sums[j];
    const F x = one * ellipse.dx;
    sum.add(kMomentOne, one);
    sum.add(kMomentX, x);
    sum.add(kMomentY, y);
    sum.add(kMomentXx, x * ellipse.dx);
    sum.add(kMomentXy, y * ellipse.dx);
    sum.add(kMomentYy, yy);
    for (int c = 0; c < Channels; ++c) sum.add(kChannel + c, channel[c]);
    hits &= hits - 1;
    done = stopped(pixel);
  } while (hits != 0 && !done);
#pragma GCC unroll 4
  for (int i = 0; i < kVectors; ++i) {
    F::store(value[kTransmittance] + i * F::width, pixel[i].transmittance);
    F::store(value[kEnd] + i * F::width, pixel[i].end);
  }
  return done;
}

template <class F, int Channels>
void trace_tile_of(const Trace& trace, int tile, float* channels, float* alpha) {
  const View& view = trace.view;
  const size_t plane = static_cast<size_t>(view.width) * view.height;
  TraceTile<Channels> pixels;
  memset(&pixels, 0, sizeof pixels);
  unsigned done = 0;
  for (int s = 0; s < kBlocksInTile; ++s) {
    start_block(view, corner_of(view, tile, s), pixels.value[s][kTransmittance]);
    memcpy(pixels.value[s][kEnd], pixels.value[s][kTransmittance], sizeof pixels.value[s][kEnd]);
  }
  TraceGroup<Channels> group;
  const Corner corner = corner_of(view, tile, 0);
  const uint32_t end = trace.tile_begin[tile + 1];
  for (uint32_t k = trace.tile_begin[tile]; k < end && done != kAllDone; k += kGroup) {
    const int count = end - k < kGroup ? static_cast<int>(end - k) : kGroup;
    load_trace<F, Channels>(trace, trace.list.data() + k, count, corner, done, &group);
    for (int s = 0; s < kBlocksInTile; ++s)
      if (group.hits[s] != 0 && (done >> s & 1u) == 0 &&
          trace_block<F, Channels>(group, group.hits[s], corner_of(view, tile, s), pixels.value[s]))
        done |= 1u << s;
  }
  for (int s = 0; s < kBlocksInTile; ++s) {
    const Corner at = corner_of(view, tile, s);
    float opaque[kBlockPixels];
    for (int i = 0; i < kBlockPixels; ++i) opaque[i] = 1.0f - pixels.value[s][kEnd][i];
    store_block(view, opaque, at, alpha);
    for (int c = 0; c < Channels; ++c) store_block(view, pixels.value[s][kPlanes + c], at, channels + c * plane);
  }
}

// The gradients of a block's pixels, and what all its Gaussians together contribute to the loss: the rest.
template <int Channels>
static EMOTAG_INLINE void start_back(const View& view, Corner at, const TracePlanes& picture, const TracePlanes& loss,
                                     float (*value)[kBlockPixels]) {
  const size_t plane = static_cast<size_t>(view.width) * view.height;
  float seen[kBlockPixels], gradient[kBlockPixels];
  start_block(view, at, value[kTransmittance]);
  load_block(view, picture.alpha, at, seen);
  load_block(view, loss.alpha, at, gradient);
  for (int i = 0; i < kBlockPixels; ++i) value[kEnd][i] = (seen[i] - 1.0f) * gradient[i];
  for (int c = 0; c < Channels; ++c) {
    load_block(view, picture.channels + c * plane, at, seen);
    load_block(view, loss.channels + c * plane, at, value[kPlanes + c]);
    for (int i = 0; i < kBlockPixels; ++i) value[kEnd][i] += seen[i] * value[kPlanes + c][i];
  }
}

template <class F, int Channels>
void untrace_tile_of(const Trace& trace, int tile, const TracePlanes& picture, const TracePlanes& loss, float* records) {
  const View& view = trace.view;
  const uint32_t end = trace.tile_begin[tile + 1];
  if (trace.tile_begin[tile] == end) return;
  TraceTile<Channels> pixels;
  for (int s = 0; s < kBlocksInTile; ++s)
    start_back<Channels>(view, corner_of(view, tile, s), picture, loss, pixels.value[s]);
  unsigned done = 0;
  TraceGroup<Channels> group;
  LaneSums<F, Channels> sums[kGroup];
  const Corner corner = corner_of(view, tile, 0);
  for (uint32_t k = trace.tile_begin[tile]; k < end && done != kAllDone; k += kGroup) {
    const int count = end - k < kGroup ? static_cast<int>(end - k) : kGroup;
    const int32_t* list = trace.list.data() + k;
    load_trace<F, Channels>(trace, list, count, corner, done, &group);
    uint64_t touched = 0;
    for (int s = 0; s < kBlocksInTile; ++s)
      if ((done >> s & 1u) == 0) touched |= group.hits[s];
    for (uint64_t t = touched; t != 0; t &= t - 1) sums[__builtin_ctzll(t)].clear();
    for (int s = 0; s < kBlocksInTile; ++s)
      if (group.hits[s] != 0 && (done >> s & 1u) == 0 &&
          untrace_block<F, Channels>(group, group.hits[s], corner_of(view, tile, s), pixels.value[s], sums))
        done |= 1u << s;
    for (uint64_t t = touched; t != 0; t &= t - 1) {
      const int j = __builtin_ctzll(t);
      sums[j].add_to(records + static_cast<size_t>(list[j]) * simd::kRecord);
    }
  }
}

// Blends tile number `tile` into the planes of the picture.
template <class F>
void trace_tile(const Trace& trace, int tile, float* channels, float* alpha) {
  if (trace.has_features) return trace_tile_of<F, kColours + kMaxFeatures>(trace, tile, channels, alpha);
  trace_tile_of<F, kColours>(trace, tile, channels, alpha);
}

// Adds the gradients of one tile's pixels to the records of its Gaussians, [places][16], see GradientField.
template <class F>
void untrace_tile(const Trace& trace, int tile, const TracePlanes& picture, const TracePlanes& loss, float* sums) {
  if (trace.has_features) return untrace_tile_of<F, kColours + kMaxFeatures>(trace, tile, picture, loss, sums);
  untrace_tile_of<F, kColours>(trace, tile, picture, loss, sums);
}

}  // namespace emotag
