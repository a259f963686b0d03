// The stages that are compiled once for each instruction set; chosen at run time.
#pragma once

#include <string>
#include <vector>

#include "frame.h"
#include "similarity.h"
#include "trace.h"

namespace emotag {

struct Variant {
  const char* name;
  bool (*supported)();  // by this machine
  bool has_words;       // blends spans whose colours allow it as whole numbers
  void (*skin_blocks)(const Head&, const Pose&, float* vertices, int first, int last);  // vertex blocks
  void (*frame_blocks)(Frame&, int first, int last);  // triangle blocks
  void (*wear_block)(const Appearance&, const float* coefficients, Frame&, int block);
  void (*mouth_block)(Frame&, int block);
  void (*project_chunk)(Frame&, int chunk);
  void (*draw_tile)(Frame&, int tile);
  // Training: projection and blending of a Trace, and their gradients.
  void (*trace_chunk)(const WorldGaussians&, Trace&, int chunk);
  void (*trace_tile)(Trace&, int tile, float* channels, float* alpha);
  void (*untrace_tile)(const Trace&, int tile, const TracePlanes& picture, const TracePlanes& loss, float* sums);
  void (*untrace_chunk)(const WorldGaussians&, const Trace&, int chunk, const float* sums, const WorldGradients&);
  // Training: structural similarity, see Similarity.
  void (*compare_stripe)(const SimilarityWindow&, const PicturePair&, int channel, int stripe, SimilarityScratch*,
                         float* map, float* partials);
  void (*uncompare_stripe)(const SimilarityWindow&, const PicturePair&, int channel, int stripe, SimilarityScratch*,
                           const float* partials, const float* loss, float* gradient);
};

extern const Variant kPlainVariant;
#if defined(__x86_64__)
extern const Variant kAvx2Variant;
extern const Variant kAvx512Variant;
#endif

// Best first. Every build has "plain".
const std::vector<const Variant*>& variants();

// The variant of that name, or the best supported one for "auto"; null if there is none.
const Variant* find_variant(const std::string& name);

}  // namespace emotag
