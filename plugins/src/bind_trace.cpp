#include "bind_trace.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "math/quaternion.h"
#include "math/triangle.h"
#include "simd/plain.h"

namespace emotag {
namespace {

using F = simd::Plain;
using Vector = Vec3<float>;

constexpr int kChunk = 4096;  // Gaussians, or triangles, that a thread takes at once

void check_below(const int64_t* values, size_t count, int limit, const char* what) {
  uint64_t most = 0;
  for (size_t i = 0; i < count; ++i) most = std::max(most, static_cast<uint64_t>(values[i]));
  if (most >= static_cast<uint64_t>(limit))
    throw std::out_of_range(std::string(what) + " " + std::to_string(static_cast<int64_t>(most)) + " of " +
                            std::to_string(limit));
}

void check(const MeshArrays& mesh, const LocalGaussians& gaussians) {
  check_below(mesh.corners, 3 * static_cast<size_t>(mesh.faces), mesh.vertices, "vertex");
  check_below(gaussians.face, gaussians.count, mesh.faces, "triangle");
}

Vector vector_at(const float* p) { return {p[0], p[1], p[2]}; }

TriangleFrame<float> frame_of(const MeshArrays& mesh, const int64_t* corners) {
  return triangle_frame(vector_at(mesh.places + 3 * corners[0]), vector_at(mesh.places + 3 * corners[1]),
                        vector_at(mesh.places + 3 * corners[2]));
}

void store_frame(const TriangleFrame<float>& f, float* to) {
  const Quat<float> q = quat_from_columns(f.a0, f.a1, f.a2);
  const float fields[kFrameFields] = {
      f.k * f.a0.x, f.k * f.a1.x, f.k * f.a2.x, f.k * f.a0.y, f.k * f.a1.y, f.k * f.a2.y, f.k * f.a0.z,
      f.k * f.a1.z, f.k * f.a2.z, f.centre.x,   f.centre.y,   f.centre.z,   q.w,          q.x,
      q.y,          q.z,          f.k,          f.a1.x,       f.a1.y,       f.a1.z};
  memcpy(to, fields, sizeof fields);
}

// Gaussians that are bound together, one a lane; the lanes behind `count` repeat the last.
struct Group {
  int count;
  int32_t row[F::width], face[F::width];

  Group(const LocalGaussians& gaussians, const int32_t* order, int first, int last)
      : count(std::min(F::width, last - first)) {
    for (int i = 0; i < F::width; ++i) {
      const int place = first + std::min(i, count - 1);
      row[i] = order == nullptr ? place : order[place];
      face[i] = static_cast<int32_t>(gaussians.face[row[i]]);
    }
  }

  // N fields a row; zeros from nowhere.
  template <int N>
  void load(const float* base, F* fields) const {
    for (int k = 0; k < N; ++k) {
      if (base == nullptr) {
        fields[k] = F(0.0f);
        continue;
      }
      const float* from = base + k;
      fields[k] = F::Floats{from[N * row[0]], from[N * row[1]], from[N * row[2]], from[N * row[3]]};
    }
  }
  template <int N>
  void store(float* base, const F* fields) const {
    for (int i = 0; i < count; ++i)
      for (int k = 0; k < N; ++k) base[N * row[i] + k] = fields[k].v[i];
  }
  void load_frames(const float* frames, F* fields) const {
    for (int part = 0; part < kFrameFields; part += F::width) {
      for (int i = 0; i < F::width; ++i) fields[part + i] = F::loadu(frames + kFrameFields * face[i] + part);
      F::transpose(fields + part);
    }
  }
  // Adds to the records of the triangles; `fields` are turned round.
  void add_to_frames(float* sums, F* fields) const {
    for (int part = 0; part < kFrameFields; part += F::width) {
      F::transpose(fields + part);
      for (int i = 0; i < count; ++i) {
        float* to = sums + kFrameFields * face[i] + part;
        F::store(to, F::loadu(to) + fields[part + i]);
      }
    }
  }
};

Quat<F> quat_at(const F* q) { return {q[0], q[1], q[2], q[3]}; }
Quat<F> conjugate(const Quat<F>& q) { return {q.w, -q.x, -q.y, -q.z}; }
F dot(const Quat<F>& a, const Quat<F>& b) { return a.w * b.w + a.x * b.x + a.y * b.y + a.z * b.z; }

void bind_group(const Group& group, const LocalGaussians& gaussians, const float* frames, const BoundArrays<float>& to) {
  F f[kFrameFields], m[3], q[4], s[3];
  group.load_frames(frames, f);
  group.load<3>(gaussians.means, m);
  group.load<4>(gaussians.quats, q);
  group.load<3>(gaussians.scales, s);
  const Vec3<F> turned = rotate(f, Vec3<F>{m[0], m[1], m[2]});
  const Quat<F> quat = quat_at(f + kFrameQuat) * normalized(quat_at(q));
  const F mean[3] = {turned.x + f[kFrameMean], turned.y + f[kFrameMean + 1], turned.z + f[kFrameMean + 2]};
  const F turn[4] = {quat.w, quat.x, quat.y, quat.z};
  const F scale[3] = {s[0] * f[kFrameScale], s[1] * f[kFrameScale], s[2] * f[kFrameScale]};
  group.store<3>(to.means, mean);
  group.store<4>(to.quats, turn);
  group.store<3>(to.scales, scale);
  group.store<3>(to.normals, f + kFrameNormal);
}

// The gradients of a group; those of its triangles' frames are added to `sums`, unless that is null.
void unbind_group(const Group& group, const LocalGaussians& gaussians, const float* frames,
                  const BoundArrays<const float>& loss, const LocalGradients& to, float* sums) {
  F f[kFrameFields], q[4], g[3], dq[4], ds[3];
  group.load_frames(frames, f);
  group.load<4>(gaussians.quats, q);
  group.load<3>(loss.means, g);
  group.load<4>(loss.quats, dq);
  group.load<3>(loss.scales, ds);
  F mean[3], scale[3];
  for (int c = 0; c < 3; ++c) {
    mean[c] = f[c] * g[0] + f[3 + c] * g[1] + f[6 + c] * g[2];
    scale[c] = ds[c] * f[kFrameScale];
  }
  // World = frame ⊗ unit(q): through the product, then through the length of q.
  const Quat<F> own = quat_at(q), upstream = quat_at(dq);
  const F square = dot(own, own), tiny(constants::kTiny), inverse = rsqrt(max(square, tiny));
  const Quat<F> unit = {own.w * inverse, own.x * inverse, own.y * inverse, own.z * inverse};
  const Quat<F> d = conjugate(quat_at(f + kFrameQuat)) * upstream;
  const F along = keep(square >= tiny, dot(unit, d));
  const F quat[4] = {(d.w - unit.w * along) * inverse, (d.x - unit.x * along) * inverse,
                     (d.y - unit.y * along) * inverse, (d.z - unit.z * along) * inverse};
  group.store<3>(to.means, mean);
  group.store<4>(to.quats, quat);
  group.store<3>(to.scales, scale);
  if (sums == nullptr) return;
  F m[3], s[3], field[kFrameFields];
  group.load<3>(gaussians.means, m);
  group.load<3>(gaussians.scales, s);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) field[3 * r + c] = g[r] * m[c];
    field[kFrameMean + r] = g[r];
  }
  const Quat<F> turn = upstream * conjugate(unit);
  field[kFrameQuat] = turn.w;
  field[kFrameQuat + 1] = turn.x;
  field[kFrameQuat + 2] = turn.y;
  field[kFrameQuat + 3] = turn.z;
  field[kFrameScale] = ds[0] * s[0] + ds[1] * s[1] + ds[2] * s[2];
  group.load<3>(loss.normals, field + kFrameNormal);
  group.add_to_frames(sums, field);
}

// Gradients of the columns of a rotation.
struct Axes {
  Vector a0, a1, a2;
};

// Adds what a gradient `d` of the unit quaternion q of the columns says of them. q is c / |c|, and c the row of the
// largest component, whose entries are sums of the matrix's (see quat_from_columns).
void add_quat_gradient(const TriangleFrame<float>& f, const float* q, const float* d, Axes* to) {
  const float xx = f.a0.x, yy = f.a1.y, zz = f.a2.z, trace = xx + yy + zz;
  const int row = trace >= xx && trace >= yy && trace >= zz ? 0 : xx >= yy && xx >= zz ? 1 : yy >= zz ? 2 : 3;
  const float own = row == 0 ? trace : row == 1 ? xx - yy - zz : row == 2 ? yy - xx - zz : zz - xx - yy;
  const float inverse = q[row] / (1.0f + own);  // 1 / |c|
  const float along = q[0] * d[0] + q[1] * d[1] + q[2] * d[2] + q[3] * d[3];
  float c[4];
  for (int k = 0; k < 4; ++k) c[k] = (d[k] - q[k] * along) * inverse;
  const float diagonal = c[row];
  to->a0.x += row == 0 || row == 1 ? diagonal : -diagonal;
  to->a1.y += row == 0 || row == 2 ? diagonal : -diagonal;
  to->a2.z += row == 0 || row == 3 ? diagonal : -diagonal;
  // Of the differences and of the sums of the entries that mirror each other: about x, y and z.
  float skew[3] = {}, even[3] = {};
  for (int axis = 0; axis < 3; ++axis) {
    if (row == 0) skew[axis] = c[axis + 1];
    if (row == axis + 1) skew[axis] = c[0];
    const int one = (axis + 1) % 3 + 1, other = (axis + 2) % 3 + 1;
    if (row == one) even[axis] = c[other];
    if (row == other) even[axis] = c[one];
  }
  to->a1.z += even[0] + skew[0];
  to->a2.y += even[0] - skew[0];
  to->a2.x += even[1] + skew[1];
  to->a0.z += even[1] - skew[1];
  to->a0.y += even[2] + skew[2];
  to->a1.x += even[2] - skew[2];
}

Vector scaled_sum(const Vector& a, const Vector& b, float s) { return a + b * s; }

// The gradient record of a triangle's frame to those of its three corners (nine floats), in place.
void unframe(const MeshArrays& mesh, const int64_t* corners, const float* frame, float* record) {
  const TriangleFrame<float> f = frame_of(mesh, corners);
  const Vector v0 = vector_at(mesh.places + 3 * corners[0]);
  const Vector e0 = vector_at(mesh.places + 3 * corners[1]) - v0, e1 = vector_at(mesh.places + 3 * corners[2]) - v0;
  const float* d = record;
  Axes axes = {Vector{d[0], d[3], d[6]} * f.k, Vector{d[1], d[4], d[7]} * f.k, Vector{d[2], d[5], d[8]} * f.k};
  const float d_k = 0.5f * (d[kFrameScale] + d[0] * f.a0.x + d[3] * f.a0.y + d[6] * f.a0.z + d[1] * f.a1.x +
                            d[4] * f.a1.y + d[7] * f.a1.z + d[2] * f.a2.x + d[5] * f.a2.y + d[8] * f.a2.z);
  axes.a1 = axes.a1 + vector_at(d + kFrameNormal);
  add_quat_gradient(f, frame + kFrameQuat, d + kFrameQuat, &axes);
  // Backwards through triangle_frame: k, a2, a1 and the normal that it is the direction of, a0.
  const float height = dot(f.a2, e1), side = height > 0.0f ? d_k : height < 0.0f ? -d_k : 0.0f;
  axes.a2 = scaled_sum(axes.a2, e1, side);
  Vector d_e1 = f.a2 * side;
  axes.a0 = axes.a0 + cross(f.a1, axes.a2);
  axes.a1 = axes.a1 + cross(axes.a2, f.a0);
  const Vector normal = cross(f.a0, e1);
  const float area = dot(normal, normal), square = dot(e0, e0), tiny = constants::kTiny;
  const float along1 = area >= tiny ? dot(f.a1, axes.a1) : 0.0f;
  const Vector d_normal = scaled_sum(axes.a1, f.a1, -along1) * rsqrt(max(area, tiny));
  axes.a0 = axes.a0 + cross(e1, d_normal);
  d_e1 = d_e1 + cross(d_normal, f.a0);
  const bool long_enough = square >= tiny;
  const float along0 = long_enough ? dot(f.a0, axes.a0) : 0.0f;
  const Vector d_e0 = scaled_sum(axes.a0, f.a0, -along0) * rsqrt(max(square, tiny)) + f.a0 * (long_enough ? d_k : 0.0f);
  const Vector third = vector_at(d + kFrameMean) * (1.0f / 3.0f);
  const Vector to[3] = {third - d_e0 - d_e1, third + d_e0, third + d_e1};
  memcpy(record, to, sizeof to);
}

int chunks_of(int count) { return (count + kChunk - 1) / kChunk; }

}  // namespace

void Binder::forward(const MeshArrays& mesh, const LocalGaussians& gaussians, float* frames,
                     const BoundArrays<float>& bound) {
  check(mesh, gaussians);
  std::lock_guard<std::mutex> lock(mutex_);
  pool_.run(chunks_of(mesh.faces), [&](int chunk) {
    for (int face = chunk * kChunk; face < std::min(mesh.faces, (chunk + 1) * kChunk); ++face)
      store_frame(frame_of(mesh, mesh.corners + 3 * face), frames + kFrameFields * face);
  });
  pool_.run(chunks_of(gaussians.count), [&](int chunk) {
    const int last = std::min(gaussians.count, (chunk + 1) * kChunk);
    for (int first = chunk * kChunk; first < last; first += F::width)
      bind_group(Group(gaussians, nullptr, first, last), gaussians, frames, bound);
  });
}

void Binder::backward(const MeshArrays& mesh, const LocalGaussians& gaussians, const float* frames,
                      const BoundArrays<const float>& loss, const LocalGradients& gradients) {
  check(mesh, gaussians);
  std::lock_guard<std::mutex> lock(mutex_);
  if (gradients.vertices == nullptr) {
    pool_.run(chunks_of(gaussians.count), [&](int chunk) {
      const int last = std::min(gaussians.count, (chunk + 1) * kChunk);
      for (int first = chunk * kChunk; first < last; first += F::width)
        unbind_group(Group(gaussians, nullptr, first, last), gaussians, frames, loss, gradients, nullptr);
    });
    return;
  }
  sort_by_face(mesh, gaussians);
  sums_.reserve(static_cast<size_t>(mesh.faces) * kFrameFields);
  const int32_t* begin = begin_.data();
  pool_.run(chunks_of(gaussians.count), [&](int chunk) {
    // Whole triangles: those whose first Gaussian lies in the chunk.
    const auto face_at = [&](int place) { return std::lower_bound(begin, begin + mesh.faces, place) - begin; };
    const int face0 = static_cast<int>(face_at(chunk * kChunk)), face1 = static_cast<int>(face_at((chunk + 1) * kChunk));
    std::fill(sums_.data() + kFrameFields * face0, sums_.data() + kFrameFields * face1, 0.0f);
    for (int first = begin[face0]; first < begin[face1]; first += F::width)
      unbind_group(Group(gaussians, order_.data(), first, begin[face1]), gaussians, frames, loss, gradients,
                   sums_.data());
    for (int face = face0; face < face1; ++face)
      if (begin[face] < begin[face + 1])
        unframe(mesh, mesh.corners + 3 * face, frames + kFrameFields * face, sums_.data() + kFrameFields * face);
  });
  for (int face = 0; face < mesh.faces; ++face) {
    if (begin[face] == begin[face + 1]) continue;
    const float* record = sums_.data() + kFrameFields * face;
    for (int corner = 0; corner < 3; ++corner)
      for (int k = 0; k < 3; ++k) gradients.vertices[3 * mesh.corners[3 * face + corner] + k] += record[3 * corner + k];
  }
}

void Binder::sort_by_face(const MeshArrays& mesh, const LocalGaussians& gaussians) {
  begin_.reserve(static_cast<size_t>(mesh.faces) + 2);
  order_.reserve(gaussians.count);
  int32_t* next = begin_.data() + 1;  // counts, then where each triangle's next Gaussian goes
  std::fill(begin_.data(), begin_.data() + mesh.faces + 2, 0);
  for (int i = 0; i < gaussians.count; ++i) ++next[gaussians.face[i] + 1];
  for (int face = 0; face < mesh.faces; ++face) next[face + 1] += next[face];
  for (int i = 0; i < gaussians.count; ++i) order_[next[gaussians.face[i]]++] = i;
}

}  // namespace emotag
