// Training: the gradients of the Gaussians of one tile.
//
// The way back goes front to back again. What lies behind Gaussian j is what the whole pixel has less what came so far,
// so nothing has to be remembered but the picture, and which strips each Gaussian reaches. With weight w_j = alpha_j·T_j,
// q_j = channels_j·gradient and rest_j = Σ_{i>j} w_i·q_i - T_end·(gradient of alpha):
//   alpha_j·∂loss/∂alpha_j = w_j·(q_j - rest_j/T_{j+1}).
// One Gaussian after another visits its strips, so that its sums stay in registers. It visits them three times, because
// what is done to a pixel is a long chain: in one go, a processor has room for two of them at once, and waits.
#pragma once

#include "trace_tile.h"

namespace emotag {

// Fields of a tile's pixels: [block][field][16]. The transmittance of a pixel that has stopped is zero; the gradients
// are the loss's in the pixel's channels.
enum UntraceField { kLeft, kRest, kGradients };
template <int Channels>
struct alignas(64) UntraceTile {
  float value[kBlocksInTile][kGradients + Channels][kBlockPixels];
};

// The gradients of a block's pixels, and what all its Gaussians together contribute to the loss: the rest.
template <int Channels>
static EMOTAG_INLINE void start_back(const View& view, Corner at, const TracePlanes& picture, const TracePlanes& loss,
                                     float (*value)[kBlockPixels]) {
  using Row = simd::Plain;
  static_assert(Row::width == constants::kBlock, "a row of a block is a vector");
  const size_t plane = static_cast<size_t>(view.width) * view.height;
  const int columns = inside(at.x, view.width), rows = inside(at.y, view.height);
  for (int y = 0; y < constants::kBlock; ++y) {
    const int width = y < rows ? columns : 0, to = y * constants::kBlock;
    const size_t from = static_cast<size_t>(at.y + y) * view.width + at.x;
    const auto load = [&](const float* pixels) { return load_row<Row>(pixels + from, width); };
    Row::store(value[kLeft] + to, first_of<Row>(width));
    Row rest = (load(picture.alpha) - Row(1.0f)) * load(loss.alpha);
    for (int c = 0; c < Channels; ++c) {
      const Row gradient = load(loss.channels + c * plane);
      rest = fma(load(picture.channels + c * plane), gradient, rest);
      Row::store(value[kGradients + c] + to, gradient);
    }
    Row::store(value[kRest] + to, rest);
  }
}

// A Gaussian's sums over its pixels, lane by lane.
template <class F, int Channels>
struct GradientSums {
  F field[gradient_fields(Channels)];

  EMOTAG_INLINE GradientSums() {
    for (F& f : field) f = F(0.0f);
  }
  // Adds a vector of pixels, (dx, dy) from the centre. share: alpha·∂loss/∂alpha.
  EMOTAG_INLINE void add(F dx, F dy, F share, F weight, const float* gradients) {
    const F x = share * dx, y = share * dy;
    field[kMomentOne] = field[kMomentOne] + share;
    field[kMomentX] = field[kMomentX] + x;
    field[kMomentY] = field[kMomentY] + y;
    field[kMomentXx] = fma(x, dx, field[kMomentXx]);
    field[kMomentXy] = fma(x, dy, field[kMomentXy]);
    field[kMomentYy] = fma(y, dy, field[kMomentYy]);
    for (int c = 0; c < Channels; ++c)
      field[kChannel + c] = fma(weight, F::load(gradients + c * kBlockPixels), field[kChannel + c]);
  }
  // Adds the sums over the lanes to a record of sixteen floats.
  EMOTAG_INLINE void add_to(float* record) const {
    constexpr int kFields = gradient_fields(Channels);
    for (int part = 0; part < kFields; part += F::width) {
      F rows[F::width];
#pragma GCC unroll 16
      for (int i = 0; i < F::width; ++i) rows[i] = part + i < kFields ? field[part + i] : F(0.0f);
      F::store(record + part, F::load(record + part) + F::lane_sums(rows));
    }
  }
};

// Where the first vector of a strip is, from the span's corner.
template <class F>
struct alignas(64) StripPlaces {
  float x[kBlockColumns][F::width], y[2 * kBlockRows][F::width];

  StripPlaces() {
    for (int column = 0; column < kBlockColumns; ++column)
      F::store(x[column], F::block_x() + F(static_cast<float>(column * constants::kBlock)));
    for (int row = 0; row < 2 * kBlockRows; ++row)
      F::store(y[row], F::block_y() + F(static_cast<float>(row * constants::kBlock / 2)));
  }
};

// One Gaussian and the strips that it reaches. The passes are to be called in their order.
template <class F, int Channels>
class Untracing {
 public:
  EMOTAG_INLINE Untracing(const float* record, Corner corner, uint64_t strips, const StripPlaces<F>& places,
                          UntraceTile<Channels>& pixels)
      : record_(record), u_(record[kU] - static_cast<float>(corner.x)), v_(record[kV] - static_cast<float>(corner.y)),
        strips_(F::width == kBlockPixels ? (strips | strips >> 1) & 0x5555555555555555u : strips), places_(places),
        pixels_(pixels) {}

  EMOTAG_INLINE void find_alpha() {
    const F qa(record_[kQa]), qb(record_[kQb]), qc(record_[kQc]), level(record_[kRecordLevel]);
    each([&](int at, F dx, F dy, const float*) __attribute__((always_inline)) {
      F::store(alpha_ + at, alpha_at(fma(dy, fma(qc, dy, qb * dx), fma(qa * dx, dx, level))));
    });
  }
  // Takes the Gaussian from what is behind it, and puts its share of the gradient in the place of alpha.
  EMOTAG_INLINE void find_shares() {
    F channel[Channels];
    for (int c = 0; c < Channels; ++c) channel[c] = F(record_[channel_field(c)]);
    each([&](int at, F, F, float* pixel) __attribute__((always_inline)) {
      const F alpha = F::load(alpha_ + at);
      const Step<F> step(alpha, F::load(pixel + kLeft * kBlockPixels));
      F::store(pixel + kLeft * kBlockPixels, keep(step.goes, step.after));
      F::store(weight_ + at, step.weight);
      const float* gradients = pixel + kGradients * kBlockPixels;
      F q = channel[0] * F::load(gradients);
      for (int c = 1; c < Channels; ++c) q = fma(channel[c], F::load(gradients + c * kBlockPixels), q);
      const F rest = fnma(step.weight, q, F::load(pixel + kRest * kBlockPixels));
      F::store(pixel + kRest * kBlockPixels, rest);
      const F behind = rest * rcp(max(step.after, F(constants::kStopTransmittance)));
      F::store(alpha_ + at, keep(alpha < F(constants::kAlphaMax), step.weight * (q - behind)));
    });
  }
  EMOTAG_INLINE void add_sums(float* record) {
    GradientSums<F, Channels> sums;
    each([&](int at, F dx, F dy, const float* pixel) __attribute__((always_inline)) {
      sums.add(dx, dy, F::load(alpha_ + at), F::load(weight_ + at), pixel + kGradients * kBlockPixels);
    });
    sums.add_to(record);
  }

 private:
  static constexpr int kStep = F::width > kStripPixels ? F::width : kStripPixels;  // pixels that are visited together

  // Calls visit with each vector's place in the passes' memory, its pixels from the centre, and its fields.
  template <class Visit>
  EMOTAG_INLINE void each(Visit visit) {
    const F u(u_), v(v_);
    int at = 0;
    for (uint64_t left = strips_; left != 0; left &= left - 1, at += kStep) {
      const unsigned strip = __builtin_ctzll(left), block = strip / 2, half = strip % 2;
      const F dx = F::load(places_.x[block % kBlockColumns]) - u;
      const F dy = F::load(places_.y[block / kBlockColumns * 2 + half]) - v;
      float* pixel = pixels_.value[block][0] + half * kStripPixels;
#pragma GCC unroll 2
      for (int i = 0; i < kStep; i += F::width)
        visit(at + i, dx, i == 0 ? dy : dy + F(static_cast<float>(i / constants::kBlock)), pixel + i);
    }
  }

  const float* record_;
  const float u_, v_;
  const uint64_t strips_;
  const StripPlaces<F>& places_;
  UntraceTile<Channels>& pixels_;
  alignas(64) float alpha_[2 * kBlocksInTile * kStep], weight_[2 * kBlocksInTile * kStep];
};

template <class F, int Channels>
void untrace_tile_of(const Trace& trace, int tile, const TracePlanes& picture, const TracePlanes& loss, float* records) {
  const View& view = trace.view;
  const uint32_t begin = trace.tile_begin[tile], end = trace.tile_begin[tile + 1];
  if (begin == end) return;
  UntraceTile<Channels> pixels;
  for (int s = 0; s < kBlocksInTile; ++s)
    start_back<Channels>(view, corner_of(view, tile, s), picture, loss, pixels.value[s]);
  const StripPlaces<F> places;
  const Corner corner = corner_of(view, tile, 0);
  const int32_t* list = trace.list.data();
  constexpr int kAhead = 8;
  for (uint32_t k = begin; k < end; ++k) {
    const size_t coming = static_cast<size_t>(list[k + kAhead]) * simd::kRecord;  // there is a margin behind the lists
    __builtin_prefetch(trace.records.data() + coming);
    __builtin_prefetch(records + coming, 1);
    if (trace.reached[k] == 0) continue;
    const size_t place = static_cast<size_t>(list[k]) * simd::kRecord;
    Untracing<F, Channels> gaussian(trace.records.data() + place, corner, trace.reached[k], places, pixels);
    gaussian.find_alpha();
    gaussian.find_shares();
    gaussian.add_sums(records + place);
  }
}

// Adds the gradients of tile number `tile` to the records of its Gaussians, [places][16].
template <class F>
void untrace_tile(const Trace& trace, int tile, const TracePlanes& picture, const TracePlanes& loss, float* sums) {
  if (trace.has_features) return untrace_tile_of<F, kColours + kMaxFeatures>(trace, tile, picture, loss, sums);
  untrace_tile_of<F, kColours>(trace, tile, picture, loss, sums);
}

}  // namespace emotag
