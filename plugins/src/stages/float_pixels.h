// The pixels of a block as floats: for every processor, and for colours of any brightness. word_pixels.h has the same
// members.
#pragma once

#include "../math/blend.h"
#include "hits.h"

namespace emotag {

template <class F>
struct FloatPixels {
  static constexpr int kVectors = kBlockPixels / F::width;
  using Number = float;                                       // of a stored pixel
  using Colour = float;                                       // of a group's members
  static constexpr float kLevelUnit = 1.0f, kLevelBias = 0.0f;  // a level is stored as (level + bias) · unit

  struct Level {
    F value[kVectors];
    EMOTAG_INLINE void set(const F (&levels)[kVectors]) {
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) value[i] = levels[i];
    }
  };

  Pixel<F> pixel[kVectors];

  // How far below the block's first row the pixels of vector i are.
  EMOTAG_HD F row(int i) { return F::block_y() + F(static_cast<float>(i * constants::kBlock / kVectors)); }
  // Those of one vector of members.
  template <class Colours>
  EMOTAG_HD void load_colours(const Frame& frame, const int32_t* member, const F*, int at, Colours& to) {
    F colour[simd::kFour];
    F::template load_fours<simd::kFour>(frame.colours.data(), member, colour);
    for (int c = 0; c < 3; ++c) F::store(to[c] + at, colour[c]);
  }
  EMOTAG_HD void erase(Number (*value)[kBlockPixels]) {
    for (int i = 0; i < kBlockPixels; i += F::width)
      for (int c = 0; c < 4; ++c) F::store(value[c] + i, F(c == 0 ? 1.0f : 0.0f));
  }
  // Stored numbers as transmittances, and as colours times `scale`.
  EMOTAG_HD F transmittance(const Number* value) { return F::load(value); }
  EMOTAG_HD F colour(const Number* value, F scale) { return F::load(value) * scale; }

  EMOTAG_INLINE void load(const Number (*value)[kBlockPixels]) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i)
      pixel[i] = {F::load(value[0] + i * F::width), F::load(value[1] + i * F::width), F::load(value[2] + i * F::width),
                  F::load(value[3] + i * F::width)};
  }
  EMOTAG_INLINE void store(Number (*value)[kBlockPixels]) const {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      F::store(value[0] + i * F::width, pixel[i].transmittance);
      F::store(value[1] + i * F::width, pixel[i].r);
      F::store(value[2] + i * F::width, pixel[i].g);
      F::store(value[3] + i * F::width, pixel[i].b);
    }
  }

  // One Gaussian over the pixels. The loops are over registers: they must be unrolled, and what a loop needs is loaded just
  // before it, since there are only sixteen.
  template <class Colours>
  EMOTAG_INLINE void blend(const Colours& colour, int j, const Level& level) {
    F weight[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) weight[i] = weight_of(level.value[i]) * pixel[i].transmittance;
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) pixel[i].transmittance = pixel[i].transmittance - weight[i];
    const F r(colour[0][j]);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) pixel[i].r = fma(weight[i], r, pixel[i].r);
    const F g(colour[1][j]);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) pixel[i].g = fma(weight[i], g, pixel[i].g);
    const F b(colour[2][j]);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) pixel[i].b = fma(weight[i], b, pixel[i].b);
  }
  EMOTAG_INLINE bool opaque() const {
    F most = pixel[0].transmittance;
#pragma GCC unroll 4
    for (int i = 1; i < kVectors; ++i) most = max(most, pixel[i].transmittance);
    return bits(most >= F(constants::kStopDrawing)) == 0;
  }
  // What would still come behind these pixels counts as more of the same.
  EMOTAG_INLINE void fill_up() {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      const F scale = rcp(F(1.0f) - pixel[i].transmittance);
      pixel[i] = {F(0.0f), pixel[i].r * scale, pixel[i].g * scale, pixel[i].b * scale};
    }
  }
};

}  // namespace emotag
