// Python bindings. The arrays come checked from the Python side; here is no judgement, only pointers.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "bind_trace.h"
#include "encoder/bind.h"
#include "renderer.h"
#include "similarity.h"
#include "staged.h"
#include "trace.h"
#include "yardstick/bind.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace emotag {
namespace {

template <class T, class... Options>
using In = nb::ndarray<const T, nb::numpy, nb::c_contig, nb::device::cpu, Options...>;
template <class T, class... Options>
using Inout = nb::ndarray<T, nb::numpy, nb::c_contig, nb::device::cpu, Options...>;
using Floats = In<float>;
using Ints = In<int32_t>;

// A new array that owns its memory.
template <class T>
nb::ndarray<T, nb::numpy> make_array(std::initializer_list<size_t> shape) {
  size_t count = 1;
  for (size_t side : shape) count *= side;
  T* data = new T[count]();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::ndarray<T, nb::numpy>(data, shape, owner);
}

// Arrays as Python holds them, kept alive, with the pointers that the kernels read.
struct HeldGaussians {
  Ints frame;
  Floats means, quats, scales, opacities, sh;
  int degree;

  GaussianArrays arrays() const {
    return {static_cast<int>(frame.shape(0)), static_cast<int>(sh.shape(1)), degree, frame.data(), means.data(),
            quats.data(), scales.data(), opacities.data(), sh.data()};
  }
};

struct HeldMouth {
  Ints index;
  float bound;
  Floats xy, yz, xz;
  Ints offsets;
  Floats layer0, layer1, layer2, head, bias;

  MouthArrays arrays() const {
    return {static_cast<int>(index.shape(0)), static_cast<int>(xy.shape(0)),
            static_cast<int>(layer0.shape(1)) - constants::kGridFeatures, index.data(), bound,
            {xy.data(), yz.data(), xz.data()}, offsets.data(),
            {layer0.data(), layer1.data(), layer2.data()}, head.data(), bias.data()};
  }
};

const Variant& variant_named(const std::string& isa) {
  const Variant* variant = find_variant(isa);
  if (variant == nullptr) throw std::invalid_argument("no such instruction set on this machine: " + isa);
  return *variant;
}

View make_view(const double* v, double fx, double fy, double cx, double cy, int width, int height) {
  View view;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) view.rotation[3 * r + c] = static_cast<float>(v[4 * r + c]);
    view.translation[r] = static_cast<float>(v[4 * r + 3]);
  }
  const double clamp = constants::kJacobianClamp;
  view.pinhole = {static_cast<float>(fx), static_cast<float>(fy), static_cast<float>(cx), static_cast<float>(cy),
                  static_cast<float>(clamp * width / (2.0 * fx)), static_cast<float>(clamp * height / (2.0 * fy)),
                  static_cast<float>(width), static_cast<float>(height)};
  view.width = width;
  view.height = height;
  return view;
}

using Background3 = std::optional<std::tuple<float, float, float>>;

Output colour_output(const Background3& background) {
  Output output = {};
  if (background) {
    output.background = Background::kColour;
    output.colour[0] = std::get<0>(*background);
    output.colour[1] = std::get<1>(*background);
    output.colour[2] = std::get<2>(*background);
  }
  return output;
}

void define_models(nb::module_& m) {
  nb::class_<Head>(m, "Head").def(
      nb::new_([](Floats shape, Ints faces, Floats expression_basis, Floats pose_basis, Floats joints,
                  Floats joint_expression_basis, Floats weights, Ints parents) {
        return std::make_shared<Head>(HeadArrays{
            static_cast<int>(shape.shape(0)), static_cast<int>(faces.shape(0)),
            static_cast<int>(expression_basis.shape(0)), shape.data(), faces.data(), expression_basis.data(),
            pose_basis.data(), joints.data(), joint_expression_basis.data(), weights.data(), parents.data()});
      }),
      "template"_a, "faces"_a, "expression_basis"_a, "pose_basis"_a, "joints"_a, "joint_expression_basis"_a,
      "weights"_a, "parents"_a);
  nb::class_<HeldGaussians>(m, "GaussianArrays")
      .def("__init__",
           [](HeldGaussians* self, Ints frame, Floats means, Floats quats, Floats scales, Floats opacities, Floats sh,
              int degree) { new (self) HeldGaussians{frame, means, quats, scales, opacities, sh, degree}; },
           "frame"_a, "means"_a, "quats"_a, "scales"_a, "opacities"_a, "sh"_a, "degree"_a);
  nb::class_<HeldMouth>(m, "MouthArrays")
      .def("__init__",
           [](HeldMouth* self, Ints index, float bound, Floats xy, Floats yz, Floats xz, Ints offsets, Floats layer0,
              Floats layer1, Floats layer2, Floats head, Floats bias) {
             new (self) HeldMouth{index, bound, xy, yz, xz, offsets, layer0, layer1, layer2, head, bias};
           },
           "index"_a, "bound"_a, "xy"_a, "yz"_a, "xz"_a, "offsets"_a, "layer0"_a, "layer1"_a, "layer2"_a, "head"_a,
           "bias"_a);
}

void define_stages(nb::module_& m) {
  m.def(
      "bind",
      [](Floats vertices, Ints faces, const HeldGaussians& gaussians) {
        const size_t count = gaussians.frame.shape(0);
        auto means = make_array<float>({count, 3}), quats = make_array<float>({count, 4}),
             scales = make_array<float>({count, 3});
        bind_gaussians(vertices.data(), faces.data(), gaussians.arrays(), means.data(), quats.data(), scales.data());
        return std::make_tuple(means, quats, scales);
      },
      "vertices"_a, "faces"_a, "gaussians"_a);
  m.def(
      "hash_grid",
      [](Floats points, const HeldMouth& mouth) {
        auto features = make_array<float>({points.shape(0), constants::kGridFeatures});
        const MouthArrays a = mouth.arrays();
        hash_grid(points.data(), static_cast<int>(points.shape(0)), a.grids, a.offsets, a.bound, features.data());
        return features;
      },
      "points"_a, "mouth"_a);
  m.def(
      "mouth_network",
      [](Floats features, Floats audio, const HeldMouth& mouth) {
        auto out = make_array<float>({features.shape(0), constants::kMouthOutputs});
        mouth_network(features.data(), static_cast<int>(features.shape(0)), audio.data(), mouth.arrays(), out.data());
        return out;
      },
      "features"_a, "audio"_a, "mouth"_a);
  m.def(
      "apply_mouth",
      [](Ints index, Floats d_mu, Floats d_rot, Floats d_scale, Inout<float> means, Inout<float> quats,
         Inout<float> scales) {
        apply_mouth(index.data(), static_cast<int>(index.shape(0)), d_mu.data(), d_rot.data(), d_scale.data(),
                    means.data(), quats.data(), scales.data());
      },
      "index"_a, "d_mu"_a, "d_rot"_a, "d_scale"_a, "means"_a.noconvert(), "quats"_a.noconvert(),
      "scales"_a.noconvert());
}

// A view, its pinhole and the picture's size.
View view_of(In<double> view, const std::tuple<double, double, double, double>& intrinsics, int width, int height) {
  return make_view(view.data(), std::get<0>(intrinsics), std::get<1>(intrinsics), std::get<2>(intrinsics),
                   std::get<3>(intrinsics), width, height);
}

std::unique_ptr<Scene> make_scene(std::shared_ptr<Head> head, const HeldGaussians& gaussians, const HeldMouth* mouth) {
  auto scene = std::make_unique<Scene>();
  const GaussianArrays g = gaussians.arrays();
  scene->head = std::move(head);
  scene->gaussians = std::make_unique<Gaussians>(g, mouth == nullptr ? nullptr : mouth->index.data(),
                                                 mouth == nullptr ? 0 : static_cast<int>(mouth->index.shape(0)));
  if (mouth != nullptr) scene->mouth = std::make_unique<Mouth>(mouth->arrays(), g);
  return scene;
}

using Intrinsics = std::tuple<double, double, double, double>;

void draw(Renderer& self, Floats expression, Floats pose, Floats translation, std::optional<Floats> encoded_audio,
          In<double> view, const Intrinsics& intrinsics, const Background3& background,
          std::optional<In<uint8_t>> bytes, std::optional<Floats> floats, Inout<uint8_t> out) {
  Output output = colour_output(background);
  if (bytes) output.background = Background::kBytes, output.bytes = bytes->data();
  if (floats) output.background = Background::kFloats, output.floats = floats->data();
  output.pixels = out.shape(2) == 4 ? Pixels::kRgba8 : Pixels::kRgb8;
  output.image = out.data();
  const View v = view_of(view, intrinsics, static_cast<int>(out.shape(1)), static_cast<int>(out.shape(0)));
  const Controls controls = {expression.data(), pose.data(), translation.data(),
                             encoded_audio ? encoded_audio->data() : nullptr};
  nb::gil_scoped_release unlocked;
  self.draw(controls, v, output);
}

nb::ndarray<float, nb::numpy> skin(const Head& head, Floats expression, Floats pose, Floats translation,
                                   const std::string& isa) {
  Pose prepared;
  prepare_pose(head, expression.data(), pose.data(), translation.data(), &prepared);
  const size_t vertices = head.vertices, plane = head.padded_vertices();
  Aligned<float> planes(3 * plane);
  variant_named(isa).skin_blocks(head, prepared, planes.data(), 0, head.blocks);
  auto out = make_array<float>({vertices, 3});
  for (size_t v = 0; v < vertices; ++v)
    for (size_t c = 0; c < 3; ++c) out.data()[3 * v + c] = planes[c * plane + v];
  return out;
}

std::vector<double> stage_times(const double* times) { return std::vector<double>(times, times + kStages); }

void define_renderer(nb::module_& m) {
  nb::class_<Scene>(m, "Scene")
      .def(nb::new_(&make_scene), "head"_a.none(), "gaussians"_a, "mouth"_a.none());
  nb::class_<Appearance>(m, "Appearance")
      .def("__init__",
           [](Appearance* self, const Scene& scene, const HeldGaussians& gaussians, Floats offsets) {
             new (self) Appearance(*scene.gaussians, gaussians.arrays(), offsets.data(),
                                   static_cast<int>(offsets.shape(0)));
           },
           "scene"_a, "gaussians"_a, "offsets"_a);
  nb::class_<Renderer>(m, "Renderer")
      .def("__init__",
           [](Renderer* self, const Scene& scene, const std::string& isa, int threads) {
             new (self) Renderer(scene, variant_named(isa), threads);
           },
           "scene"_a, "isa"_a, "threads"_a, nb::keep_alive<1, 2>())
      .def("draw", &draw, "expression"_a, "pose"_a, "translation"_a, "encoded_audio"_a.none(), "view"_a,
           "intrinsics"_a, "background"_a.none(), "bytes"_a.none(), "floats"_a.none(), "out"_a.noconvert())
      .def("wear",
           [](Renderer& self, const Appearance* appearance, std::optional<Floats> coefficients) {
             nb::gil_scoped_release unlocked;
             self.wear(appearance, coefficients ? coefficients->data() : nullptr);
           },
           "appearance"_a.none(), "coefficients"_a.none())
      .def("set_alone", &Renderer::set_alone, "alone"_a, nb::call_guard<nb::gil_scoped_release>())
      .def("milliseconds", [](const Renderer& self) { return stage_times(self.milliseconds()); })
      .def("cpu_milliseconds", [](const Renderer& self) { return stage_times(self.cpu_milliseconds()); })
      .def_prop_ro("isa", [](const Renderer& self) { return self.variant().name; })
      .def_prop_ro("threads", &Renderer::threads)
      .def_prop_ro("workspace_bytes", &Renderer::bytes);
  m.def("skin", &skin, "head"_a, "expression"_a, "pose"_a, "translation"_a, "isa"_a);
  m.def(
      "rasterize",
      [](const HeldGaussians& gaussians, In<double> view, const Intrinsics& intrinsics, int width, int height,
         const Background3& background, const std::string& isa, int threads) {
        const std::unique_ptr<Scene> scene = make_scene(nullptr, gaussians, nullptr);
        Renderer renderer(*scene, variant_named(isa), threads);
        const size_t w = width, h = height;
        auto rgb = make_array<float>({h, w, 3}), alpha = make_array<float>({h, w});
        Output output = colour_output(background);
        output.pixels = Pixels::kFloats;
        output.rgb = rgb.data();
        output.alpha = alpha.data();
        {
          nb::gil_scoped_release unlocked;
          renderer.draw_world(view_of(view, intrinsics, width, height), output);
        }
        return std::make_tuple(rgb, alpha);
      },
      "gaussians"_a, "view"_a, "intrinsics"_a, "width"_a, "height"_a, "background"_a.none(), "isa"_a, "threads"_a);
  m.def("supported_isas", [] {
    std::vector<std::string> names;
    for (const Variant* variant : variants())
      if (variant->supported()) names.emplace_back(variant->name);
    return names;
  });
  m.def("known_isas", [] {
    std::vector<std::string> names;
    for (const Variant* variant : variants()) names.emplace_back(variant->name);
    return names;
  });
}

// What the picture and its gradients are made of, kept for the way back.
struct HeldTrace {
  Floats means, quats, scales, opacities, sh;
  std::optional<Floats> features;
  int degree;
  std::unique_ptr<Trace> trace;

  WorldGaussians gaussians() const {
    return {static_cast<int>(means.shape(0)), static_cast<int>(sh.shape(1)), degree, means.data(), quats.data(),
            scales.data(), opacities.data(), sh.data(), features ? features->data() : nullptr};
  }
  // (G,) one byte each: whether the Gaussian touches the picture.
  nb::ndarray<uint8_t, nb::numpy> visible() const {
    auto out = make_array<uint8_t>({means.shape(0)});
    for (int chunk = 0; chunk < trace->chunks(); ++chunk)
      for (int i = 0; i < trace->visible[chunk]; ++i) {
        int32_t source;
        std::memcpy(&source, trace->records.data() + (static_cast<size_t>(chunk) * kProjectChunk + i) * 16 + kSource, 4);
        out.data()[source] = 1;
      }
    return out;
  }
};

auto trace_forward(Tracer& self, Floats means, Floats quats, Floats scales, Floats opacities, Floats sh, int degree,
                   std::optional<Floats> features, In<double> view, const Intrinsics& intrinsics, int width, int height) {
  auto held = std::make_unique<HeldTrace>(HeldTrace{means, quats, scales, opacities, sh, features, degree, nullptr});
  const WorldGaussians g = held->gaussians();
  const size_t w = width, h = height, channels = g.channels();
  auto picture = make_array<float>({channels, h, w}), alpha = make_array<float>({h, w});
  held->trace = std::make_unique<Trace>(g, view_of(view, intrinsics, width, height));
  {
    nb::gil_scoped_release unlocked;
    self.forward(g, held->trace.get(), picture.data(), alpha.data());
  }
  return std::make_tuple(std::move(held), picture, alpha);
}

auto trace_backward(Tracer& self, const HeldTrace& held, Floats picture, Floats alpha, Floats d_picture, Floats d_alpha) {
  const WorldGaussians g = held.gaussians();
  const size_t count = g.count, coefficients = g.stored_coefficients;
  const size_t features = g.features == nullptr ? 0 : kMaxFeatures;
  auto means = make_array<float>({count, 3}), quats = make_array<float>({count, 4}), scales = make_array<float>({count, 3}),
       opacities = make_array<float>({count}), sh = make_array<float>({count, coefficients, 3}),
       d_features = make_array<float>({count, features}), points = make_array<float>({count, 2});
  {
    nb::gil_scoped_release unlocked;
    self.backward(g, *held.trace, {picture.data(), alpha.data()}, {d_picture.data(), d_alpha.data()},
                  {means.data(), quats.data(), scales.data(), opacities.data(), sh.data(), d_features.data(), points.data()});
  }
  return std::make_tuple(means, quats, scales, opacities, sh, d_features, points);
}

using Longs = In<int64_t>;

MeshArrays mesh_of(const Floats& vertices, const Longs& faces) {
  return {static_cast<int>(vertices.shape(0)), static_cast<int>(faces.shape(0)), vertices.data(), faces.data()};
}

LocalGaussians local_of(const Longs& face, const Floats& means, const Floats& quats, const Floats& scales) {
  return {static_cast<int>(face.shape(0)), face.data(), means.data(), quats.data(), scales.data()};
}

auto bind_forward(Binder& self, Floats vertices, Longs faces, Longs face_index, Floats means, Floats quats, Floats scales) {
  const size_t count = face_index.shape(0);
  auto frames = make_array<float>({faces.shape(0), kFrameFields}), world_means = make_array<float>({count, 3}),
       world_quats = make_array<float>({count, 4}), world_scales = make_array<float>({count, 3}),
       normals = make_array<float>({count, 3});
  {
    nb::gil_scoped_release unlocked;
    self.forward(mesh_of(vertices, faces), local_of(face_index, means, quats, scales), frames.data(),
                 {world_means.data(), world_quats.data(), world_scales.data(), normals.data()});
  }
  return std::make_tuple(frames, world_means, world_quats, world_scales, normals);
}

using Gradient = std::optional<Floats>;

auto bind_backward(Binder& self, Floats vertices, Longs faces, Longs face_index, Floats means, Floats quats, Floats scales,
                   Floats frames, const Gradient& d_means, const Gradient& d_quats, const Gradient& d_scales,
                   const Gradient& d_normals, bool to_vertices) {
  const auto data = [](const Gradient& gradient) { return gradient ? gradient->data() : nullptr; };
  const size_t count = face_index.shape(0);
  auto local_means = make_array<float>({count, 3}), local_quats = make_array<float>({count, 4}),
       local_scales = make_array<float>({count, 3}), places = make_array<float>({to_vertices ? vertices.shape(0) : 0, 3});
  {
    nb::gil_scoped_release unlocked;
    self.backward(mesh_of(vertices, faces), local_of(face_index, means, quats, scales), frames.data(),
                  {data(d_means), data(d_quats), data(d_scales), data(d_normals)},
                  {local_means.data(), local_quats.data(), local_scales.data(), to_vertices ? places.data() : nullptr});
  }
  return std::make_tuple(local_means, local_quats, local_scales, places);
}

std::unique_ptr<Similarity> make_similarity(Floats weights, float c1, float c2, const std::string& isa, int threads) {
  SimilarityWindow window = {{}, c1, c2};
  std::copy(weights.data(), weights.data() + kTaps, window.weights);
  return std::make_unique<Similarity>(variant_named(isa), threads, window);
}

PicturePair pair_of(const Floats& a, const Floats& b) {
  return {static_cast<int>(a.shape(0)), static_cast<int>(a.shape(1)), static_cast<int>(a.shape(2)), a.data(), b.data()};
}

auto similarity_forward(Similarity& self, Floats a, Floats b, bool gradients) {
  const size_t c = a.shape(0), h = a.shape(1), w = a.shape(2);
  auto map = make_array<float>({c, h, w}), partials = make_array<float>({gradients ? kPartials : 0u, c, h, w});
  {
    nb::gil_scoped_release unlocked;
    self.forward(pair_of(a, b), map.data(), gradients ? partials.data() : nullptr);
  }
  return std::make_tuple(map, partials);
}

auto similarity_backward(Similarity& self, Floats a, Floats b, Floats partials, Floats loss) {
  auto gradient = make_array<float>({a.shape(0), a.shape(1), a.shape(2)});
  {
    nb::gil_scoped_release unlocked;
    self.backward(pair_of(a, b), partials.data(), loss.data(), gradient.data());
  }
  return gradient;
}

void define_training(nb::module_& m) {
  m.attr("SSIM_TAPS") = kTaps;
  m.attr("FRAME_FIELDS") = kFrameFields;
  nb::class_<Similarity>(m, "Similarity")
      .def(nb::new_(&make_similarity), "window"_a, "c1"_a, "c2"_a, "isa"_a, "threads"_a)
      .def("forward", &similarity_forward, "a"_a, "b"_a, "gradients"_a)
      .def("backward", &similarity_backward, "a"_a, "b"_a, "partials"_a, "loss"_a);
  nb::class_<Binder>(m, "Binder")
      .def("__init__", [](Binder* self, int threads) { new (self) Binder(threads); }, "threads"_a)
      .def("forward", &bind_forward, "vertices"_a, "faces"_a, "face_index"_a, "means"_a, "quats"_a, "scales"_a)
      .def("backward", &bind_backward, "vertices"_a, "faces"_a, "face_index"_a, "means"_a, "quats"_a, "scales"_a,
           "frames"_a, "d_means"_a.none(), "d_quats"_a.none(), "d_scales"_a.none(), "d_normals"_a.none(),
           "to_vertices"_a);
  nb::class_<HeldTrace>(m, "Trace").def("visible", &HeldTrace::visible);
  nb::class_<Tracer>(m, "Tracer")
      .def("__init__",
           [](Tracer* self, const std::string& isa, int threads) { new (self) Tracer(variant_named(isa), threads); },
           "isa"_a, "threads"_a)
      .def("forward", &trace_forward, "means"_a, "quats"_a, "scales"_a, "opacities"_a, "sh"_a, "degree"_a,
           "features"_a.none(), "view"_a, "intrinsics"_a, "width"_a, "height"_a)
      .def("backward", &trace_backward, "trace"_a, "picture"_a, "alpha"_a, "d_picture"_a, "d_alpha"_a)
      .def("cpu_milliseconds",
           [](const Tracer& self) { return std::vector<double>(self.cpu_milliseconds(), self.cpu_milliseconds() + 5); });
}

void define_constants(nb::module_& m) {
  using namespace constants;
  m.attr("JOINTS") = kJoints;
  m.attr("POSE_FEATURES") = kPoseFeatures;
  m.attr("TILE") = kTile;
  m.attr("MAX_SIDE") = kMaxSide;
  m.attr("MAX_THREADS") = kMaxThreads;
  m.attr("MAX_SH_DEGREE") = kMaxShDegree;
  m.attr("NEAR") = kNear;
  m.attr("JACOBIAN_CLAMP") = kJacobianClamp;
  m.attr("LOW_PASS") = kLowPass;
  m.attr("ALPHA_CUT") = kAlphaCut;
  m.attr("ALPHA_MAX") = kAlphaMax;
  m.attr("EXTENT_SIGMAS") = kExtentSigmas;
  m.attr("STOP_TRANSMITTANCE") = kStopTransmittance;
  m.attr("STOP_DRAWING") = kStopDrawing;
  m.attr("GRID_LEVELS") = kGridLevels;
  m.attr("GRID_FEATURES") = kGridFeatures;
  m.attr("GRID_BASE") = kGridBase;
  m.attr("GRID_FINEST") = kGridFinest;
  m.attr("MOUTH_HIDDEN") = kMouthHidden;
  m.attr("MOUTH_OUTPUTS") = kMouthOutputs;
  m.attr("OFFSETS") = static_cast<int>(kOffsetFields);
  m.attr("MOUTH_MEAN_SCALE") = kMouthMeanScale;
  m.attr("MOUTH_SCALE_SCALE") = kMouthScaleScale;
}

}  // namespace
}  // namespace emotag

NB_MODULE(_kernels, m) {
  m.doc() = "Kernels; use emotag.plugins, which checks what it is given.";
  emotag::define_models(m);
  emotag::define_stages(m);
  emotag::define_renderer(m);
  emotag::define_training(m);
  emotag::define_encoder(m);
  emotag::define_yardstick(m);
  emotag::define_constants(m);
  m.attr("compiler") = EMOTAG_COMPILER;
}
