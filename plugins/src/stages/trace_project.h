// Training: every Gaussian to an ellipse with a colour, and the way back from the gradients of its pixels.
#pragma once

#include "../math/gaussian_gradient.h"
#include "../math/sh.h"
#include "../simd/records.h"
#include "../trace.h"
#include "project.h"

namespace emotag {

// Columns of an array of rows: lane i reads row index[i].
template <class F>
struct Columns {
  alignas(64) int32_t at[F::width];
  const float* rows;

  EMOTAG_INLINE Columns(const float* base, const int32_t* index, int stride) : rows(base) {
    for (int i = 0; i < F::width; ++i) at[i] = index[i] * stride;
  }
  EMOTAG_INLINE F operator[](int column) const { return F::gather(rows + column, at); }
};

// One vector of the caller's Gaussians, and what follows from their parameters and the view alone.
template <class F>
struct WorldVector {
  Vec3<F> world, mean, scale;  // mean: camera space
  Quat<F> quat;
  F covariance[6];
  F view[9];

  EMOTAG_INLINE WorldVector(const WorldGaussians& g, const View& seen, const int32_t* index) {
    const Columns<F> m(g.means, index, 3), s(g.scales, index, 3), q(g.quats, index, 4);
    world = {m[0], m[1], m[2]};
    scale = {s[0], s[1], s[2]};
    quat = {q[0], q[1], q[2], q[3]};
    for (int k = 0; k < 9; ++k) view[k] = F(seen.rotation[k]);
    const float* t = seen.translation;
    mean = rotate(view, world) + Vec3<F>{F(t[0]), F(t[1]), F(t[2])};
    covariance_of(normalized(quat), scale, covariance);
  }
};

// The unit direction from the camera, and one over the distance.
template <class F>
static EMOTAG_INLINE Vec3<F> direction_of(const Trace& trace, const Vec3<F>& world, F* inverse) {
  const Vec3<F> v = world - Vec3<F>{F(trace.origin[0]), F(trace.origin[1]), F(trace.origin[2])};
  *inverse = rsqrt(max(dot(v, v), F(constants::kTiny)));
  return v * *inverse;
}

template <class F, int Degree>
static EMOTAG_INLINE void trace_vector(const WorldGaussians& g, Trace& trace, int first, Packer<F>* packer) {
  alignas(64) int32_t index[F::width];
  alignas(64) float levels[F::width];
  for (int i = 0; i < F::width; ++i) {
    const bool there = first + i < g.count;
    index[i] = there ? first + i : g.count - 1;
    levels[i] = there ? max(::log2f(g.opacities[index[i]] / constants::kAlphaCut), -100.0f) : -100.0f;
  }
  const WorldVector<F> at(g, trace.view, index);
  Splat<F> s;
  const F level = F::load(levels);
  const auto visible = project(at.mean, at.view, at.covariance, level, trace.view.pinhole, &s);
  if (bits(visible) == 0) return;

  F fields[simd::kRecord], basis[sh_coefficients(constants::kMaxShDegree)], inverse;
  if constexpr (Degree > 0) sh_basis<Degree>(direction_of(trace, at.world, &inverse), basis);
  const Columns<F> sh(g.sh, index, g.stored_coefficients * 3);
  for (int c = 0; c < kColours; ++c)
    fields[kRed + c] = sh_colour<Degree>(sh[c], basis, [&](int k) { return sh[3 * k + c]; });
  const F ellipse[kRed] = {s.u, s.v, s.qa, s.qb, s.qc, level, s.half_x, fma(s.tile_x0, F(256.0f), s.tile_x1)};
  for (int f = 0; f < kRed; ++f) fields[f] = ellipse[f];
  for (int f = kFeature; f < simd::kRecord; ++f) fields[f] = F(0.0f);
  if (g.features != nullptr) {
    const Columns<F> features(g.features, index, kMaxFeatures);
    for (int f = 0; f < kMaxFeatures; ++f) fields[kFeature + f] = features[f];
  }
  packer->append(visible, s, at.mean.z, [&](const auto& place_of) {
    const auto record = [&](int i) { return trace.records.data() + place_of(i) * simd::kRecord; };
    simd::store_records<F>(fields, record);
    for (int i = 0; i < F::width; ++i) memcpy(record(i) + kSource, index + i, sizeof index[i]);
  });
}

template <class F, int Degree>
void trace_blocks(const WorldGaussians& g, Trace& trace, int chunk) {
  const int first = chunk * kProjectChunk;
  const int last = first + kProjectChunk < trace.places ? first + kProjectChunk : trace.places;
  Packer<F> packer(trace, chunk);
  for (int i = first; i < last; i += F::width) trace_vector<F, Degree>(g, trace, i, &packer);
  packer.finish();
}

// Projects one chunk of kProjectChunk Gaussians.
template <class F>
void trace_chunk(const WorldGaussians& g, Trace& trace, int chunk) {
  switch (g.degree) {
    case 0: return trace_blocks<F, 0>(g, trace, chunk);
    case 1: return trace_blocks<F, 1>(g, trace, chunk);
    case 2: return trace_blocks<F, 2>(g, trace, chunk);
    default: return trace_blocks<F, 3>(g, trace, chunk);
  }
}

// Writes lane i of each value into row index[i].
template <class F, int Count>
static EMOTAG_INLINE void scatter_rows(const F (&values)[Count], const int32_t* index, int lanes, int stride, float* rows) {
  alignas(64) float buffer[Count][F::width];
  for (int k = 0; k < Count; ++k) F::store(buffer[k], values[k]);
  for (int i = 0; i < lanes; ++i)
    for (int k = 0; k < Count; ++k) rows[static_cast<int64_t>(index[i]) * stride + k] = buffer[k][i];
}

// Gradients of the harmonics; returns what the direction of view adds to the gradient of the mean.
template <class F, int Degree>
static EMOTAG_INLINE Vec3<F> colour_gradient(const WorldGaussians& g, const Trace& trace, const Vec3<F>& world,
                                             const F (&colour)[kColours], const int32_t* index, int lanes, float* to) {
  constexpr int kCoefficients = sh_coefficients(Degree);
  F basis[kCoefficients], along[kCoefficients], out[3 * kCoefficients], inverse;
  const Vec3<F> d = direction_of(trace, world, &inverse);
  basis[0] = F(0.28209479177387814f);
  sh_basis<Degree>(d, basis);
  const Columns<F> sh(g.sh, index, g.stored_coefficients * 3);
  for (int k = 0; k < kCoefficients; ++k)
    for (int c = 0; c < kColours; ++c) out[3 * k + c] = basis[k] * colour[c];
  scatter_rows(out, index, lanes, g.stored_coefficients * 3, to);
  if constexpr (Degree == 0) return {F(0.0f), F(0.0f), F(0.0f)};
  for (int k = 1; k < kCoefficients; ++k)
    along[k] = fma(sh[3 * k], colour[0], fma(sh[3 * k + 1], colour[1], sh[3 * k + 2] * colour[2]));
  const Vec3<F> gradient = sh_direction_gradient<Degree>(d, along);
  return (gradient - d * dot(d, gradient)) * inverse;
}

// One vector of visible Gaussians: from the sums over their pixels to their parameters.
template <class F, int Degree>
static EMOTAG_INLINE void untrace_vector(const WorldGaussians& g, const Trace& trace, const int32_t* place, int lanes,
                                         const float* sums, const WorldGradients& to) {
  F record[simd::kRecord], sum[simd::kRecord];
  simd::load_records<F>(trace.records.data(), place, record);
  simd::load_records<F>(sums, place, sum);
  alignas(64) int32_t index[F::width];
  alignas(64) float opacity[F::width];
  for (int i = 0; i < F::width; ++i) {
    memcpy(index + i, trace.records.data() + static_cast<size_t>(place[i]) * simd::kRecord + kSource, sizeof index[i]);
    opacity[i] = g.opacities[index[i]];
  }
  const WorldVector<F> at(g, trace.view, index);
  Splat<F> s;
  s.qa = record[kQa];
  s.qb = record[kQb];
  s.qc = record[kQc];
  const Moments<F> moments = {sum[kMomentOne], sum[kMomentX], sum[kMomentY], sum[kMomentXx], sum[kMomentXy], sum[kMomentYy]};
  const ProjectionGradient<F> p = project_gradient(at.mean, at.view, at.covariance, trace.view.pinhole, s, moments);
  F colour[kColours];  // the colour is cut at zero, and so is its gradient
  for (int c = 0; c < kColours; ++c) colour[c] = keep(record[kRed + c] > F(0.0f), sum[kChannel + c]);
  const Vec3<F> turned = colour_gradient<F, Degree>(g, trace, at.world, colour, index, lanes, to.sh);
  const float* r = trace.view.rotation;
  const F back[9] = {F(r[0]), F(r[3]), F(r[6]), F(r[1]), F(r[4]), F(r[7]), F(r[2]), F(r[5]), F(r[8])};
  const Vec3<F> mean = rotate(back, p.mean) + turned;
  Quat<F> quat;
  Vec3<F> scale;
  covariance_gradient(at.quat, at.scale, p.covariance, &quat, &scale);

  scatter_rows<F, 3>({mean.x, mean.y, mean.z}, index, lanes, 3, to.means);
  scatter_rows<F, 4>({quat.w, quat.x, quat.y, quat.z}, index, lanes, 4, to.quats);
  scatter_rows<F, 3>({scale.x, scale.y, scale.z}, index, lanes, 3, to.scales);
  scatter_rows<F, 1>({sum[kMomentOne] * rcp(F::load(opacity))}, index, lanes, 1, to.opacities);
  scatter_rows<F, 2>({p.u, p.v}, index, lanes, 2, to.points);
  if (g.features != nullptr)
    scatter_rows<F, 4>({sum[kChannel + 3], sum[kChannel + 4], sum[kChannel + 5], sum[kChannel + 6]}, index, lanes,
                       kMaxFeatures, to.features);
}

template <class F, int Degree>
void untrace_records(const WorldGaussians& g, const Trace& trace, int chunk, const float* sums, const WorldGradients& to) {
  const int first = chunk * kProjectChunk, last = first + trace.visible[chunk];
  for (int at = first; at < last; at += F::width) {
    int32_t place[F::width];
    for (int i = 0; i < F::width; ++i) place[i] = at + i < last ? at + i : last - 1;
    untrace_vector<F, Degree>(g, trace, place, last - at < F::width ? last - at : F::width, sums, to);
  }
}

// The gradients of one chunk's parameters from the sums over its Gaussians' pixels, [places][16].
template <class F>
void untrace_chunk(const WorldGaussians& g, const Trace& trace, int chunk, const float* sums, const WorldGradients& to) {
  switch (g.degree) {
    case 0: return untrace_records<F, 0>(g, trace, chunk, sums, to);
    case 1: return untrace_records<F, 1>(g, trace, chunk, sums, to);
    case 2: return untrace_records<F, 2>(g, trace, chunk, sums, to);
    default: return untrace_records<F, 3>(g, trace, chunk, sums, to);
  }
}

}  // namespace emotag
