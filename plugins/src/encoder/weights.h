// What all avatars with one encoder share: its sizes and its weights, packed for the kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "pack.h"

namespace emotag::encoder {

constexpr int kConvolutions = 7;
constexpr int kKernels[kConvolutions] = {10, 3, 3, 3, 3, 2, 2};
constexpr int kReach = 64;  // tokens that the positional convolution looks back; it looks ahead one less

struct Sizes {
  int chunk, lookahead, context;  // c, r, L of docs/bundle.md
  int channels[kConvolutions];
  int hidden, heads, inner, layers, groups;
  bool pre_norm, conv_norm;  // norms before attention and feed-forward, not behind; norms in every convolution

  int tokens() const { return chunk + lookahead; }
  int taps() const { return tokens() < kReach ? kReach + tokens() : 2 * kReach; }
  int head_width() const { return hidden / heads; }
  int group_width() const { return hidden / groups; }
};

struct Layer {
  const Product *query, *key, *value, *out, *up, *down;
  const Norm *norm, *final_norm;
};

class Weights {
 public:
  explicit Weights(const Sizes& sizes);
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  // Products in this order: convolutions 1 to 6, the projection, the groups of the positional convolution, of every
  // layer query, key, value, out, up, down. Throws std::invalid_argument if it has not the size it should have, or if
  // sums of eight products could exceed 16 bits; std::bad_alloc.
  void add(const ProductArrays& arrays);
  // The same of floats. Either all products are in 8 bits or none.
  void add(const FloatArrays& arrays);
  // Norms in this order: of the convolutions 0 to 6 if they have any, of the features, of the encoder, of every layer
  // that of attention, that of the feed-forward.
  void add_norm(int count, const float* gain, const float* bias, float epsilon);
  // [channels][10] and [channels] of the first convolution.
  void set_first(const float* weights, const float* bias);
  // What convolution 1 to 4 has heard last before the first sample, [channels of the one before].
  void set_silence(int convolution, const float* row);
  // Radians a token by which the first pairs of channels (2i, 2i + 1) of every head's queries and keys turn. Throws
  // std::invalid_argument if a head has not so many.
  void set_rotary(const float* speeds, int pairs);

  bool complete() const;
  const Sizes& sizes() const { return sizes_; }
  const float* first() const { return first_; }
  const float* first_bias() const { return first_bias_; }
  const float* silence(int convolution) const { return silence_[convolution]; }
  const std::vector<float>& rotary() const { return rotary_; }
  const Product& convolution(int i) const { return products_[i - 1]; }
  const Product& projection() const { return products_[kConvolutions - 1]; }
  const Product& position(int group) const { return products_[kConvolutions + group]; }
  const Norm& convolution_norm(int i) const { return norms_[i]; }
  const Norm& features_norm() const { return norms_[norms_before()]; }
  const Norm& norm() const { return norms_[norms_before() + 1]; }
  Layer layer(int i) const;

 private:
  int norms_before() const { return sizes_.conv_norm ? kConvolutions : 0; }
  int products() const { return kConvolutions + sizes_.groups + 6 * sizes_.layers; }
  int norms() const { return norms_before() + 2 + 2 * sizes_.layers; }
  ProductArrays wanted_product(int index) const;
  // The index of the next product. Throws std::invalid_argument if it has not the size it should have.
  int next_product(int outputs, int taps, int channels, bool floats) const;
  int wanted_norm(int index) const;

  Sizes sizes_;
  Arena arena_;
  std::vector<Product> products_;
  std::vector<Norm> norms_;
  const float* first_ = nullptr;
  const float* first_bias_ = nullptr;
  const float* silence_[kConvolutions] = {};
  std::vector<float> rotary_;
};

}  // namespace emotag::encoder
