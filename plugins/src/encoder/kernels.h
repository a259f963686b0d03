// The encoder's loops, compiled once for each instruction set; chosen at run time.
#pragma once

#include <string>
#include <vector>

#include "product.h"

namespace emotag::encoder {

// One head's attention of a step. Keys and values hold `length` tokens of the past in a ring, then those of the step.
struct Head {
  int width, padded_width;  // channels
  int rows, answers;        // tokens of the step; how many of them ask
  int length;               // tokens of the past; keys has room for whole panels of length + rows
  float* keys;              // [panel][width][16 tokens]
  float* values;            // [panel][length + rows][16 channels]
  const float* mask;        // [padded(length + rows)], added to the scores
  int slot, kept;           // before that, `kept` tokens of the step before go into the ring from this slot on
  const float* queries;     // of this head: rows `row_stride` apart, as are those of the next two
  const float* new_keys;
  const float* new_values;
  float* out;
  size_t row_stride, out_stride;
  float* scores;            // [answers][padded(length + rows)], scratch
  float* mixed;             // [answers][padded_width], scratch
};

struct Kernels {
  const char* name;
  bool (*supported)();  // by this machine
  // Bytes of one row of 16 · groups floats, every `stride` bytes sixteen.
  void (*quantise)(const float* x, int groups, float levels, uint8_t* bytes, int stride, float* scale, int32_t* zero);
  void (*panels)(const Job&, int first, int last);
  // Sums of (q - zero) · weight as they are, [rows][16 · panels]; for tests.
  void (*sums)(const Product&, const Rows&, int rows, int32_t* out);
  void (*norm)(const Norm&, const float* x, float* out, bool gelu);
  // [5 + 5·rows] samples to rows of kernel 10 and stride 5; weights [10][channels], channels padded.
  void (*first)(const float* samples, int rows, int channels, const float* weights, const float* bias, float* out,
                bool gelu);
  // out = kept + gelu(x), `count` floats, padded.
  void (*add_gelu)(const float* kept, const float* x, int count, float* out);
  void (*attend)(const Head&);
};

// Best first. Every build has "plain".
const std::vector<const Kernels*>& all_kernels();

// The kernels of that name, or the best supported ones for "auto"; null if there are none.
const Kernels* find_kernels(const std::string& name);

extern const Kernels kPlainKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kVnniKernels;
#endif

}  // namespace emotag::encoder
