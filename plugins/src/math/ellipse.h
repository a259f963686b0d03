// Where an ellipse lies in a strip of rows: exact, for deciding which tiles or blocks of pixels it touches.
#pragma once

#include "hd.h"

namespace emotag {

// The ellipse level + qa·dx² + qb·dx·dy + qc·dy² = 0 about its centre: at height dy its ends are
// skew·dy ± sqrt(square - bend·dy²). Its extreme right lies at height right_y, its extreme left at -right_y.
struct EllipseRows {
  float skew, square, bend, right_y;
};

EMOTAG_HD EllipseRows ellipse_rows(float qa, float qb, float qc, float level) {
  const float inverse_a = 1.0f / qa;
  EllipseRows e;
  e.skew = -0.5f * qb * inverse_a;
  e.square = -level * inverse_a;
  e.bend = (0.5f * qb * e.skew + qc) * inverse_a;
  const float half_x = ::sqrtf(max(e.square * qc * inverse_a / e.bend, 0.0f));
  e.right_y = -0.5f * qb / qc * half_x;
  return e;
}

// The ellipse's x-interval between the heights top and bottom, relative to its centre; false if it is not there. The
// ends are at the ellipse's own extremes, or at the edge of the strip nearest to them. `slack` pixels are added to both.
EMOTAG_HD bool ellipse_span(const EllipseRows& e, float top, float bottom, float slack, float* left, float* right) {
  const float at_right = min(max(e.right_y, top), bottom), at_left = min(max(-e.right_y, top), bottom);
  const float right_square = e.square - e.bend * at_right * at_right;
  const float left_square = e.square - e.bend * at_left * at_left;
  *right = e.skew * at_right + ::sqrtf(max(right_square, 0.0f)) + slack;
  *left = e.skew * at_left - ::sqrtf(max(left_square, 0.0f)) - slack;
  return max(right_square, left_square) >= 0.0f;
}

}  // namespace emotag
