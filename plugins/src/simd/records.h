// Sixteen-float records in memory and their fields in vectors: one cache line a record.
#pragma once

#include <cstdint>

namespace emotag::simd {

constexpr int kRecord = 16;

// fields[k], lane i = field k of record index[i]; count ≤ 16 fields are wanted (rounded up to whole transposes).
template <class F, int Count = kRecord>
static inline __attribute__((always_inline)) void load_records(const float* base, const int32_t* index, F* fields) {
  for (int part = 0; part < Count; part += F::width) {
#pragma GCC unroll 16
    for (int i = 0; i < F::width; ++i)
      fields[part + i] = F::load(base + static_cast<int64_t>(index[i]) * kRecord + part);
    F::transpose(fields + part);
  }
}

// rows[part · width + i] = sixteen-float record i, as kRecord / width vectors: see store_record.
template <class F>
static inline __attribute__((always_inline)) void to_records(F* fields) {
  for (int part = 0; part < kRecord; part += F::width) F::transpose(fields + part);
}

// Writes record `lane` of what to_records made.
template <class F>
static inline __attribute__((always_inline)) void store_record(float* to, const F* rows, int lane) {
  for (int part = 0; part < kRecord; part += F::width) F::store(to + part, rows[part + lane]);
}

}  // namespace emotag::simd
