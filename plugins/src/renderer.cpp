#include "renderer.h"

#include <time.h>

#include "simd/records.h"
#include "sort.h"

namespace emotag {
namespace {

constexpr int kSkinChunk = 16;      // blocks of vertices, or of triangles
constexpr int kFrameChunk = 32;
constexpr int kTileChunk = 4;

double now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return 1e3 * static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_nsec);
}

template <class Work>
void run_ranges(Pool& pool, int count, int each, const Work& work) {
  pool.run((count + each - 1) / each, [&](int chunk) {
    const int first = chunk * each;
    work(first, first + each < count ? first + each : count);
  });
}

}  // namespace

Frame::Frame(const Scene& s) : scene(s), mouth_moves(false), sorted_count(0) {
  const Gaussians& g = *scene.gaussians;
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
  records.reset(static_cast<size_t>(g.places()) * simd::kRecord);
  rects.reset(g.places());
  depths.reset(g.places());
  visible.reset(chunks());
  near.reset(chunks());
  far.reset(chunks());
  items.reset(g.places());
  spare.reset(g.places());
}

int Frame::chunks() const { return (scene.gaussians->places() + kProjectChunk - 1) / kProjectChunk; }

void Frame::prepare_tiles(int parts) {
  const size_t tiles = static_cast<size_t>(view.tiles_x()) * view.tiles_y();
  const size_t cells = static_cast<size_t>(view.tiles_x() + kMarginColumns) * (view.tiles_y() + 1);
  tile_begin.reserve(tiles + 1);
  cursors.reserve(parts * (cells > 4096 ? cells : 4096));
  list.reserve(static_cast<size_t>(scene.gaussians->places()) * 4);
}

Renderer::Renderer(const Scene& scene, const Variant& variant, int threads)
    : frame_(scene), variant_(variant), pool_(threads) {}

size_t Renderer::bytes() const {
  const Frame& f = frame_;
  return 4 * (f.vertices.size() + f.triangles.size() + f.mouth_geometry.size() + f.mouth_offset.size() +
              f.records.size() + f.rects.size() + f.depths.size() + f.cursors.size() + f.tile_begin.size() +
              f.list.size()) +
         8 * (f.items.size() + f.spare.size());
}

void Renderer::move_mouth(const float* encoded_audio) {
  const Mouth& mouth = *frame_.scene.mouth;
  for (int o = 0; o < constants::kMouthHidden; ++o) {
    float sum = 0.0f;
    for (int i = 0; i < constants::kMouthAudio; ++i)
      sum += mouth.audio_layer[o * constants::kMouthAudio + i] * encoded_audio[i];
    frame_.mouth_audio[o] = sum;
  }
  pool_.run(mouth.blocks, [&](int block) { variant_.mouth_block(frame_, block); });
}

template <class Work>
void Renderer::timed(Stage stage, const Work& work) {
  const double start = now(CLOCK_MONOTONIC), cpu_start = now(CLOCK_THREAD_CPUTIME_ID);
  work();
  milliseconds_[stage] = now(CLOCK_MONOTONIC) - start;
  cpu_milliseconds_[stage] = now(CLOCK_THREAD_CPUTIME_ID) - cpu_start;
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

void Renderer::draw_gaussians() {
  frame_.prepare_tiles(pool_.threads());
  timed(kProject, [&] {
    pool_.run(frame_.chunks(), [&](int chunk) { variant_.project_chunk(frame_, chunk); });
  });
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
