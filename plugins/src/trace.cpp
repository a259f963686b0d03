#include "trace.h"

#include <algorithm>

#include "clock.h"
#include "simd/records.h"
#include "sort.h"
#include "variant.h"

namespace emotag {
namespace {

constexpr int kTileChunk = 4;

// The tiles of each part: about the same number of pairs, whoever runs it.
int first_tile(const Trace& trace, int part, int parts) {
  const int tiles = trace.view.tiles_x() * trace.view.tiles_y();
  if (part == parts) return tiles;
  const uint64_t pairs = static_cast<uint64_t>(trace.tile_begin[tiles]) * part / parts;
  const uint32_t* begin = trace.tile_begin.data();
  return part == 0 ? 0 : static_cast<int>(std::lower_bound(begin, begin + tiles, pairs) - begin);
}

}  // namespace

Trace::Trace(const WorldGaussians& gaussians, const View& seen)
    : Raster(blocks_of(gaussians.count) * kLanes), has_features(gaussians.features != nullptr),
      records(static_cast<size_t>(places) * simd::kRecord) {
  view = seen;
  for (int c = 0; c < 3; ++c) {
    origin[c] = 0.0f;
    for (int r = 0; r < 3; ++r) origin[c] -= view.rotation[3 * r + c] * view.translation[r];
  }
}

void Tracer::forward(const WorldGaussians& gaussians, Trace* trace, float* channels, float* alpha) {
  std::lock_guard<std::mutex> lock(mutex_);
  trace->prepare_tiles(pool_.threads());
  CpuClock clock;
  pool_.run(trace->chunks(), [&](int chunk) { variant_.trace_chunk(gaussians, *trace, chunk); });
  cpu_milliseconds_[0] = clock.lap();
  sort_by_depth(*trace, pool_);
  bin_to_tiles(*trace, pool_);
  cpu_milliseconds_[1] = clock.lap();
  const int tiles = trace->view.tiles_x() * trace->view.tiles_y();
  trace->reached.reserve(trace->tile_begin[tiles]);
  pool_.run((tiles + kTileChunk - 1) / kTileChunk, [&](int chunk) {
    for (int tile = chunk * kTileChunk; tile < std::min(tiles, (chunk + 1) * kTileChunk); ++tile)
      variant_.trace_tile(*trace, tile, channels, alpha);
  });
  cpu_milliseconds_[2] = clock.lap();
}

void Tracer::backward(const WorldGaussians& gaussians, const Trace& trace, const TracePlanes& picture,
                      const TracePlanes& loss, const WorldGradients& gradients) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int parts = pool_.threads();
  const size_t part_floats = static_cast<size_t>(trace.places) * simd::kRecord;
  sums_.reserve(part_floats * parts);
  CpuClock clock;
  pool_.run(parts, [&](int part) {
    float* sums = sums_.data() + part * part_floats;
    std::fill(sums, sums + part_floats, 0.0f);
    for (int tile = first_tile(trace, part, parts); tile < first_tile(trace, part + 1, parts); ++tile)
      variant_.untrace_tile(trace, tile, picture, loss, sums);
  });
  cpu_milliseconds_[3] = clock.lap();
  pool_.run(trace.chunks(), [&](int chunk) {
    const size_t first = static_cast<size_t>(chunk) * kProjectChunk * simd::kRecord;
    const size_t last = first + static_cast<size_t>(trace.visible[chunk]) * simd::kRecord;
    for (int part = 1; part < parts; ++part)
      for (size_t i = first; i < last; ++i) sums_[i] += sums_[part * part_floats + i];
    variant_.untrace_chunk(gaussians, trace, chunk, sums_.data(), gradients);
  });
  cpu_milliseconds_[4] = clock.lap();
}

}  // namespace emotag
