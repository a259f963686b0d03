// A picture that remembers how it was made, so that gradients can go back through it (training).
//
// Gaussians are in the world. Unlike drawing, blending stops exactly where 3DGS does, colours keep float harmonics, and
// the exponential is good to 3e-6. Besides colours, extra channels of the caller's can be blended (depth, normals).
#pragma once

#include <mutex>

#include "frame.h"
#include "pool.h"

namespace emotag {

struct Variant;

constexpr int kColours = 3;
constexpr int kMaxFeatures = 4;
// A training record is one cache line of floats: RecordField as far as the level, then these. kTiles: 256·x0 + x1. The extra
// channels begin at kFeature; the last field holds the bits of the Gaussian's number.
enum TraceRecordField { kHalfX = kRecordLevel + 1, kTiles, kRed, kGreen, kBlue, kFeature, kSource = 15 };

struct WorldGaussians {
  int count, stored_coefficients, degree;
  const float* means;      // (G,3) metres
  const float* quats;      // (G,4) wxyz, any length
  const float* scales;     // (G,3) metres
  const float* opacities;  // (G,) after the sigmoid
  const float* sh;         // (G,K,3)
  const float* features;   // (G,4) blended like colours, or null
  int channels() const { return features == nullptr ? kColours : kColours + kMaxFeatures; }
};

// Sums over the pixels that a Gaussian touches: the gradient record of one Gaussian, before the projection's share.
enum GradientField { kMomentOne, kMomentX, kMomentY, kMomentXx, kMomentXy, kMomentYy, kChannel };
constexpr int gradient_fields(int channels) { return kChannel + channels; }

struct Trace : Raster {
  Trace(const WorldGaussians& gaussians, const View& view);
  const bool has_features;
  float origin[3];  // of the camera, world
  Aligned<float> records;     // [places][16], see TraceRecordField
  Aligned<uint64_t> reached;  // [pairs]: the strips (trace_tile.h) that a tile's Gaussian reaches
};

// Planes of the picture: channels (C,H,W), premultiplied by alpha (no background), and alpha (H,W).
struct TracePlanes {
  const float *channels, *alpha;
};

// Where gradients go; zeroed by the caller. Arrays as in WorldGaussians; points (G,2) is that of the projected means, pixels.
struct WorldGradients {
  float *means, *quats, *scales, *opacities, *sh, *features, *points;
};

class Tracer {
 public:
  Tracer(const Variant& variant, int threads) : variant_(variant), pool_(threads) {}

  // Fills the trace and the picture. Thread-safe: concurrent calls take turns.
  void forward(const WorldGaussians& gaussians, Trace* trace, float* channels, float* alpha);
  // The gradients of a loss, given the picture of `forward` and the loss's gradients in it. The same thread count gives
  // the same bits; another one adds up in another order.
  void backward(const WorldGaussians& gaussians, const Trace& trace, const TracePlanes& picture,
                const TracePlanes& loss, const WorldGradients& gradients);

  // Processor time of the calling thread, of the last forward (project, sort, blend) and backward (blend, project).
  const double* cpu_milliseconds() const { return cpu_milliseconds_; }
  const Variant& variant() const { return variant_; }
  int threads() const { return pool_.threads(); }

 private:
  const Variant& variant_;
  Pool pool_;
  std::mutex mutex_;
  Aligned<float> sums_;  // [parts][places][16] gradient records
  double cpu_milliseconds_[5] = {};
};

}  // namespace emotag
