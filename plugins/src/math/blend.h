// Compositing one Gaussian over one pixel, front to back.
#pragma once

#include "../constants.h"
#include "hd.h"

namespace emotag {

constexpr float kLog2Levels = 7.994353437f;  // log2(255): alpha is kept as its level above the cut of 1/255

// 2^x / 255 for x in about [-1, 9]. The sum with 1.5·2²³ leaves the nearest integer in the low mantissa bits; the rest is
// a polynomial of degree 2 with relative error 1.7e-3, which costs less than 0.1 dB of picture at 70 dB.
template <class T>
EMOTAG_HD T alpha_of(T x) {
  constexpr float kCut = constants::kAlphaCut;
#if defined(__CUDA_ARCH__)  // T is float; a GPU has an instruction for it
  return ::exp2f(x) * kCut;
#else
  const T shift(12582912.0f);
  const T magic = x + shift;
  const T fraction = x - (magic - shift);
  const T y = fma(fma(T(0.238428429f * kCut), fraction, T(0.703447968f * kCut)), fraction, T(1.0004432f * kCut));
  return scale_exponent(y, magic);
#endif
}

// As alpha_of, to a relative error of 3e-6: gradients are those of the exact function.
template <class T>
EMOTAG_HD T precise_alpha_of(T x) {
  constexpr float kCut = constants::kAlphaCut;
  const T shift(12582912.0f);
  const T magic = x + shift;
  const T fraction = x - (magic - shift);
  const T high = fma(T(0.0095701f * kCut), fraction, T(0.05591786f * kCut));
  const T middle = fma(high, fraction, T(0.24024745f * kCut));
  return scale_exponent(fma(fma(middle, fraction, T(0.69312181f * kCut)), fraction, T(0.99999926f * kCut)), magic);
}

template <class T>
struct Pixel {
  T transmittance, r, g, b;
};

// Alpha as it is blended. level: log2(255·alpha); a negative one is below the cut and counts as nothing.
template <class T>
EMOTAG_HD T weight_of(T level) {
  return keep_unless_negative(level, min(alpha_of(level), T(constants::kAlphaMax)));
}

template <class T>
EMOTAG_HD void blend_step(Pixel<T>& pixel, T level, T r, T g, T b) {
  const T weight = weight_of(level) * pixel.transmittance;
  pixel.r = fma(weight, r, pixel.r);
  pixel.g = fma(weight, g, pixel.g);
  pixel.b = fma(weight, b, pixel.b);
  pixel.transmittance = pixel.transmittance - weight;
}

}  // namespace emotag
