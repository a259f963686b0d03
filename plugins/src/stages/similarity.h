// Training: structural similarity of a stripe of rows, and the way back.
//
// Down the columns first, straight from the pictures, into one row of each field; then along that row.
#pragma once

#include "../math/hd.h"
#include "../similarity.h"

namespace emotag {

// Rows around a stripe of a plane into the scratch, by copy(to, row, offset of the row in the plane).
template <class F, class Copy>
static EMOTAG_INLINE void gather_rows(const PicturePair& p, int stripe, float* to, int stride, const Copy& copy) {
  for (int i = 0; i < SimilarityScratch::kSourceRows; ++i) {
    const int row = stripe * kStripe + i - kTapMargin;
    float* start = to + static_cast<size_t>(i) * stride + SimilarityScratch::kEdge;
    if (row < 0 || row >= p.height)
      memset(start, 0, sizeof(float) * p.width);
    else
      copy(start, static_cast<size_t>(row) * p.width);
  }
}

template <class F>
static EMOTAG_INLINE F along_row(const F* weights, const float* row) {
  F sum = weights[0] * F::loadu(row - kTapMargin);
#pragma GCC unroll 11
  for (int k = 1; k < kTaps; ++k) sum = fma(weights[k], F::loadu(row - kTapMargin + k), sum);
  return sum;
}

template <class F>
static EMOTAG_INLINE void load_weights(const SimilarityWindow& window, F* weights) {
  for (int k = 0; k < kTaps; ++k) weights[k] = F(window.weights[k]);
}

// The window's means of a, b, a² + b² and a·b down the columns, of row `row` of a stripe.
template <class F>
static EMOTAG_INLINE void blur_down(const F* weights, const SimilarityScratch& s, int row, int width, float* blurred) {
  const float* a = s.source.data() + static_cast<size_t>(row) * s.stride + SimilarityScratch::kEdge;
  const float* b = a + static_cast<size_t>(SimilarityScratch::kSourceRows) * s.stride;
  float* to = blurred + SimilarityScratch::kEdge;
  for (int x = 0; x < width; x += F::width) {
    F sum[4] = {F(0.0f), F(0.0f), F(0.0f), F(0.0f)};
#pragma GCC unroll 11
    for (int k = 0; k < kTaps; ++k) {
      const F one = F::load(a + static_cast<size_t>(k) * s.stride + x);
      const F other = F::load(b + static_cast<size_t>(k) * s.stride + x);
      sum[0] = fma(weights[k], one, sum[0]);
      sum[1] = fma(weights[k], other, sum[1]);
      sum[2] = fma(weights[k], fma(one, one, other * other), sum[2]);
      sum[3] = fma(weights[k], one * other, sum[3]);
    }
    for (int f = 0; f < 4; ++f) F::store(to + static_cast<size_t>(f) * s.stride + x, sum[f]);
  }
}

template <class F>
static void compare_stripe(const SimilarityWindow& window, const PicturePair& p, int channel, int stripe,
                           SimilarityScratch* s, float* map, float* partials) {
  const size_t plane = p.pixels() * channel, stride = s->stride;
  float* source = s->source.data();
  gather_rows<F>(p, stripe, source, s->stride,
                 [&](float* to, size_t at) { memcpy(to, p.a + plane + at, sizeof(float) * p.width); });
  gather_rows<F>(p, stripe, source + SimilarityScratch::kSourceRows * stride, s->stride,
                 [&](float* to, size_t at) { memcpy(to, p.b + plane + at, sizeof(float) * p.width); });
  F weights[kTaps];
  load_weights(window, weights);
  const F c1(window.c1), c2(window.c2), two(2.0f);
  float *blurred = s->blurred.data(), *result = s->result.data();
  for (int row = 0; row < kStripe && stripe * kStripe + row < p.height; ++row) {
    blur_down<F>(weights, *s, row, p.width, blurred);
    const float* from = blurred + SimilarityScratch::kEdge;
    for (int x = 0; x < p.width; x += F::width) {
      const F mean_a = along_row(weights, from + x), mean_b = along_row(weights, from + stride + x);
      const F squares = along_row(weights, from + 2 * stride + x), product = along_row(weights, from + 3 * stride + x);
      const F means = mean_a * mean_b, mean_squares = fma(mean_a, mean_a, mean_b * mean_b);
      // S = t1 t2 / (b1 b2), with t2 and b2 from the window's means of a·b and of a² + b².
      const F top1 = fma(two, means, c1), top2 = fma(two, product - means, c2);
      const F bottom1 = mean_squares + c1, bottom2 = squares - mean_squares + c2;
      const F inverse = rcp(bottom1 * bottom2), value = top1 * top2 * inverse;
      F::store(result + x, value);
      const F in_mean = mean_b * (top2 - top1) * inverse - value * mean_a * (bottom2 - bottom1) * inverse;
      F::store(result + stride + x, two * in_mean);
      F::store(result + 2 * stride + x, value * bottom1 * inverse);
      F::store(result + 3 * stride + x, two * top1 * inverse);
    }
    const size_t at = plane + static_cast<size_t>(stripe * kStripe + row) * p.width, all = p.pixels() * p.channels;
    memcpy(map + at, result, sizeof(float) * p.width);
    for (int k = 0; partials != nullptr && k < kPartials; ++k)
      memcpy(partials + all * k + at, result + stride * (k + 1), sizeof(float) * p.width);
  }
}

// The window is symmetric, so its adjoint is itself.
template <class F>
static void uncompare_stripe(const SimilarityWindow& window, const PicturePair& p, int channel, int stripe,
                             SimilarityScratch* s, const float* partials, const float* loss, float* gradient) {
  const size_t plane = p.pixels() * channel, all = p.pixels() * p.channels, stride = s->stride;
  float *source = s->source.data(), *blurred = s->blurred.data(), *result = s->result.data();
  for (int k = 0; k < kPartials; ++k) {
    const float *from = partials + all * k + plane, *weight = loss + plane;
    gather_rows<F>(p, stripe, source + SimilarityScratch::kSourceRows * stride * k, s->stride,
                   [&](float* to, size_t at) {
                     for (int x = 0; x < p.width; ++x) to[x] = from[at + x] * weight[at + x];
                   });
  }
  F weights[kTaps];
  load_weights(window, weights);
  for (int row = 0; row < kStripe && stripe * kStripe + row < p.height; ++row) {
    for (int k = 0; k < kPartials; ++k) {
      const float* from = source + (SimilarityScratch::kSourceRows * k + row) * stride + SimilarityScratch::kEdge;
      float* to = blurred + k * stride + SimilarityScratch::kEdge;
      for (int x = 0; x < p.width; x += F::width) {
        F sum = weights[0] * F::load(from + x);
#pragma GCC unroll 11
        for (int tap = 1; tap < kTaps; ++tap) sum = fma(weights[tap], F::load(from + tap * stride + x), sum);
        F::store(to + x, sum);
      }
    }
    const float* from = blurred + SimilarityScratch::kEdge;
    const size_t at = plane + static_cast<size_t>(stripe * kStripe + row) * p.width;
    for (int x = 0; x < p.width; x += F::width)
      for (int k = 0; k < kPartials; ++k) F::store(result + k * stride + x, along_row(weights, from + k * stride + x));
    for (int x = 0; x < p.width; ++x)
      gradient[at + x] = result[x] - 2.0f * p.a[at + x] * result[stride + x] + p.b[at + x] * result[2 * stride + x];
  }
}

}  // namespace emotag
