#include "renderer.h"

#include <algorithm>

#include "clock.h"
#include "simd/records.h"
#include "sort.h"

namespace emotag {
namespace {

constexpr int kSkinChunk = 16;      // blocks of vertices, or of triangles
constexpr int kFrameChunk = 32;
constexpr int kTileChunk = 4;
constexpr int kWearChunk = 64;      // blocks of Gaussians

template <class Work>
void run_ranges(Pool& pool, int count, int each, const Work& work) {
  pool.run((count + each - 1) / each, [&](int chunk) {
    const int first = chunk * each;
    work(first, first + each < count ? first + each : count);
  });
}

}  // namespace

Frame::Frame(const Scene& s)
    : Raster(s.gaussians->places()), scene(s), geometry(s.gaussians->geometry.data()), has_colours(false), mouth_moves(false),
      records(static_cast<size_t>(places) * kRecordFields), brightest(chunks()) {
  if (scene.head) {
    vertices.reset(static_cast<size_t>(3) * scene.head->padded_vertices());
    triangles.reset(static_cast<size_t>(scene.head->padded_faces()) * simd::kRecord);
  } else {
    triangles.reset(simd::kRecord);
  }
  if (scene.mouth) {
    mouth_audio.reset(constants::kMouthHidden);
    mouth_geometry.reset(static_cast<size_t>(scene.mouth->blocks) * kGaussianFields * kLanes);
    mouth_offset.reset(static_cast<size_t>(scene.mouth->blocks) * 3 * kLanes);
  }
}

Renderer::Renderer(const Scene& scene, const Variant& variant, int threads)
    : frame_(scene), variant_(variant), pool_(threads) {}

size_t Renderer::bytes() const {
  const Frame& f = frame_;
  return 4 * (f.records.size() + f.colours.size() + f.vertices.size() + f.triangles.size() + f.mouth_geometry.size() + f.mouth_offset.size() +
              f.worn.size()) +
         static_cast<const Raster&>(f).bytes();
}

void Renderer::wear(const Appearance* appearance, const float* coefficients) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Gaussians& gaussians = *frame_.scene.gaussians;
  frame_.geometry = gaussians.geometry.data();
  if (appearance == nullptr) return;
  frame_.worn.reserve(gaussians.geometry.size());
  run_ranges(pool_, gaussians.blocks, kWearChunk, [&](int first, int last) {
    for (int block = first; block < last; ++block) variant_.wear_block(*appearance, coefficients, frame_, block);
  });
  frame_.geometry = frame_.worn.data();
}

void Renderer::set_alone(bool alone) {
  std::lock_guard<std::mutex> lock(mutex_);
  pool_.set_alone(alone);
}

void Renderer::move_mouth(const float* encoded_audio) {
  const Mouth& mouth = *frame_.scene.mouth;
  for (int o = 0; o < constants::kMouthHidden; ++o) {
    float sum = 0.0f;
    const float* row = mouth.audio_layer.data() + static_cast<size_t>(o) * mouth.audio;
    for (int i = 0; i < mouth.audio; ++i) sum += row[i] * encoded_audio[i];
    frame_.mouth_audio[o] = sum;
  }
  pool_.run(mouth.blocks, [&](int block) { variant_.mouth_block(frame_, block); });
}

template <class Work>
void Renderer::timed(Stage stage, const Work& work) {
  const double start = milliseconds_of(CLOCK_MONOTONIC);
  CpuClock clock;
  work();
  milliseconds_[stage] = milliseconds_of(CLOCK_MONOTONIC) - start;
  cpu_milliseconds_[stage] = clock.lap();
}

void Renderer::draw(const Controls& controls, const View& view, const Output& output) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Scene& scene = frame_.scene;
  frame_.view = view;
  frame_.output = output;
  timed(kSkin, [&] {
    prepare_pose(*scene.head, controls.expression, controls.pose, controls.translation, &frame_.pose);
    run_ranges(pool_, scene.head->blocks, kSkinChunk, [&](int first, int last) {
      variant_.skin_blocks(*scene.head, frame_.pose, frame_.vertices.data(), first, last);
    });
    run_ranges(pool_, scene.head->padded_faces() / kLanes, kFrameChunk,
               [&](int first, int last) { variant_.frame_blocks(frame_, first, last); });
  });
  timed(kMouth, [&] {
    frame_.mouth_moves = scene.mouth != nullptr && controls.encoded_audio != nullptr;
    if (frame_.mouth_moves) move_mouth(controls.encoded_audio);
  });
  draw_gaussians();
}

void Renderer::draw_world(const View& view, const Output& output) {
  std::lock_guard<std::mutex> lock(mutex_);
  frame_.view = view;
  frame_.output = output;
  frame_.mouth_moves = false;
  for (int k = 0; k < 9; ++k) frame_.triangles[k] = view.rotation[k];
  for (int k = 0; k < 3; ++k) frame_.triangles[9 + k] = view.translation[k];
  draw_gaussians();
}

// Whether words can blend all colours is known only when they are projected. It is taken to be as in the frame before, and
// they are projected again, with colours as floats, where those are missing.
void Renderer::project_gaussians() {
  const auto project = [&](bool has_colours) {
    frame_.has_colours = has_colours;
    if (has_colours) frame_.colours.reserve(static_cast<size_t>(frame_.places) * simd::kFour);
    pool_.run(frame_.chunks(), [&](int chunk) { variant_.project_chunk(frame_, chunk); });
  };
  project(bright_ || !variant_.has_words);
  const float* const brightest = frame_.brightest.data();
  bright_ = *std::max_element(brightest, brightest + frame_.chunks()) > kBrightest;
  if (bright_ && !frame_.has_colours) project(true);
  frame_.has_colours = bright_ || !variant_.has_words;
}

void Renderer::draw_gaussians() {
  frame_.prepare_tiles(pool_.threads());
  timed(kProject, [&] { project_gaussians(); });
  timed(kSort, [&] {
    sort_by_depth(frame_, pool_);
    bin_to_tiles(frame_, pool_);
  });
  timed(kBlend, [&] {
    run_ranges(pool_, frame_.view.tiles_x() * frame_.view.tiles_y(), kTileChunk, [&](int first, int last) {
      for (int tile = first; tile < last; ++tile) variant_.draw_tile(frame_, tile);
    });
  });
}

}  // namespace emotag
