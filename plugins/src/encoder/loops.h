// The encoder's loops over floats, for any vector type, and the table of them.
#pragma once

#include "kernels.h"
#include "multiply.h"
#include "multiply_rows.h"

namespace emotag::encoder {

// 2^x for -120 ≤ x ≤ 120, relative error 1e-7: the nearest whole power and a polynomial for the rest.
template <class F>
EMOTAG_HD F power_of_two(F x) {
  const F shift(12582912.0f);
  const F magic = x + shift;
  const F rest = x - (magic - shift);
  F y = fma(F(0.00132765f), rest, F(0.00967554f));
  y = fma(y, rest, F(0.05550713f));
  y = fma(y, rest, F(0.2402212f));
  y = fma(y, rest, F(0.69314697f));
  return scale_exponent(fma(y, rest, F(1.0f)), magic);
}

// x·Φ(x) = max(x, 0) - |x|·erfc(|x|/√2)/2; erfc by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
template <class F>
EMOTAG_HD F gelu_of(F x) {
  const F size = abs(x);
  const F t = rcp(fma(size, F(0.3275911f * 0.70710678f), F(1.0f)));
  F tail = fma(F(0.5f * 1.061405429f), t, F(0.5f * -1.453152027f));
  tail = fma(tail, t, F(0.5f * 1.421413741f));
  tail = fma(tail, t, F(0.5f * -0.284496736f));
  tail = fma(tail, t, F(0.5f * 0.254829592f));
  const F decay = power_of_two(max(x * x * F(-0.72134752f), F(-100.0f)));
  return fnma(size * t, tail * decay, max(x, F(0.0f)));
}

template <class F>
EMOTAG_HD float total_of(F x) {
  alignas(64) float lane[F::width];
  F::store(lane, x);
  float sum = 0;
  for (int i = 0; i < F::width; ++i) sum += lane[i];
  return sum;
}

template <class F>
EMOTAG_HD float most_of(F x) {
  alignas(64) float lane[F::width];
  F::store(lane, x);
  float most = lane[0];
  for (int i = 1; i < F::width; ++i) most = max(most, lane[i]);
  return most;
}

template <class I>
void quantise(const float* x, int groups, float levels, uint8_t* bytes, int stride, float* scale, int32_t* zero) {
  using F = typename I::F;
  F low(0.0f), high(0.0f);  // zero is always one of the levels
  for (int i = 0; i < kLanes * groups; i += F::width) {
    const F v = F::load(x + i);
    low = min(v, low);
    high = max(v, high);
  }
  const float least = -most_of(-low), range = most_of(high) - least;
  const float step = range > 1e-30f ? range / levels : 1.0f, inverse = 1.0f / step;
  const float origin = static_cast<float>(static_cast<int>(min(-least * inverse, levels) + 0.5f));
  *scale = step;
  *zero = static_cast<int32_t>(origin);
  const F factor(inverse), shift(origin), top(levels);
  for (int group = 0; group < groups; ++group) {
    F v[kLanes / F::width];
#pragma GCC unroll 4
    for (int i = 0; i < kLanes / F::width; ++i)
      v[i] = min(max(fma(F::load(x + kLanes * group + F::width * i), factor, shift), F(0.0f)), top);
    I::store_bytes(bytes + static_cast<size_t>(stride) * group, v);
  }
}

// Scales, bias and what follows for the sums of a tile.
template <class I>
EMOTAG_HD void finish(const Job& job, int panel, int first, int rows, const int32_t* sums) {
  using F = typename I::F;
  for (int i = 0; i < kLanes; i += F::width) {
    const F scale = F::load(job.product->scale + kLanes * panel + i);
    const F bias = F::load(job.product->bias + kLanes * panel + i);
    for (int r = 0; r < rows; ++r) {
      float* to = job.out + (first + r) * job.stride + kLanes * panel + i;
      F y = fma(I::from_ints(sums + kLanes * r + i), scale * F(job.from.scale[first + r]), bias);
      if (job.then == Then::kGelu) y = gelu_of(y);
      if (job.then == Then::kAdd) y = y + F::load(to);
      F::store(to, y);
    }
  }
}

using Tile = void (*)(const Product&, int panel, const uint8_t* bytes, int stride, const int32_t* zero, int32_t* out);

template <class I, int R>
EMOTAG_HD void list_tiles(Tile* tiles) {
  if constexpr (R > 0) {
    tiles[R] = I::template tile<R>;
    list_tiles<I, R - 1>(tiles);
  }
}

// Calls use(first row, rows, sums) for each tile of a panel.
template <class I, class Use>
EMOTAG_HD void each_tile(const Product& product, const Rows& from, int rows, int panel, const Use& use) {
  Tile tiles[kMostRows + 1];
  list_tiles<I, kMostRows>(tiles);
  const int blocks = (rows + kMostRows - 1) / kMostRows;
  alignas(64) int32_t sums[kMostRows * kLanes];
  for (int block = 0, first = 0; block < blocks; ++block) {
    const int count = (rows - first + blocks - block - 1) / (blocks - block);
    tiles[count](product, panel, from.bytes + kLanes * first, from.stride, from.zero + first, sums);
    use(first, count, sums);
    first += count;
  }
}

// The same for sums of floats.
template <class I>
EMOTAG_HD void finish_floats(const Job& job, int panel, int first, int rows, const float* sums) {
  using F = typename I::F;
  for (int i = 0; i < kLanes; i += F::width) {
    const F bias = F::load(job.product->bias + kLanes * panel + i);
    for (int r = 0; r < rows; ++r) {
      float* to = job.out + (first + r) * job.stride + kLanes * panel + i;
      F y = F::load(sums + kLanes * r + i) + bias;
      if (job.then == Then::kGelu) y = gelu_of(y);
      if (job.then == Then::kAdd) y = y + F::load(to);
      F::store(to, y);
    }
  }
}

template <class I>
void panels(const Job& job, int first, int last) {
  if (job.product->floats != nullptr) {
    for (int panel = first; panel < last; ++panel)
      each_float_tile<I>(*job.product, job.from, job.rows, panel, [&](int row, int rows, const float* sums) {
        finish_floats<I>(job, panel, row, rows, sums);
      });
    return;
  }
  for (int panel = first; panel < last; ++panel)
    each_tile<I>(*job.product, job.from, job.rows, panel, [&](int row, int rows, const int32_t* sums) {
      finish<I>(job, panel, row, rows, sums);
    });
}

template <class I>
void sums_of(const Product& product, const Rows& from, int rows, int32_t* out) {
  for (int panel = 0; panel < product.panels; ++panel)
    each_tile<I>(product, from, rows, panel, [&](int row, int count, const int32_t* sums) {
      for (int r = 0; r < count; ++r)
        memcpy(out + (static_cast<size_t>(row + r) * product.panels + panel) * kLanes, sums + kLanes * r,
               kLanes * sizeof *out);
    });
}

template <class I>
void norm_row(const Norm& norm, const float* x, float* out, bool gelu) {
  using F = typename I::F;
  const int width = padded(norm.count);
  F sum(0.0f);
  for (int i = 0; i < width; i += F::width) sum = sum + F::load(x + i);
  const float mean = total_of(sum) / norm.count;
  F squares(0.0f);
  for (int i = 0; i < width; i += F::width) {
    const F d = F::load(x + i) - F(mean);
    squares = fma(d, d, squares);
  }
  const float padding = (width - norm.count) * mean * mean;
  const float variance = max((total_of(squares) - padding) / norm.count, 0.0f);
  const F inverse(1.0f / ::sqrtf(variance + norm.epsilon));
  for (int i = 0; i < width; i += F::width) {
    const F y = fma((F::load(x + i) - F(mean)) * inverse, F::load(norm.gain + i), F::load(norm.bias + i));
    F::store(out + i, gelu ? gelu_of(y) : y);
  }
}

template <class I>
void first_rows(const float* samples, int rows, int channels, const float* weights, const float* bias, float* out,
                bool gelu) {
  using F = typename I::F;
  for (int i = 0; i < channels; i += F::width) {
    F w[10];
    for (int tap = 0; tap < 10; ++tap) w[tap] = F::load(weights + tap * channels + i);
    const F b = F::load(bias + i);
    for (int row = 0; row < rows; ++row) {
      F y = b;
      for (int tap = 0; tap < 10; ++tap) y = fma(F(samples[5 * row + tap]), w[tap], y);
      F::store(out + static_cast<size_t>(row) * channels + i, gelu ? gelu_of(y) : y);
    }
  }
}

template <class I>
void add_gelu(const float* kept, const float* x, int count, float* out) {
  using F = typename I::F;
  for (int i = 0; i < count; i += F::width) I::storeu(out + i, F::loadu(kept + i) + gelu_of(F::loadu(x + i)));
}

// Where the i-th number of a token's key or value lies: keys are in panels of tokens, values in panels of channels.
EMOTAG_HD float* key_at(const Head& head, int token) {
  return head.keys + static_cast<size_t>(token / kLanes) * head.width * kLanes + token % kLanes;
}
EMOTAG_HD float* value_at(const Head& head, int token, int channel) {
  return head.values + (static_cast<size_t>(channel / kLanes) * (head.length + head.rows) + token) * kLanes;
}

// Takes what is kept of the step before into the ring.
EMOTAG_HD void keep_tokens(const Head& head) {
  for (int t = 0; t < head.kept; ++t) {
    const float* key = key_at(head, head.length + t);
    float* to = key_at(head, head.slot + t);
    for (int i = 0; i < head.width; ++i) to[kLanes * i] = key[kLanes * i];
    for (int i = 0; i < head.width; i += kLanes)
      memcpy(value_at(head, head.slot + t, i), value_at(head, head.length + t, i), kLanes * sizeof(float));
  }
}

// Appends the step's keys and values behind the ring's.
EMOTAG_HD void append_tokens(const Head& head) {
  for (int t = 0; t < head.rows; ++t) {
    const float* key = head.new_keys + t * head.row_stride;
    const float* value = head.new_values + t * head.row_stride;
    float* to = key_at(head, head.length + t);
    for (int i = 0; i < head.width; ++i) to[kLanes * i] = key[i];
    for (int i = 0; i < head.width; i += kLanes) {
      const int count = head.width - i < kLanes ? head.width - i : kLanes;
      memcpy(value_at(head, head.length + t, i), value + i, count * sizeof(float));
    }
  }
}

// Softmax weights of a row of scores, not yet divided by their sum, which is returned.
template <class I>
EMOTAG_HD float soften(float* scores, const float* mask, int count) {
  using F = typename I::F;
  F most(-3e38f);
  for (int i = 0; i < count; i += F::width) {
    const F score = F::load(scores + i) + F::load(mask + i);
    F::store(scores + i, score);
    most = max(score, most);
  }
  const F top(most_of(most));
  F sum(0.0f);
  for (int i = 0; i < count; i += F::width) {
    const F weight = power_of_two(max((F::load(scores + i) - top) * F(1.44269504f), F(-100.0f)));
    F::store(scores + i, weight);
    sum = sum + weight;
  }
  return total_of(sum);
}

template <class I>
void attend(const Head& head) {
  keep_tokens(head);
  append_tokens(head);
  const int tokens = head.length + head.rows, columns = padded(tokens);
  multiply<I>({head.queries, head.row_stride, head.answers, head.width}, head.keys, columns / kLanes,
              head.width * kLanes, head.scores, columns);
  for (int row = 0; row < head.answers; ++row) {
    float* scores = head.scores + static_cast<size_t>(row) * columns;
    const float inverse = 1.0f / soften<I>(scores, head.mask, columns);
    head.mixed[static_cast<size_t>(head.answers) * head.padded_width + row] = inverse;
  }
  multiply<I>({head.scores, static_cast<size_t>(columns), head.answers, tokens}, head.values,
              head.padded_width / kLanes, static_cast<size_t>(tokens) * kLanes, head.mixed, head.padded_width);
  for (int row = 0; row < head.answers; ++row) {
    const float inverse = head.mixed[static_cast<size_t>(head.answers) * head.padded_width + row];
    const float* mixed = head.mixed + static_cast<size_t>(row) * head.padded_width;
    for (int i = 0; i < head.width; ++i) head.out[row * head.out_stride + i] = mixed[i] * inverse;
  }
}

template <class I>
constexpr Kernels make_kernels(const char* name, bool (*supported)()) {
  return {name, supported, quantise<I>, panels<I>, sums_of<I>, norm_row<I>, first_rows<I>, add_gelu<I>, attend<I>};
}

}  // namespace emotag::encoder
