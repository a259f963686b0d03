// Stage 3: every Gaussian to an ellipse with a colour, the visible ones packed densely.
#pragma once

#include <array>

#include "../frame.h"
#include "../math/sh.h"
#include "../simd/records.h"

namespace emotag {

// Mean and axes of one vector of Gaussians in camera space.
template <class F>
struct Bound {
  Vec3<F> mean;
  F axes[9];
};

template <class F>
static EMOTAG_INLINE Bound<F> bind_to_frames(const Frame& frame, const float* geometry, const int32_t* index) {
  F f[kTriangleFields];
  simd::load_records<F, kTriangleFields>(frame.triangles.data(), index, f);
  const Vec3<F> local = {F::load(geometry), F::load(geometry + kLanes), F::load(geometry + 2 * kLanes)};
  Bound<F> bound;
  for (int k = 0; k < 9; ++k) bound.axes[k] = f[k];
  bound.mean = rotate(bound.axes, local) + Vec3<F>{f[9], f[10], f[11]};
  return bound;
}

template <class F, int Degree>
static EMOTAG_INLINE void colour_of(const Frame& frame, const Vec3<F>& mean, const float* geometry, const uint16_t* sh,
                                    F* colour) {
  F basis[sh_coefficients(constants::kMaxShDegree)];
  if constexpr (Degree > 0) {
    const float* r = frame.view.rotation;
    const Vec3<F> d = mean * rsqrt(max(dot(mean, mean), F(constants::kTiny)));
    const F back[9] = {F(r[0]), F(r[3]), F(r[6]), F(r[1]), F(r[4]), F(r[7]), F(r[2]), F(r[5]), F(r[8])};
    sh_basis<Degree>(rotate(back, d), basis);
  }
  for (int c = 0; c < 3; ++c)
    colour[c] = sh_colour<Degree>(F::load(geometry + (kColour + c) * kLanes), basis,
                                  [&](int k) { return F::load_half(sh + ((k - 1) * 3 + c) * kLanes); });
}

// Where a chunk of Gaussians writes those that are visible, and the depths it has seen.
template <class F>
struct Packer {
  Raster& raster;
  const int chunk;
  int place;
  F near, far, pairs;

  EMOTAG_INLINE Packer(Raster& to, int number)
      : raster(to), chunk(number), place(number * kProjectChunk), near(3e38f), far(0.0f), pairs(0.0f) {}

  // Appends the `visible` ones of a vector: spans and depths. write(place_of): writes what else belongs to lane i to
  // place_of(i), in the order of i, since what is not visible is overwritten by the next.
  template <class Mask, class Write>
  EMOTAG_INLINE void append(Mask visible, const Splat<F>& s, const F& depth, const Write& write) {
    near = min(near, select(visible, depth, near));
    far = max(far, select(visible, depth, far));
    const F half(static_cast<float>(constants::kTile) / constants::kSpan), byte(256.0f), one(1.0f);
    const F x0 = truncate(s.tile_x0 * half), x1 = truncate(s.tile_x1 * half);
    const F first = fma(s.tile_y0, byte, x0), last = fma(s.tile_y1, byte, x1);  // two bytes each of a TileRect
    pairs = pairs + keep(visible, (x1 - x0 + one) * (s.tile_y1 - s.tile_y0 + one));
    if (bits(visible) == (1u << F::width) - 1) {  // as nearly always
      write([&](int i) { return static_cast<size_t>(place) + i; });
      F::store_halves(raster.rects.data() + place, first, last);
      F::storeu(reinterpret_cast<float*>(raster.depths.data() + place), depth);
      place += F::width;
      return;
    }
    alignas(64) float depths[F::width];
    alignas(64) uint32_t rects[F::width];
    F::store_halves(rects, first, last);
    F::store(depths, depth);
    int before[F::width], count = 0;  // visible ones before each
    for (int i = 0; i < F::width; ++i) {
      before[i] = count;
      count += bits(visible) >> i & 1;
    }
    write([&](int i) { return static_cast<size_t>(place) + before[i]; });
    for (int i = 0; i < F::width; ++i) {
      raster.rects[place + before[i]] = rects[i];
      memcpy(raster.depths.data() + place + before[i], depths + i, sizeof depths[i]);
    }
    place += count;
  }

  // The depths of visible Gaussians are positive: their bits sort as they do.
  EMOTAG_INLINE void finish() const {
    alignas(64) float least[F::width], most[F::width], counts[F::width];
    F::store(least, near);
    F::store(most, far);
    F::store(counts, pairs);  // whole numbers below 2²⁴
    raster.pair_count[chunk] = 0;
    for (float count : counts) raster.pair_count[chunk] += static_cast<int64_t>(count);
    for (int i = 1; i < F::width; ++i) {
      least[0] = min(least[0], least[i]);
      most[0] = max(most[0], most[i]);
    }
    raster.visible[chunk] = place - chunk * kProjectChunk;
    memcpy(raster.near.data() + chunk, least, sizeof least[0]);
    memcpy(raster.far.data() + chunk, most, sizeof most[0]);
  }
};

// The records of one vector, and their colours as floats where they are wanted.
template <class F>
static EMOTAG_INLINE auto record_writer(Frame& frame, const Splat<F>& s, const F& level, const F* colour) {
  const F unit(kWordColours), tiles = fma(s.tile_x0, F(256.0f), s.tile_x1);
  return [&frame, colour, r = std::array<F, kRecordFields>{s.u, s.v, s.qa, s.qb, s.qc, level,
                                                           F::words(colour[0] * unit, colour[1] * unit),
                                                           F::words(colour[2] * unit, tiles)}](const auto& place_of) {
    float* const records = frame.records.data();
    simd::store_records<F, kRecordFields>(r.data(), [&](int i) { return records + place_of(i) * kRecordFields; });
    if (!frame.has_colours) return;
    float* const colours = frame.colours.data();
    const F four[simd::kFour] = {colour[0], colour[1], colour[2], F(0.0f)};
    F::store_fours(four, [&](int i) { return colours + place_of(i) * simd::kFour; });
  };
}

// Projects one vector of Gaussians and appends the visible ones; the brightest colours are kept in `brightest`.
template <class F, int Degree>
static EMOTAG_INLINE void project_vector(Frame& frame, int block, int lane, Packer<F>* packer, F* brightest) {
  const Gaussians& g = *frame.scene.gaussians;
  const int mouth = frame.mouth_moves ? block - g.mouth_begin : -1;
  const size_t block_floats = kGaussianFields * kLanes;
  const float* geometry = (mouth < 0 ? frame.geometry + block * block_floats
                                     : frame.mouth_geometry.data() + mouth * block_floats) + lane;
  Bound<F> bound = bind_to_frames<F>(frame, geometry, g.frame.data() + block * kLanes + lane);
  if (mouth >= 0) {
    const float* offset = frame.mouth_offset.data() + static_cast<size_t>(mouth) * 3 * kLanes + lane;
    bound.mean = bound.mean + Vec3<F>{F::load(offset), F::load(offset + kLanes), F::load(offset + 2 * kLanes)};
  }
  F covariance[6];
  for (int k = 0; k < 6; ++k) covariance[k] = F::load(geometry + (kCovariance + k) * kLanes);
  const F level = F::load(geometry + kLevel * kLanes);
  Splat<F> s;
  const auto visible = project(bound.mean, bound.axes, covariance, level, frame.view.pinhole, &s);
  if (bits(visible) == 0) return;

  constexpr int kRest = (sh_coefficients(Degree) - 1) * 3 * kLanes;
  F colour[3];
  colour_of<F, Degree>(frame, bound.mean, geometry, g.sh.data() + static_cast<size_t>(block) * kRest + lane, colour);
  *brightest = max(*brightest, keep(visible, max(max(colour[0], colour[1]), colour[2])));
  packer->append(visible, s, bound.mean.z, record_writer(frame, s, level, colour));
}

template <class F, int Degree>
void project_blocks(Frame& frame, int chunk) {
  constexpr int kChunkBlocks = kProjectChunk / kLanes;
  const int first = chunk * kChunkBlocks, blocks = frame.scene.gaussians->blocks;
  const int last = first + kChunkBlocks < blocks ? first + kChunkBlocks : blocks;
  Packer<F> packer(frame, chunk);
  F brightest(0.0f);
  for (int b = first; b < last; ++b)
    for (int lane = 0; lane < kLanes; lane += F::width) project_vector<F, Degree>(frame, b, lane, &packer, &brightest);
  packer.finish();
  alignas(64) float colours[F::width];
  F::store(colours, brightest);
  for (float colour : colours) colours[0] = max(colours[0], colour);
  frame.brightest[chunk] = colours[0];
}

// Projects one chunk of kProjectChunk Gaussians.
template <class F>
void project_chunk(Frame& frame, int chunk) {
  switch (frame.scene.gaussians->degree) {
    case 0: return project_blocks<F, 0>(frame, chunk);
    case 1: return project_blocks<F, 1>(frame, chunk);
    case 2: return project_blocks<F, 2>(frame, chunk);
    default: return project_blocks<F, 3>(frame, chunk);
  }
}

}  // namespace emotag
