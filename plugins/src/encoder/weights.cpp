#include "weights.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace emotag::encoder {
Weights::Weights(const Sizes& sizes) : sizes_(sizes) {
  products_.reserve(products());
  norms_.reserve(norms());
}

ProductArrays Weights::wanted_product(int index) const {
  const auto size = [](int outputs, int taps, int channels) {
    return ProductArrays{outputs, taps, channels, 0, nullptr, nullptr, nullptr};
  };
  const int hidden = sizes_.hidden, width = sizes_.group_width();
  if (index < kConvolutions - 1) return size(sizes_.channels[index + 1], kKernels[index + 1], sizes_.channels[index]);
  if (index == kConvolutions - 1) return size(hidden, 1, sizes_.channels[kConvolutions - 1]);
  if (index < kConvolutions + sizes_.groups) return size(width, 1, sizes_.taps() * width);
  const int part = (index - kConvolutions - sizes_.groups) % 6;
  return part == 4 ? size(sizes_.inner, 1, hidden) : size(hidden, 1, part == 5 ? sizes_.inner : hidden);
}

int Weights::next_product(int outputs, int taps, int channels, bool floats) const {
  const int index = static_cast<int>(products_.size());
  if (index >= products()) throw std::invalid_argument("more products than the encoder has");
  const ProductArrays wanted = wanted_product(index);
  if (outputs != wanted.outputs || taps != wanted.taps || channels != wanted.channels)
    throw std::invalid_argument("a product has another size than the encoder's");
  if (index > 0 && floats != (products_[0].floats != nullptr))
    throw std::invalid_argument("some products are floats and others are not");
  return index;
}

void Weights::add(const FloatArrays& arrays) {
  next_product(arrays.outputs, arrays.taps, arrays.channels, true);
  products_.push_back(pack(arrays, &arena_));
}

void Weights::add(const ProductArrays& arrays) {
  const int index = next_product(arrays.outputs, arrays.taps, arrays.channels, false);
  const int part = index - kConvolutions - sizes_.groups;
  if ((part >= 0 && (part % 6 == 1 || part % 6 == 2)) && arrays.levels != static_cast<int>(products_.back().levels))
    throw std::invalid_argument("query, key and value differ in their levels");
  products_.push_back(pack(arrays, &arena_));
}

int Weights::wanted_norm(int index) const {
  if (index < norms_before()) return sizes_.channels[index];
  return index == norms_before() ? sizes_.channels[kConvolutions - 1] : sizes_.hidden;
}

void Weights::add_norm(int count, const float* gain, const float* bias, float epsilon) {
  const int index = static_cast<int>(norms_.size());
  if (index >= norms() || count != wanted_norm(index))
    throw std::invalid_argument("a norm has another size than the encoder's");
  norms_.push_back({count, epsilon, arena_.padded_copy(gain, count), arena_.padded_copy(bias, count)});
}

void Weights::set_first(const float* weights, const float* bias) {
  const int channels = sizes_.channels[0], width = padded(channels);
  float* turned = arena_.take<float>(static_cast<size_t>(kKernels[0]) * width);
  std::fill_n(turned, static_cast<size_t>(kKernels[0]) * width, 0.0f);
  for (int c = 0; c < channels; ++c)
    for (int tap = 0; tap < kKernels[0]; ++tap) turned[tap * width + c] = weights[c * kKernels[0] + tap];
  first_ = turned;
  first_bias_ = arena_.padded_copy(bias, channels);
}

void Weights::set_silence(int convolution, const float* row) {
  if (convolution < 1 || convolution >= kConvolutions || kKernels[convolution] != 3)
    throw std::invalid_argument("convolution " + std::to_string(convolution) + " remembers nothing");
  silence_[convolution] = arena_.padded_copy(row, sizes_.channels[convolution - 1]);
}

void Weights::set_rotary(const float* speeds, int pairs) {
  if (pairs < 1 || 2 * pairs > sizes_.head_width()) throw std::invalid_argument("a head has not so many pairs to turn");
  rotary_.assign(speeds, speeds + pairs);
}

bool Weights::complete() const {
  bool silent = true;
  for (int i = 1; i < kConvolutions; ++i) silent = silent && (kKernels[i] != 3 || silence_[i] != nullptr);
  return silent && first_ != nullptr && static_cast<int>(products_.size()) == products() &&
         static_cast<int>(norms_.size()) == norms();
}

Layer Weights::layer(int i) const {
  const Product* p = &products_[kConvolutions + sizes_.groups + 6 * i];
  const Norm* n = &norms_[norms_before() + 2 + 2 * i];
  return {p, p + 1, p + 2, p + 3, p + 4, p + 5, n, n + 1};
}

}  // namespace emotag::encoder
