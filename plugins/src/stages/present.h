// Stage 6: a blended tile over its background, into the caller's picture.
#pragma once

#include "blend.h"
#include "float_pixels.h"
#include "word_pixels.h"

namespace emotag {

// The part of the picture that a tile covers.
struct TileArea {
  int x, y, width, height;
};

static inline TileArea area_of(const View& view, int tile_x, int tile_y) {
  const int x = tile_x * constants::kSpan, y = tile_y * constants::kTile;
  const int width = view.width - x, height = view.height - y;
  return {x, y, width < constants::kSpan ? width : constants::kSpan, height < constants::kTile ? height : constants::kTile};
}

// Background of one block in units of 1/255, [channel][16]; zero outside the picture.
static EMOTAG_INLINE void load_background(const Frame& frame, int x0, int y0, float (*to)[kBlockPixels]) {
  const Output& out = frame.output;
  for (int i = 0; i < kBlockPixels; ++i) {
    const int x = x0 + i % constants::kBlock, y = y0 + i / constants::kBlock;
    const bool inside = x < frame.view.width && y < frame.view.height;
    const size_t at = inside ? (static_cast<size_t>(y) * frame.view.width + x) * 3 : 0;
    for (int c = 0; c < 3; ++c)
      to[c][i] = out.background == Background::kBytes ? static_cast<float>(out.bytes[at + c]) : out.floats[at + c] * 255.0f;
  }
}

// One block to packed RGBA bytes, truncated.
template <class F, class P>
static EMOTAG_INLINE void pack_block(const Frame& frame, const typename P::Number (*value)[kBlockPixels], int x, int y,
                                     uint32_t* packed) {
  alignas(64) float background[3][kBlockPixels];
  const Output& out = frame.output;
  const bool image = out.background == Background::kBytes || out.background == Background::kFloats;
  if (image) load_background(frame, x, y, background);
  alignas(64) int32_t bytes[4][kBlockPixels];
  for (int i = 0; i < kBlockPixels; i += F::width) {
    const F zero(0.0f), top(255.0f), clear = P::transmittance(value[0] + i);
    F scale(255.0f);
    if (out.background == Background::kNone) {  // straight alpha
      const F alpha = F(1.0f) - clear;
      F::store_int(bytes[3] + i, alpha * top);
      scale = keep(alpha > zero, top * rcp(max(alpha, F(1e-6f))));
    }
    for (int c = 0; c < 3; ++c) {
      F under = zero;
      if (image) under = clear * F::load(background[c] + i);
      if (out.background == Background::kColour) under = clear * F(out.colour[c] * 255.0f);
      F::store_int(bytes[c] + i, min(max(P::colour(value[1 + c] + i, scale) + under, zero), top));
    }
  }
  for (int i = 0; i < kBlockPixels; ++i)
    packed[i] = static_cast<uint32_t>(bytes[0][i] | bytes[1][i] << 8 | bytes[2][i] << 16) |
                (out.background == Background::kNone ? static_cast<uint32_t>(bytes[3][i]) << 24 : 0xff000000u);
}

// Rows of packed blocks to three or four bytes a pixel.
static EMOTAG_INLINE void write_bytes(const Frame& frame, const TileArea& area, const uint32_t (*packed)[kBlockPixels]) {
  const int channels = frame.output.pixels == Pixels::kRgba8 ? 4 : 3;
  for (int y = 0; y < area.height; ++y) {
    uint32_t row[constants::kSpan];
    for (int s = 0; s < kBlockColumns; ++s)
      memcpy(row + s * constants::kBlock,
             packed[y / constants::kBlock * kBlockColumns + s] + y % constants::kBlock * constants::kBlock,
             constants::kBlock * sizeof(uint32_t));
    uint8_t* to = frame.output.image + (static_cast<size_t>(area.y + y) * frame.view.width + area.x) * channels;
    if (channels == 4) {
      memcpy(to, row, area.width * sizeof(uint32_t));
      continue;
    }
    for (int x = 0; x + 1 < area.width; ++x) memcpy(to + 3 * x, row + x, 4);  // the fourth byte is overwritten next
    memcpy(to + 3 * (area.width - 1), row + area.width - 1, 3);
  }
}

template <class F, class P>
static EMOTAG_INLINE void write_floats(const Frame& frame, const TileArea& area, const TilePixels<P>& pixels) {
  const Output& out = frame.output;
  alignas(64) float value[kBlocksInTile][4][kBlockPixels];
  for (int s = 0; s < kBlocksInTile; ++s)
    for (int i = 0; i < kBlockPixels; i += F::width) {
      F::store(value[s][0] + i, P::transmittance(pixels.value[s][0] + i));
      for (int c = 1; c < 4; ++c) F::store(value[s][c] + i, P::colour(pixels.value[s][c] + i, F(1.0f)));
    }
  for (int y = 0; y < area.height; ++y)
    for (int x = 0; x < area.width; ++x) {
      const int block = y / constants::kBlock * kBlockColumns + x / constants::kBlock;
      const int pixel = y % constants::kBlock * constants::kBlock + x % constants::kBlock;
      const size_t to = static_cast<size_t>(area.y + y) * frame.view.width + area.x + x;
      const float clear = value[block][0][pixel];
      for (int c = 0; c < 3; ++c)
        out.rgb[3 * to + c] = value[block][1 + c][pixel] +
                              (out.background == Background::kColour ? clear * out.colour[c] : 0.0f);
      out.alpha[to] = 1.0f - clear;
    }
}

// A span that nothing is on, over a background that is the same everywhere.
template <class F>
static EMOTAG_INLINE void write_empty(const Frame& frame, const TileArea& area) {
  alignas(64) float clear[4][kBlockPixels];
  alignas(64) uint32_t packed[kBlockPixels];
  FloatPixels<F>::erase(clear);
  pack_block<F, FloatPixels<F>>(frame, clear, area.x, area.y, packed);
  const size_t channels = frame.output.pixels == Pixels::kRgba8 ? 4 : 3;
  uint8_t row[constants::kSpan * sizeof(uint32_t)];  // the fourth byte of a pixel may be overwritten next
  for (int x = 0; x < constants::kSpan; ++x) memcpy(row + x * channels, packed, sizeof packed[0]);
  uint8_t* to = frame.output.image + (static_cast<size_t>(area.y) * frame.view.width + area.x) * channels;
  for (int y = 0; y < area.height; ++y) memcpy(to + y * frame.view.width * channels, row, area.width * channels);
}

// Whether a Gaussian on a span is brighter than words can be.
static inline bool has_bright(const Frame& frame, int tile) {
  for (uint32_t k = frame.tile_begin[tile]; k < frame.tile_begin[tile + 1]; ++k) {
    const float* const colour = frame.colours.data() + static_cast<int64_t>(frame.list[k]) * simd::kFour;
    if (colour[0] > kBrightest || colour[1] > kBrightest || colour[2] > kBrightest) return true;
  }
  return false;
}

template <class F, class P>
static EMOTAG_INLINE void draw_blended(const Frame& frame, int tile, const TileArea& area) {
  TilePixels<P> pixels;
  blend_tile<F, P>(frame, tile, static_cast<float>(area.x), static_cast<float>(area.y), &pixels);
  if (frame.output.pixels == Pixels::kFloats) return write_floats<F, P>(frame, area, pixels);
  alignas(64) uint32_t packed[kBlocksInTile][kBlockPixels];
  for (int s = 0; s < kBlocksInTile; ++s)
    pack_block<F, P>(frame, pixels.value[s], area.x + s % kBlockColumns * constants::kBlock,
                     area.y + s / kBlockColumns * constants::kBlock, packed[s]);
  write_bytes(frame, area, packed);
}

// Draws span number `tile`.
template <class F>
void draw_tile(Frame& frame, int tile) {
  const TileArea area = area_of(frame.view, tile % frame.view.tiles_x(), tile / frame.view.tiles_x());
  const Output& out = frame.output;
  const bool even = out.background == Background::kNone || out.background == Background::kColour;
  if (frame.tile_begin[tile] == frame.tile_begin[tile + 1] && even && out.pixels != Pixels::kFloats)
    return write_empty<F>(frame, area);
  if constexpr (F::has_words) {
    if (!frame.has_colours || !has_bright(frame, tile)) return draw_blended<F, WordPixels<F>>(frame, tile, area);
  }
  draw_blended<F, FloatPixels<F>>(frame, tile, area);
}

}  // namespace emotag
