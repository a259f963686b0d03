// Structural similarity of two pictures and its gradient in the first (Wang et al. 2004), for training.
#pragma once

#include <mutex>

#include "aligned.h"
#include "pool.h"

namespace emotag {

struct Variant;

constexpr int kTaps = 11;             // of the window
constexpr int kTapMargin = kTaps / 2;
constexpr int kStripe = 32;           // rows that are worked on at once, so that they stay in the cache
constexpr int kPartials = 3;          // derivatives that are kept: in the window's means of a, of a², of a·b

struct SimilarityWindow {
  float weights[kTaps];
  float c1, c2;
};

// Planes (C,H,W), 0…1.
struct PicturePair {
  int channels, height, width;
  const float *a, *b;

  int stripes() const { return (height + kStripe - 1) / kStripe; }  // of a channel
  size_t pixels() const { return static_cast<size_t>(height) * width; }
};

// Rows of a scratch: what lies outside the picture is zero.
struct SimilarityScratch {
  static constexpr int kEdge = 16;  // floats on either side; the window needs five of them

  explicit SimilarityScratch(int picture_width)
      : stride((picture_width + 15) / 16 * 16 + 2 * kEdge), source(rows(kPartials * kSourceRows)), blurred(rows(4)),
        result(rows(1 + kPartials)) {}

  static constexpr int kSourceRows = kStripe + 2 * kTapMargin;
  int stride;                              // of all rows, floats
  Aligned<float> source, blurred, result;  // [planes][source rows], [fields], [planes] of stride

 private:
  size_t rows(int count) const { return static_cast<size_t>(count) * stride; }
};

class Similarity {
 public:
  Similarity(const Variant& variant, int threads, const SimilarityWindow& window)
      : variant_(variant), window_(window), pool_(threads) {}

  // Fills map (C,H,W), and partials (3,C,H,W) unless that is null. Both ways give the same bits for any number of
  // threads. Thread-safe: concurrent calls take turns.
  void forward(const PicturePair& pictures, float* map, float* partials);
  // The gradient (C,H,W) in `a` of a loss whose gradient in the map is `loss`.
  void backward(const PicturePair& pictures, const float* partials, const float* loss, float* gradient);

 private:
  template <class Work>
  void run(const PicturePair& pictures, const Work& work);

  const Variant& variant_;
  const SimilarityWindow window_;
  Pool pool_;
  std::mutex mutex_;
};

}  // namespace emotag
