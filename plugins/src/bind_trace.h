// Binding with a way back (eq. 7): gradients reach the Gaussians and, through the triangles' frames, the vertices
// (training). The picture's way back is trace.h.
#pragma once

#include <cstdint>
#include <mutex>

#include "aligned.h"
#include "pool.h"

namespace emotag {

// A triangle's frame: k·R row-major 9, centre 3, R as a quaternion 4, k, normal 3.
constexpr int kFrameMean = 9, kFrameQuat = 12, kFrameScale = 16, kFrameNormal = 17, kFrameFields = 20;

struct MeshArrays {
  int vertices, faces;
  const float* places;     // (V,3) metres
  const int64_t* corners;  // (F,3)
};

struct LocalGaussians {
  int count;
  const int64_t* face;  // (G,)
  const float* means;   // (G,3) in units of the triangle's scale
  const float* quats;   // (G,4) wxyz, any length
  const float* scales;  // (G,3) after the activation
};

// In the world: (G,3), (G,4), (G,3), (G,3). Of gradients, each may be null, which is zero.
template <class T>
struct BoundArrays {
  T *means, *quats, *scales, *normals;
};

// As in LocalGaussians and MeshArrays; vertices are zeroed by the caller, or null if that gradient is not wanted.
struct LocalGradients {
  float *means, *quats, *scales, *vertices;
};

class Binder {
 public:
  explicit Binder(int threads) : pool_(threads) {}

  // Both throw std::out_of_range for a triangle or a vertex that is not there. Thread-safe: concurrent calls take turns.

  // Fills frames (F,20) and what is bound.
  void forward(const MeshArrays& mesh, const LocalGaussians& gaussians, float* frames, const BoundArrays<float>& bound);
  // The gradients of a loss, given those in what `forward` bound. The same bits for any number of threads: what a
  // triangle gets is added up by one thread, in the order of the Gaussians.
  void backward(const MeshArrays& mesh, const LocalGaussians& gaussians, const float* frames,
                const BoundArrays<const float>& loss, const LocalGradients& gradients);

 private:
  void sort_by_face(const MeshArrays& mesh, const LocalGaussians& gaussians);

  Pool pool_;
  std::mutex mutex_;
  Aligned<int32_t> begin_, order_;  // [faces + 1], [Gaussians]: the Gaussians of each triangle
  Aligned<float> sums_;             // [faces][20] gradients of the frames; then of the corners, in the first nine
};

}  // namespace emotag
