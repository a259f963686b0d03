// Records in memory and their fields in vectors.
#pragma once

#include <cstdint>

namespace emotag::simd {

constexpr int kRecord = 16;  // floats of the larger ones, a cache line: of triangles and of training
constexpr int kFour = 4;  // fields that change places with as many records at a time

// fields[k], lane i = field k of record index[i], for the first `Count` fields of records of `Stride`.
template <class F, int Count = kRecord, int Stride = kRecord>
static inline __attribute__((always_inline)) void load_records(const float* base, const int32_t* index, F* fields) {
#pragma GCC unroll 4
  for (int k = 0; k < Count; k += kFour) F::template load_fours<Stride>(base + k, index, fields + k);
}

// Lane i of fields[k] to field k of the record at row(i), in the order of i, for the first `Count` fields.
template <class F, int Count = kRecord, class Row>
static inline __attribute__((always_inline)) void store_records(const F* fields, const Row& row) {
#pragma GCC unroll 4
  for (int k = 0; k < Count; k += kFour) F::store_fours(fields + k, [&](int i) { return row(i) + k; });
}

}  // namespace emotag::simd
