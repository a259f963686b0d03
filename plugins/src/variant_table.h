// Included by each variant's own translation unit, which is compiled for its instruction set. Everything it pulls in is
// either a template over that unit's vector type or has internal linkage, so no other unit can link to its code.
#pragma once

#include "stages/mouth.h"
#include "stages/present.h"
#include "stages/project.h"
#include "stages/similarity.h"
#include "stages/skin.h"
#include "stages/trace_back.h"
#include "stages/trace_blend.h"
#include "stages/trace_project.h"
#include "stages/wear.h"
#include "variant.h"

namespace emotag {

template <class F>
constexpr Variant make_variant(const char* name, bool (*supported)()) {
  return {name,
          supported,
          F::has_words,
          skin_blocks<F>,
          frame_blocks<F>,
          wear_block<F>,
          mouth_block<F>,
          project_chunk<F>,
          draw_tile<F>,
          trace_chunk<F>,
          trace_tile<F>,
          untrace_tile<F>,
          untrace_chunk<F>,
          compare_stripe<F>,
          uncompare_stripe<F>};
}

}  // namespace emotag
