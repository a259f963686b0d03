// Stage 1: vertices of the posed head, and the frames of its triangles.
#pragma once

#include "../frame.h"
#include "../math/skin.h"
#include "../math/triangle.h"
#include "../simd/records.h"

namespace emotag {

// Skins vertex blocks [first, last) into vertices, [3][padded vertices].
template <class F>
void skin_blocks(const Head& head, const Pose& pose, float* vertices, int first, int last) {
  const size_t plane = head.padded_vertices();
  const Vec3<F> translation = {F(pose.translation.x), F(pose.translation.y), F(pose.translation.z)};
  for (int b = first; b < last; ++b) {
    for (int lane = 0; lane < kLanes; lane += F::width) {
      const float* rest = head.rest.data() + static_cast<size_t>(b) * 3 * kLanes + lane;
      Vec3<F> p = {F::load(rest), F::load(rest + kLanes), F::load(rest + 2 * kLanes)};
      for (int e = head.basis_begin[b]; e < head.basis_begin[b + 1]; ++e) {
        const float* basis = head.basis.data() + static_cast<size_t>(e) * 3 * kLanes + lane;
        const F c(pose.coefficients[head.basis_index[e]]);
        p = {fma(c, F::load(basis), p.x), fma(c, F::load(basis + kLanes), p.y), fma(c, F::load(basis + 2 * kLanes), p.z)};
      }
      F weights[constants::kJoints];
      for (int j = 0; j < constants::kJoints; ++j)
        weights[j] = F::load(head.weights.data() + (static_cast<size_t>(b) * constants::kJoints + j) * kLanes + lane);
      p = skin_vertex(p, weights, pose.transforms) + translation;
      float* out = vertices + b * kLanes + lane;
      F::store(out, p.x);
      F::store(out + plane, p.y);
      F::store(out + 2 * plane, p.z);
    }
  }
}

// Writes the frames of triangle blocks [first, last), turned into camera space, into frame.triangles.
template <class F>
void frame_blocks(Frame& frame, int first, int last) {
  const Head& head = *frame.scene.head;
  const size_t plane = head.padded_vertices();
  const float* vertices = frame.vertices.data();
  F view[9];
  for (int k = 0; k < 9; ++k) view[k] = F(frame.view.rotation[k]);
  const float* t = frame.view.translation;
  const Vec3<F> translation = {F(t[0]), F(t[1]), F(t[2])};
  for (int i = first * kLanes; i < last * kLanes; i += F::width) {
    Vec3<F> v[3];
    for (int c = 0; c < 3; ++c) {
      const int32_t* index = head.corners.data() + static_cast<size_t>(c) * head.padded_faces() + i;
      v[c] = {F::gather(vertices, index), F::gather(vertices + plane, index), F::gather(vertices + 2 * plane, index)};
    }
    const TriangleFrame<F> f = triangle_frame(v[0], v[1], v[2]);
    const Vec3<F> a0 = rotate(view, f.a0 * f.k), a1 = rotate(view, f.a1 * f.k), a2 = rotate(view, f.a2 * f.k);
    const Vec3<F> centre = rotate(view, f.centre) + translation;
    const F fields[kTriangleFields] = {a0.x, a1.x, a2.x, a0.y, a1.y, a2.y, a0.z, a1.z, a2.z, centre.x, centre.y, centre.z};
    float* const to = frame.triangles.data() + static_cast<size_t>(i) * simd::kRecord;
    simd::store_records<F, kTriangleFields>(fields, [&](int lane) { return to + lane * simd::kRecord; });
  }
}

}  // namespace emotag
