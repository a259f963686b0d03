#include "stream.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace emotag::encoder {
namespace {

constexpr int kTail = 5;                 // samples of the step before that the first convolution sees
constexpr int kChunkWork = 1 << 20;      // multiplications of a chunk: about 10 µs
constexpr int kChunkFloats = 1 << 13;    // that are quantised in a chunk
constexpr float kNoToken = -1e30f;

int chunks_of(int items, int each) { return (items + each - 1) / each; }

}  // namespace

Stream::Stream(const Weights& weights, const Kernels& kernels, int threads)
    : weights_(weights), sizes_(weights.sizes()), kernels_(kernels), pool_(threads), alone_(1), pool_in_use_(&alone_) {
  const Sizes& s = sizes_;
  const int tokens = s.tokens(), columns = padded(s.context + tokens);
  joined_.reset(kTail + 320 * s.chunk);
  int most_rows = tokens;
  size_t most_bytes = static_cast<size_t>(tokens) * padded(std::max(s.hidden, s.inner));
  for (int i = 0; i < kConvolutions; ++i) {
    const int rows = (64 * s.chunk) >> i;
    convolved_[i].reset(1 + rows, s.channels[i]);
    most_rows = std::max(most_rows, rows);
    if (i > 0) most_bytes = std::max(most_bytes, static_cast<size_t>(rows) * weights.convolution(i).inputs);
  }
  most_bytes = std::max(most_bytes, static_cast<size_t>(s.chunk) * weights.projection().inputs);
  bytes_.reset(most_bytes);
  scales_.reset(most_rows);
  zeros_.reset(most_rows);
  window_.reset(kReach + tokens, s.hidden);
  for (Buffer* buffer : {&x_, &normed_, &q_, &k_, &v_, &mixed_}) buffer->reset(tokens, s.hidden);
  inner_.reset(tokens, s.inner);
  group_scratch_.resize(s.groups);
  for (GroupScratch& scratch : group_scratch_) {
    const int width = s.group_width(), inputs = weights.position(0).inputs;
    const int floats = std::max(padded((kReach + tokens) * width), (tokens - 1) * width + inputs);
    scratch.floats.reset(floats);
    scratch.bytes.reset(floats);
    scratch.packed.reset(static_cast<size_t>(tokens) * inputs);
    scratch.scale.reset(tokens);
    scratch.zero.reset(tokens);
    scratch.out.reset(tokens, width);
  }
  mask_.reset(columns);
  for (int i = s.context + tokens; i < columns; ++i) mask_[i] = kNoToken;
  const int width = s.head_width();
  keys_size_ = static_cast<size_t>(columns) * width;
  values_size_ = static_cast<size_t>(s.context + tokens) * padded(width);
  scores_size_ = static_cast<size_t>(tokens) * columns;
  head_mixed_size_ = padded(tokens * (padded(width) + 1));
  keys_ = arena_.take<float>(keys_size_ * s.heads * s.layers);
  values_ = arena_.take<float>(values_size_ * s.heads * s.layers);
  scores_.reset(scores_size_ * s.heads);
  head_mixed_.reset(head_mixed_size_ * s.heads);
  turned_.resize(weights.rotary().size());
  cosine_.resize(tokens * turned_.size());
  sine_.resize(cosine_.size());
  reset();
}

void Stream::reset() {
  std::fill_n(joined_.data(), joined_.size(), 0.0f);
  for (int i = 0; i < kConvolutions; ++i)
    if (i + 1 < kConvolutions && weights_.silence(i + 1) != nullptr)
      std::copy_n(weights_.silence(i + 1), sizes_.channels[i], convolved_[i].row(0));
  std::fill_n(window_.data.data(), window_.data.size(), 0.0f);
  const size_t heads = static_cast<size_t>(sizes_.heads) * sizes_.layers;
  std::fill_n(keys_, keys_size_ * heads, 0.0f);
  std::fill_n(values_, values_size_ * heads, 0.0f);
  std::fill(turned_.begin(), turned_.end(), 0.0);
  slot_ = kept_ = 0;
}

void Stream::keep(int slot, int count) {
  slot_ = slot;
  kept_ = count;
}

size_t Stream::bytes() const {
  size_t floats = joined_.size() + scales_.size() + mask_.size() + scores_.size() + head_mixed_.size() +
                  (keys_size_ + values_size_) * sizes_.heads * sizes_.layers + window_.data.size() +
                  6 * x_.data.size() + inner_.data.size();
  for (const Buffer& buffer : convolved_) floats += buffer.data.size();
  size_t bytes = bytes_.size();
  for (const GroupScratch& scratch : group_scratch_) {
    floats += scratch.floats.size() + scratch.out.data.size();
    bytes += scratch.bytes.size() + scratch.packed.size();
  }
  return floats * sizeof(float) + bytes;
}

void Stream::step(const float* samples, const float* mask, float* tokens, bool alone) {
  const Sizes& s = sizes_;
  pool_in_use_ = alone ? &alone_ : &pool_;
  std::copy_n(mask, s.context, mask_.data());
  convolve(samples);
  place();
  aim();
  if (!s.pre_norm) norm(weights_.norm(), x_, s.tokens(), x_);
  for (int i = 0; i < s.layers; ++i) transform(i);
  kept_ = 0;
  if (s.pre_norm) norm(weights_.norm(), x_, s.chunk, x_);
  for (int t = 0; t < s.chunk; ++t) std::copy_n(x_.row(t), s.hidden, tokens + static_cast<size_t>(t) * s.hidden);
}

// Samples to the newest rows of the window.
void Stream::convolve(const float* samples) {
  const Sizes& s = sizes_;
  std::copy_n(samples, 320 * s.chunk, joined_.data() + kTail);
  const int width = padded(s.channels[0]);
  spread(4 * s.chunk, [&](int chunk) {
    float* out = convolved_[0].row(1 + 16 * chunk);
    kernels_.first(joined_.data() + 80 * chunk, 16, width, weights_.first(), weights_.first_bias(), out, !s.conv_norm);
    for (int i = 0; s.conv_norm && i < 16; ++i)
      kernels_.norm(weights_.convolution_norm(0), out + i * width, out + i * width, true);
  });
  std::memmove(joined_.data(), joined_.data() + 320 * s.chunk, kTail * sizeof(float));
  for (int i = 1; i < kConvolutions; ++i) convolution(i);
  Buffer& features = convolved_[kConvolutions - 1];
  for (int t = 1; t <= s.chunk; ++t)
    kernels_.norm(weights_.features_norm(), features.row(t), features.row(t), false);
  quantise(features.row(1), features.stride, s.chunk, weights_.projection());
  std::memmove(window_.row(0), window_.row(s.chunk), (kReach + s.lookahead) * window_.stride * sizeof(float));
  Job projected = job(weights_.projection(), s.chunk, window_);
  projected.out = window_.row(kReach + s.lookahead);
  run({projected});
}

// Kernel 3 (with the remembered row) or 2, stride 2.
void Stream::convolution(int i) {
  Buffer &from = convolved_[i - 1], &to = convolved_[i];
  const int inputs = (64 * sizes_.chunk) >> (i - 1), rows = inputs / 2;
  const bool remembers = kKernels[i] == 3;
  quantise(from.row(remembers ? 0 : 1), 2 * from.stride, rows, weights_.convolution(i));
  Job convolved = job(weights_.convolution(i), rows, to, sizes_.conv_norm ? Then::kNothing : Then::kGelu);
  convolved.out = to.row(1);
  run({convolved});
  for (int r = 1; sizes_.conv_norm && r <= rows; ++r)
    kernels_.norm(weights_.convolution_norm(i), to.row(r), to.row(r), true);
  if (remembers) std::copy_n(from.row(inputs), from.stride, from.row(0));
}

// The window and its positional convolution to the tokens of the step.
void Stream::place() {
  spread(sizes_.groups, [&](int group) { place_group(group); });
}

// What every token of a step sees of the group's window, as the product multiplies it.
Rows Stream::group_rows(const Product& product, GroupScratch& scratch) const {
  const int tokens = sizes_.tokens(), seen = kReach + tokens, width = sizes_.group_width();
  if (product.floats != nullptr) {
    Rows rows;
    rows.floats = scratch.floats.data();
    rows.float_stride = width;
    return rows;
  }
  float scale;
  int32_t zero;
  kernels_.quantise(scratch.floats.data(), padded(seen * width) / kLanes, product.levels, scratch.bytes.data(), kLanes,
                    &scale, &zero);
  std::memset(scratch.bytes.data() + seen * width, zero, scratch.bytes.size() - seen * width);
  for (int t = 0; t < tokens; ++t) {
    const uint8_t* bytes = scratch.bytes.data() + t * width;
    for (int i = 0; i < product.groups; ++i)
      std::memcpy(scratch.packed.data() + (static_cast<size_t>(i) * tokens + t) * kLanes, bytes + kLanes * i, kLanes);
    scratch.scale[t] = scale;
    scratch.zero[t] = zero;
  }
  return {scratch.packed.data(), scratch.scale.data(), scratch.zero.data(), kLanes * tokens};
}

void Stream::place_group(int group) {
  const int tokens = sizes_.tokens(), seen = kReach + tokens, width = sizes_.group_width();
  const Product& product = weights_.position(group);
  GroupScratch& scratch = group_scratch_[group];
  for (int t = 0; t < seen; ++t)
    std::memcpy(scratch.floats.data() + t * width, window_.row(t) + group * width, width * sizeof(float));
  const Rows rows = group_rows(product, scratch);
  const Job convolved = {&product, rows, tokens, scratch.out.row(0), scratch.out.stride, Then::kNothing};
  kernels_.panels(convolved, 0, product.panels);
  for (int t = 0; t < tokens; ++t) {
    float* out = scratch.out.row(t);
    kernels_.add_gelu(window_.row(kReach + t) + group * width, out, padded(width), out);
    std::memcpy(x_.row(t) + group * width, out, width * sizeof(float));
  }
}

// One layer; of the last, only the chunk's tokens are answered.
void Stream::transform(int i) {
  const int tokens = sizes_.tokens(), answers = i + 1 < sizes_.layers ? tokens : sizes_.chunk;
  const Layer layer = weights_.layer(i);
  const bool pre = sizes_.pre_norm;
  if (pre) norm(*layer.norm, x_, tokens, normed_);
  Buffer& heard = pre ? normed_ : x_;
  quantise(heard.row(0), heard.stride, tokens, *layer.query);
  run({job(*layer.query, answers, q_), job(*layer.key, tokens, k_), job(*layer.value, tokens, v_)});
  turn(q_, answers);
  turn(k_, tokens);
  attend(i, answers);
  quantise(mixed_.row(0), mixed_.stride, answers, *layer.out);
  run({job(*layer.out, answers, x_, Then::kAdd)});
  Buffer& fed = pre ? normed_ : x_;
  norm(pre ? *layer.final_norm : *layer.norm, x_, answers, fed);
  quantise(fed.row(0), fed.stride, answers, *layer.up);
  run({job(*layer.up, answers, inner_, Then::kGelu)});
  quantise(inner_.row(0), inner_.stride, answers, *layer.down);
  run({job(*layer.down, answers, x_, Then::kAdd)});
  if (!pre) norm(*layer.final_norm, x_, answers, x_);
}

// How far the step's tokens turn. Scores depend on differences of turns alone, so the first call is at none.
void Stream::aim() {
  constexpr double kFull = 6.283185307179586;
  const std::vector<float>& speeds = weights_.rotary();
  for (size_t i = 0; i < speeds.size(); ++i) {
    for (int t = 0; t < sizes_.tokens(); ++t) {
      const double angle = turned_[i] + t * static_cast<double>(speeds[i]);
      cosine_[t * speeds.size() + i] = static_cast<float>(std::cos(angle));
      sine_[t * speeds.size() + i] = static_cast<float>(std::sin(angle));
    }
    turned_[i] = std::fmod(turned_[i] + sizes_.chunk * static_cast<double>(speeds[i]), kFull);
  }
}

// Pairs of channels of every head by the turn of their token; keys enter the rings turned.
void Stream::turn(Buffer& x, int tokens) {
  const int pairs = static_cast<int>(turned_.size()), width = sizes_.head_width();
  for (int t = 0; pairs > 0 && t < tokens; ++t) {
    const float *cosine = cosine_.data() + t * pairs, *sine = sine_.data() + t * pairs;
    for (int h = 0; h < sizes_.heads; ++h) {
      float* channels = x.row(t) + h * width;
      for (int i = 0; i < pairs; ++i) {
        const float even = channels[2 * i], odd = channels[2 * i + 1];
        channels[2 * i] = even * cosine[i] - odd * sine[i];
        channels[2 * i + 1] = odd * cosine[i] + even * sine[i];
      }
    }
  }
}

void Stream::attend(int i, int answers) {
  spread(sizes_.heads, [&](int h) { kernels_.attend(head_of(i, h, answers)); });
}

Head Stream::head_of(int layer, int h, int answers) {
  const size_t index = static_cast<size_t>(layer) * sizes_.heads + h;
  const int width = sizes_.head_width();
  return {width, padded(width), sizes_.tokens(), answers, sizes_.context,
          keys_ + index * keys_size_, values_ + index * values_size_, mask_.data(), slot_, kept_,
          q_.row(0) + h * width, k_.row(0) + h * width, v_.row(0) + h * width, mixed_.row(0) + h * width,
          q_.stride, mixed_.stride, scores_.data() + h * scores_size_, head_mixed_.data() + h * head_mixed_size_};
}

void Stream::norm(const Norm& norm, Buffer& from, int rows, Buffer& to) {
  for (int r = 0; r < rows; ++r) kernels_.norm(norm, from.row(r), to.row(r), false);
}

// Rows of floats, `stride` apart, to what the product multiplies.
void Stream::quantise(const float* x, size_t stride, int rows, const Product& product) {
  if (product.floats != nullptr) {
    rows_.floats = x;
    rows_.float_stride = stride;
    return;
  }
  rows_ = {bytes_.data(), scales_.data(), zeros_.data(), kLanes * rows};
  const int each = std::max(1, kChunkFloats / product.inputs);
  spread(chunks_of(rows, each), [&](int chunk) {
    for (int r = chunk * each; r < std::min(rows, (chunk + 1) * each); ++r)
      kernels_.quantise(x + r * stride, product.groups, product.levels, bytes_.data() + kLanes * r, rows_.stride,
                        scales_.data() + r, zeros_.data() + r);
  });
}

Job Stream::job(const Product& product, int rows, Buffer& out, Then then) {
  return {&product, rows_, rows, out.row(0), out.stride, then};
}

// Products side by side, in chunks of panels.
void Stream::run(std::initializer_list<Job> jobs) {
  const auto each = [](const Job& job) {
    return std::max(1, static_cast<int>(kChunkWork / (static_cast<int64_t>(kLanes) * job.product->inputs * job.rows)));
  };
  int chunks = 0;
  for (const Job& job : jobs) chunks += chunks_of(job.product->panels, each(job));
  spread(chunks, [&](int chunk) {
    for (const Job& job : jobs) {
      const int all = job.product->panels, panels = each(job), count = chunks_of(all, panels);
      if (chunk < count) return kernels_.panels(job, chunk * panels, std::min((chunk + 1) * panels, all));
      chunk -= count;
    }
  });
}

}  // namespace emotag::encoder
