// One avatar's hearing: c tokens from 320·c samples, with everything that is remembered between steps.
#pragma once

#include <vector>

#include "../aligned.h"
#include "../pool.h"
#include "kernels.h"
#include "weights.h"

namespace emotag::encoder {

class Stream {
 public:
  // `weights` must be complete and outlive this. Throws std::bad_alloc.
  Stream(const Weights& weights, const Kernels& kernels, int threads);

  // samples [320·c] and mask [L] (0 for filled slots of the rings, -1e4 for empty ones) to tokens [c][H]. The same
  // numbers for any count of threads; `alone` leaves the others asleep. Allocates nothing.
  void step(const float* samples, const float* mask, float* tokens, bool alone);
  // Takes the first `count` tokens' keys and values of the last step into the rings, from `slot` on.
  void keep(int slot, int count);
  // Back to the silence before the first sample.
  void reset();

  const Kernels& kernels() const { return kernels_; }
  int threads() const { return pool_.threads(); }
  size_t bytes() const;

 private:
  struct Buffer {  // rows of floats, padded
    Aligned<float> data;
    size_t stride = 0;

    void reset(int rows, int width) {
      stride = padded(width);
      data.reset(rows * stride);
    }
    float* row(int i) { return data.data() + i * stride; }
  };

  void convolve(const float* samples);
  void convolution(int i);
  void place();
  void place_group(int group);
  void transform(int i);
  void attend(int i, int answers);
  void aim();
  void turn(Buffer& x, int tokens);
  Head head_of(int layer, int head, int answers);
  void norm(const Norm& norm, Buffer& from, int rows, Buffer& to);
  void quantise(const float* x, size_t stride, int rows, const Product& product);
  Job job(const Product& product, int rows, Buffer& out, Then then = Then::kNothing);
  void run(std::initializer_list<Job> jobs);
  template <class Work>
  void spread(int chunks, const Work& work) {
    pool_in_use_->run(chunks, work);
  }

  const Weights& weights_;
  const Sizes& sizes_;
  const Kernels& kernels_;
  Pool pool_, alone_;
  Pool* pool_in_use_;

  Aligned<float> joined_;            // 5 samples of the step before, then the new ones
  Buffer convolved_[kConvolutions];  // row 0: what the next convolution remembers
  Buffer window_, x_, normed_, q_, k_, v_, mixed_, inner_;
  Aligned<uint8_t> bytes_;  // rows as they are multiplied
  Aligned<float> scales_;
  Aligned<int32_t> zeros_;
  Rows rows_;
  struct GroupScratch {
    Aligned<float> floats;
    Aligned<uint8_t> bytes, packed;
    Aligned<float> scale;
    Aligned<int32_t> zero;
    Buffer out;
  };
  Rows group_rows(const Product& product, GroupScratch& scratch) const;
  std::vector<GroupScratch> group_scratch_;
  Aligned<float> mask_, scores_, head_mixed_;
  Arena arena_;
  float *keys_, *values_;  // rings of every head of every layer, and behind them the step's own
  size_t keys_size_, values_size_, scores_size_, head_mixed_size_;  // of one head
  int slot_ = 0, kept_ = 0;
  std::vector<double> turned_;         // radians of the chunk's first token, below a full turn, for every pair
  std::vector<float> cosine_, sine_;   // of every token and pair
};

}  // namespace emotag::encoder
