// Work by which the gate measures what neighbours leave of the caches. FROZEN: every baseline is in its units, so this
// loop never changes; another yardstick is another class and another version of the baseline's format. It uses no code of
// the stages, so that a stage that gets slower does not move it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace emotag::yardstick {

constexpr int kRecord = 16;  // floats: a cache line

struct Loops {
  bool (*supported)();
  // Reads the records of list[first…last) in that order; a dozen products each.
  void (*blend)(const float* records, const int32_t* list, int first, int last, float* out);
};

extern const Loops kPlain;
#if defined(__x86_64__)
extern const Loops kAvx2;
#endif

// Tag: a type of the file that is compiled, so that each has its own.
template <class Tag>
struct Work {
  typedef float Eight __attribute__((vector_size(32)));

  static inline __attribute__((always_inline)) void load(const float* p, Eight* to) { std::memcpy(to, p, sizeof *to); }

  static void blend(const float* records, const int32_t* list, int first, int last, float* out) {
    Eight light;
    load(out, &light);
    for (int i = first; i < last; ++i) {
      Eight x, y;
      load(records + static_cast<size_t>(list[i]) * kRecord, &x);
      load(records + static_cast<size_t>(list[i]) * kRecord + 8, &y);
      for (int pass = 0; pass < 2; ++pass) {
        Eight w = x * y + 0.3f;
        w = w * x + 1.0f;
        w = w * x + 0.3f;
        w = w * x + 1.0f;
        w = w * x + 0.3f;
        light = w * y + light * 0.5f;
      }
    }
    std::memcpy(out, &light, sizeof light);
  }

  static constexpr Loops loops(bool (*supported)()) { return {supported, blend}; }
};

}  // namespace emotag::yardstick
