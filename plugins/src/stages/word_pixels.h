// The pixels of a block as whole numbers of 16 bits: sixteen in a vector of AVX2, where floats are eight.
//
// Weights and transmittances are in units of 1/32767, colours of 1/16000, levels of 1/4096 octave. What rounding takes from a
// weight stays in the transmittance. What it takes from a colour is lost: dark and faint splats by the hundred lose a level or
// two of 255.
#pragma once

#include "../constants.h"
#include "hits.h"

namespace emotag {

template <class F>
struct WordPixels {
  static constexpr int kVectors = kBlockPixels / F::width;
  using Words = typename F::Words;
  using Number = int16_t;
  using Colour = int32_t;  // of a group's members: one word twice
  static constexpr float kLevelUnit = 4096.0f, kLevelBias = 8.0f;  // stored: 8…16, and saturated there; less is cut
  static constexpr int kClear = 32767;
  // 1/16000 is no power of two: half of white's products would be ties, all up.
  static constexpr float kColourUnit = 32768.0f / (kClear * kWordColours);
  static_assert(kBrightest * kWordColours < 32768.0f);

  struct Level {
    Words value;
    EMOTAG_INLINE void set(const F (&levels)[kVectors]) { value = F::to_words(levels); }
  };

  Words clear, r, g, b;

  EMOTAG_HD F row(int i) { return F::word_y(i); }
  // Those of one vector of members, from their records.
  template <class Colours>
  EMOTAG_HD void load_colours(const Frame&, const int32_t*, const F* record, int at, Colours& to) {
    F::store_low_twice(to[0] + at, record[kRedGreen]);
    F::store_high_twice(to[1] + at, record[kRedGreen]);
    F::store_low_twice(to[2] + at, record[kBlueTiles]);
  }
  EMOTAG_HD void erase(Number (*value)[kBlockPixels]) {
    Words::store(value[0], Words(kClear));
    for (int c = 1; c < 4; ++c) Words::store(value[c], Words(0));
  }
  EMOTAG_HD F transmittance(const Number* value) { return F::load_words(value) * F(1.0f / kClear); }
  EMOTAG_HD F colour(const Number* value, F scale) { return F::load_words(value) * (scale * F(kColourUnit)); }

  EMOTAG_INLINE void load(const Number (*value)[kBlockPixels]) {
    clear = Words::load(value[0]);
    r = Words::load(value[1]);
    g = Words::load(value[2]);
    b = Words::load(value[3]);
  }
  EMOTAG_INLINE void store(Number (*value)[kBlockPixels]) const {
    Words::store(value[0], clear);
    Words::store(value[1], r);
    Words::store(value[2], g);
    Words::store(value[3], b);
  }

  // Alpha in units of 2⁻¹⁵: 2^x / 255 for x in 0…8, nothing below. The power of x's fraction is a polynomial (relative error
  // 1.7e-3, as in math/blend.h), in which 1…2 is 2¹⁵…2¹⁶ and the last 0.4% saturate; that of its whole part is a table.
  EMOTAG_HD Words alpha_of(const Level& level) {
    constexpr float kOne = 32768.0f * 256.0f / 255.0f;
    const auto word = [](float x) { return Words(static_cast<int>(x + 0.5f)); };
    const Words fraction = level.value.template shifted_left<4>();
    const Words octave = power_of_two(level.value.template shifted_right<4>() & Words(0x0f00));
    const Words slope = high_product(fraction, word(0.33717347f * kOne)) + word(0.65762907f * kOne);
    const Words power = plus_saturated(high_product(fraction, slope), word(1.00173167f * kOne));
    return high_product(power, octave);
  }
  template <class Colours>
  EMOTAG_INLINE void blend(const Colours& colour, int j, const Level& level) {
    const Words alpha = min(alpha_of(level), Words(static_cast<int>(constants::kAlphaMax * 32768.0f)));
    const Words weight = rounded_product(alpha, clear);
    clear = clear - weight;
    r = r + rounded_product(weight, Words::all(colour[0] + j));
    g = g + rounded_product(weight, Words::all(colour[1] + j));
    b = b + rounded_product(weight, Words::all(colour[2] + j));
  }
  EMOTAG_INLINE bool opaque() const {
    return !any_above(clear, Words(static_cast<int>(constants::kStopDrawing * kClear)));
  }
  // What would still come behind these pixels counts as more of the same.
  EMOTAG_INLINE void fill_up() {
    alignas(64) Number value[4][kBlockPixels];
    store(value);
    for (int i = 0; i < kBlockPixels; i += F::width) {
      const F scale = rcp(F(1.0f) - transmittance(value[0] + i));
      for (int c = 1; c < 4; ++c) F::store_words(value[c] + i, F::load_words(value[c] + i) * scale);
    }
    load(value);
    clear = Words(0);
  }
};

}  // namespace emotag
