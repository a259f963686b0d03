// Python bindings of the encoder. Arrays come checked from the Python side, but for sizes that only the weights know.
#include "bind.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>

#include "stream.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace emotag {
namespace {

using encoder::Kernels;
using encoder::Product;
using encoder::ProductArrays;
using encoder::Rows;
using encoder::Sizes;
using encoder::Stream;
using encoder::Weights;

template <class T, class... Options>
using In = nb::ndarray<const T, nb::numpy, nb::c_contig, nb::device::cpu, Options...>;
using Floats = In<float>;
using Bytes = In<int8_t>;

const Kernels& kernels_named(const std::string& isa) {
  const Kernels* kernels = encoder::find_kernels(isa);
  if (kernels == nullptr) throw std::invalid_argument("no such instruction set on this machine: " + isa);
  return *kernels;
}

Sizes make_sizes(const std::vector<int>& definition, const std::vector<int>& channels, const std::vector<int>& network,
                 bool pre_norm, bool conv_norm) {
  if (definition.size() != 3 || channels.size() != encoder::kConvolutions || network.size() != 5)
    throw std::invalid_argument("an encoder has 3 + 7 + 5 sizes");
  Sizes s = {};
  s.chunk = definition[0], s.lookahead = definition[1], s.context = definition[2];
  std::copy(channels.begin(), channels.end(), s.channels);
  s.hidden = network[0], s.heads = network[1], s.inner = network[2], s.layers = network[3], s.groups = network[4];
  s.pre_norm = pre_norm, s.conv_norm = conv_norm;
  const auto least = [](const std::vector<int>& sizes) { return *std::min_element(sizes.begin(), sizes.end()); };
  if (least(network) < 1 || least(channels) < 1 || s.chunk < 1 || s.lookahead < 0 || s.context < s.chunk ||
      s.hidden % s.heads != 0 || s.hidden % s.groups != 0)
    throw std::invalid_argument("sizes are not those of an encoder");
  return s;
}

// A float array of exactly that many elements.
const float* exactly(const Floats& array, size_t count) {
  if (array.size() != count) throw std::invalid_argument("an array has another size than the encoder's");
  return array.data();
}

template <class T>
nb::ndarray<T, nb::numpy> make_array(std::initializer_list<size_t> shape) {
  size_t count = 1;
  for (size_t side : shape) count *= side;
  T* data = new T[count]();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::ndarray<T, nb::numpy>(data, shape, owner);
}

void define_weights(nb::module_& m) {
  nb::class_<Weights>(m, "EncoderWeights")
      .def("__init__",
           [](Weights* self, const std::vector<int>& definition, const std::vector<int>& channels,
              const std::vector<int>& network, bool pre_norm, bool conv_norm) {
             new (self) Weights(make_sizes(definition, channels, network, pre_norm, conv_norm));
           },
           "definition"_a, "channels"_a, "network"_a, "pre_norm"_a, "conv_norm"_a)
      .def("add",
           [](Weights& self, Bytes weights, int taps, int levels, Floats scale, Floats bias) {
             if (weights.ndim() != 2 || taps < 1) throw std::invalid_argument("weights are not a matrix");
             const int outputs = static_cast<int>(weights.shape(0));
             const int channels = static_cast<int>(weights.shape(1)) / taps;
             const ProductArrays arrays = {outputs, taps, channels, levels, weights.data(), exactly(scale, outputs),
                                           exactly(bias, outputs)};
             nb::gil_scoped_release unlocked;
             self.add(arrays);
           },
           "weights"_a, "taps"_a, "levels"_a, "scale"_a, "bias"_a)
      .def("add_floats",
           [](Weights& self, nb::ndarray<const float, nb::numpy, nb::ndim<2>, nb::device::cpu> weights, int taps,
              Floats bias) {
             if (taps < 1) throw std::invalid_argument("weights are not a matrix");
             const int outputs = static_cast<int>(weights.shape(0));
             const int channels = static_cast<int>(weights.shape(1)) / taps;
             const encoder::FloatArrays arrays = {outputs, taps, channels, weights.data(), weights.stride(0),
                                                  weights.stride(1), exactly(bias, outputs)};
             nb::gil_scoped_release unlocked;
             self.add(arrays);
           },
           "weights"_a, "taps"_a, "bias"_a)
      .def("add_norm",
           [](Weights& self, Floats gain, Floats bias, float epsilon) {
             self.add_norm(static_cast<int>(gain.size()), gain.data(), exactly(bias, gain.size()), epsilon);
           },
           "gain"_a, "bias"_a, "epsilon"_a)
      .def("set_first",
           [](Weights& self, Floats weights, Floats bias) {
             const size_t channels = self.sizes().channels[0];
             self.set_first(exactly(weights, channels * encoder::kKernels[0]), exactly(bias, channels));
           },
           "weights"_a, "bias"_a)
      .def("set_rotary",
           [](Weights& self, Floats speeds) { self.set_rotary(speeds.data(), static_cast<int>(speeds.size())); },
           "speeds"_a)
      .def("set_silence",
           [](Weights& self, int convolution, Floats row) {
             const int before = std::clamp(convolution, 1, encoder::kConvolutions - 1) - 1;
             self.set_silence(convolution, exactly(row, self.sizes().channels[before]));
           },
           "convolution"_a, "row"_a);
}

void step(Stream& self, const Weights& weights, Floats samples, Floats mask,
          nb::ndarray<float, nb::numpy, nb::c_contig, nb::device::cpu> tokens, bool alone) {
  const Sizes& s = weights.sizes();
  const float* heard = exactly(samples, 320 * static_cast<size_t>(s.chunk));
  const float* filled = exactly(mask, s.context);
  if (tokens.size() != static_cast<size_t>(s.chunk) * s.hidden)
    throw std::invalid_argument("tokens have another size than the encoder's");
  nb::gil_scoped_release unlocked;
  self.step(heard, filled, tokens.data(), alone);
}

void keep(Stream& self, const Weights& weights, int slot, int count) {
  const Sizes& s = weights.sizes();
  if (slot < 0 || count < 0 || count > s.chunk || slot + count > s.context)
    throw std::invalid_argument("a slot is outside the rings");
  self.keep(slot, count);
}

// A stream with the weights that it reads.
struct HeldStream {
  const Weights& weights;
  Stream stream;

  HeldStream(const Weights& w, const Kernels& kernels, int threads) : weights(w), stream(w, kernels, threads) {}
};

void define_stream(nb::module_& m) {
  nb::class_<HeldStream>(m, "EncoderStream")
      .def("__init__",
           [](HeldStream* self, const Weights& weights, const std::string& isa, int threads) {
             if (!weights.complete()) throw std::invalid_argument("the encoder's weights are not complete");
             new (self) HeldStream(weights, kernels_named(isa), threads);
           },
           "weights"_a, "isa"_a, "threads"_a, nb::keep_alive<1, 2>())
      .def("step",
           [](HeldStream& self, Floats samples, Floats mask,
              nb::ndarray<float, nb::numpy, nb::c_contig, nb::device::cpu> tokens,
              bool alone) { step(self.stream, self.weights, samples, mask, tokens, alone); },
           "samples"_a.noconvert(), "mask"_a.noconvert(), "tokens"_a.noconvert(), "alone"_a)
      .def("keep", [](HeldStream& self, int slot, int count) { keep(self.stream, self.weights, slot, count); },
           "slot"_a, "count"_a)
      .def("reset", [](HeldStream& self) { self.stream.reset(); })
      .def_prop_ro("isa", [](const HeldStream& self) { return self.stream.kernels().name; })
      .def_prop_ro("threads", [](const HeldStream& self) { return self.stream.threads(); })
      .def_prop_ro("bytes", [](const HeldStream& self) { return self.stream.bytes(); });
}

// Rows [R, K] of floats as bytes, K a multiple of 16.
auto quantise_rows(Floats x, int levels, const std::string& isa) {
  const size_t rows = x.shape(0), inputs = x.shape(1);
  auto bytes = make_array<uint8_t>({rows, inputs});
  auto scale = make_array<float>({rows});
  auto zero = make_array<int32_t>({rows});
  Aligned<float> row(inputs);
  for (size_t r = 0; r < rows; ++r) {
    std::copy_n(x.data() + r * inputs, inputs, row.data());
    kernels_named(isa).quantise(row.data(), static_cast<int>(inputs) / encoder::kLanes, static_cast<float>(levels),
                                bytes.data() + r * inputs, encoder::kLanes, scale.data() + r, zero.data() + r);
  }
  return std::make_tuple(bytes, scale, zero);
}

// Σ (q - zero) · weight of rows [R, K] with a matrix [N, K], K a multiple of 16.
auto multiply_rows(In<uint8_t> bytes, In<int32_t> zero, Bytes weights, int levels, const std::string& isa) {
  const size_t count = bytes.shape(0), inputs = bytes.shape(1), outputs = weights.shape(0);
  const std::vector<float> none(outputs);
  encoder::Arena arena;
  const Product product = encoder::pack({static_cast<int>(outputs), 1, static_cast<int>(inputs), levels, weights.data(),
                                         none.data(), none.data()},
                                        &arena);
  const Kernels& kernels = kernels_named(isa);
  Aligned<uint8_t> packed(count * inputs);
  for (size_t r = 0; r < count; ++r)
    for (size_t i = 0; i < inputs; ++i)
      packed[(i / encoder::kLanes * count + r) * encoder::kLanes + i % encoder::kLanes] = bytes.data()[r * inputs + i];
  std::vector<float> scale(count, 1.0f);
  std::vector<int32_t> zeros(zero.data(), zero.data() + count);
  const size_t width = static_cast<size_t>(product.panels) * encoder::kLanes;
  std::vector<int32_t> sums(count * width);
  const Rows rows = {packed.data(), scale.data(), zeros.data(), static_cast<int>(encoder::kLanes * count)};
  kernels.sums(product, rows, static_cast<int>(count), sums.data());
  auto out = make_array<int32_t>({count, outputs});
  for (size_t r = 0; r < count; ++r) std::copy_n(sums.data() + r * width, outputs, out.data() + r * outputs);
  return out;
}

}  // namespace

void define_encoder(nb::module_& m) {
  define_weights(m);
  define_stream(m);
  m.def("encoder_isas", [] {
    std::vector<std::string> names;
    for (const Kernels* kernels : encoder::all_kernels())
      if (kernels->supported()) names.emplace_back(kernels->name);
    return names;
  });
  m.def("known_encoder_isas", [] {
    std::vector<std::string> names;
    for (const Kernels* kernels : encoder::all_kernels()) names.emplace_back(kernels->name);
    return names;
  });
  m.def("encoder_quantise", &quantise_rows, "x"_a, "levels"_a, "isa"_a);
  m.def("encoder_multiply", &multiply_rows, "bytes"_a, "zero"_a, "weights"_a, "levels"_a, "isa"_a);
}

}  // namespace emotag
