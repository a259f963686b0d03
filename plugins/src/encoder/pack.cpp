#include "pack.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace emotag::encoder {
namespace {

constexpr int kMostSum = 32767;

// Copies a column's four-input words into its panel, and adds up what bounds its sums of 16 bits.
class Column {
 public:
  Column(int8_t* panel, int lane, int limit) : to_(panel + 4 * lane), limit_(limit) {}

  void put(const int8_t* group) {
    int high[2] = {0, 0}, all[2] = {0, 0};  // of the inputs 0 and 1, and 2 and 3, of each four
    for (int i = 0; i < kLanes; ++i) {
      const int w = group[i];
      high[i / 2 % 2] += w > 0 ? w : 0;
      all[i / 2 % 2] += w;
    }
    for (int half = 0; half < 2; ++half) most_ = std::max({most_, high[half], high[half] - all[half]});
    sum_ += all[0] + all[1];
    for (int j = 0; j < 4; ++j) std::memcpy(to_ + 64 * j, group + 4 * j, 4);
    to_ += kPanelGroup;
  }
  int32_t sum() const { return sum_; }
  bool fits() const { return most_ <= limit_; }

 private:
  int8_t* to_;
  int limit_;
  int32_t sum_ = 0;
  int most_ = 0;
};

// Inputs from one tap to the next: padded where there are several.
template <class Arrays>
int step_of(const Arrays& arrays) {
  return arrays.taps > 1 ? padded(arrays.channels) : arrays.channels;
}

// One output's weights with every tap padded, in whole groups.
void spread(const ProductArrays& arrays, int output, std::vector<int8_t>* row) {
  const int8_t* from = arrays.weights + static_cast<size_t>(output) * arrays.taps * arrays.channels;
  const int step = step_of(arrays);
  for (int tap = 0; tap < arrays.taps; ++tap)
    std::memcpy(row->data() + static_cast<size_t>(tap) * step, from + static_cast<size_t>(tap) * arrays.channels,
                arrays.channels);
}

template <class Arrays>
Product sized(const Arrays& arrays, int step) {
  Product p;
  p.inputs = padded(arrays.taps * step);
  p.outputs = arrays.outputs;
  p.groups = p.inputs / kLanes;
  p.panels = padded(arrays.outputs) / kLanes;
  return p;
}

}  // namespace

Product pack(const ProductArrays& arrays, Arena* arena) {
  if (arrays.levels < 1 || arrays.levels > 255) throw std::invalid_argument("levels are not from 1 to 255");
  Product p = sized(arrays, step_of(arrays));
  p.levels = static_cast<float>(arrays.levels);
  const size_t panel_bytes = static_cast<size_t>(p.groups) * kPanelGroup;
  int8_t* packed = arena->take<int8_t>(p.panels * panel_bytes);
  int32_t* sums = arena->take<int32_t>(p.panels * kLanes);
  std::vector<int8_t> row(p.inputs), nothing(p.inputs);
  for (int output = 0; output < p.panels * kLanes; ++output) {
    const bool real = output < p.outputs;
    if (real) spread(arrays, output, &row);
    Column column(packed + output / kLanes * panel_bytes, output % kLanes, kMostSum / arrays.levels);
    for (int group = 0; group < p.groups; ++group) column.put((real ? row : nothing).data() + kLanes * group);
    if (!column.fits()) throw std::invalid_argument("sums of products exceed 16 bits");
    sums[output] = column.sum();
  }
  p.weights = packed;
  p.sums = sums;
  p.scale = arena->padded_copy(arrays.scale, p.outputs);
  p.bias = arena->padded_copy(arrays.bias, p.outputs);
  return p;
}

Product pack(const FloatArrays& arrays, Arena* arena) {
  const int step = step_of(arrays);
  Product p = sized(arrays, step);
  const size_t panel_floats = static_cast<size_t>(p.inputs) * kLanes;
  float* packed = arena->take<float>(p.panels * panel_floats);
  std::fill_n(packed, p.panels * panel_floats, 0.0f);
  for (int panel = 0; panel < p.panels; ++panel) {
    const int count = std::min(kLanes, p.outputs - panel * kLanes);
    for (int tap = 0; tap < arrays.taps; ++tap)
      for (int channel = 0; channel < arrays.channels; ++channel) {
        const float* from = arrays.weights + panel * kLanes * arrays.output_step +
                            (static_cast<int64_t>(tap) * arrays.channels + channel) * arrays.input_step;
        float* to = packed + panel * panel_floats + (static_cast<size_t>(tap) * step + channel) * kLanes;
        for (int i = 0; i < count; ++i) to[i] = from[i * arrays.output_step];
      }
  }
  p.floats = packed;
  p.bias = arena->padded_copy(arrays.bias, p.outputs);
  return p;
}

}  // namespace emotag::encoder
