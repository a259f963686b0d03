// One frame being drawn: what each stage reads from the one before it. One per renderer, reused for every frame.
#pragma once

#include <cstdint>

#include "aligned.h"
#include "math/gaussian.h"
#include "pose.h"
#include "scene.h"

namespace emotag {

constexpr int kProjectChunk = 1024;  // Gaussians; a chunk writes its visible ones densely from its own start

constexpr int kDepthBuckets = 1024;  // of a pass of the sort
constexpr float kBrightest = 1.999f; // colour that words can blend, see stages/word_pixels.h
constexpr float kWordColours = 16000.0f * 32768.0f / 32767.0f;  // a colour of 1 in a record
constexpr int kListMargin = 64;      // records behind the end of the tile lists that may be looked at

// World to camera, OpenCV axes.
struct View {
  float rotation[9];
  float translation[3];
  Pinhole pinhole;
  int width, height;

  // Of the spans that are binned and drawn: two tiles wide, one high.
  int tiles_x() const { return (width + constants::kSpan - 1) / constants::kSpan; }
  int tiles_y() const { return (height + constants::kTile - 1) / constants::kTile; }
};

// A Gaussian on the picture: six floats that say where it is, and two lanes of two words each, with its colour and its
// first and last tile (256·x0 + x1). Half a cache line.
enum RecordField { kU, kV, kQa, kQb, kQc, kRecordLevel, kRedGreen, kBlueTiles, kRecordFields };
constexpr int kTriangleFields = 12;  // of a triangle's frame: see Frame::triangles

// Spans of a Gaussian, inclusive.
struct TileRect {
  uint8_t x0, y0, x1, y1;
};

enum class Background { kNone, kColour, kBytes, kFloats };
enum class Pixels { kRgb8, kRgba8, kFloats };

struct Output {
  Background background;
  float colour[3];                 // 0…1, for kColour
  const uint8_t* bytes;            // (H,W,3), for kBytes
  const float* floats;             // (H,W,3) 0…1, for kFloats
  Pixels pixels;
  uint8_t* image;                  // (H,W,3) or (H,W,4)
  float *rgb, *alpha;              // (H,W,3) and (H,W), for Pixels::kFloats
};

// Gaussians on a picture, by depth and by tile: what drawing and training share.
struct Raster {
  explicit Raster(int places);

  int places;                      // Gaussians, padded to blocks
  View view;

  size_t tiles() const { return static_cast<size_t>(view.tiles_x()) * view.tiles_y(); }
  int chunks() const { return (places + kProjectChunk - 1) / kProjectChunk; }
  Aligned<uint32_t> rects;         // [places]: the bytes of a TileRect
  Aligned<uint32_t> depths;        // [places]: bits of z, which sort as z does
  Aligned<int32_t> visible;        // [chunks]
  Aligned<uint32_t> near, far;     // [chunks]: least and greatest depth
  Aligned<int64_t> pair_count;     // [chunks]: of a Gaussian and a span

  Aligned<uint64_t> items, spare;  // [places]: sort keys over record numbers; rectangles over record numbers once sorted
  int sorted_count;
  Aligned<int32_t> cursors;        // see sort.cpp
  Aligned<uint32_t> pairs;         // [parts][pair_room]: spans over record numbers, by depth, in one word or in two
  Aligned<uint32_t> tile_begin;    // [tiles + 1]
  Aligned<int32_t> list;           // [pairs]: the records of each tile, nearest first

  // Makes room for a picture of view's size.
  void prepare_tiles(int parts);
  // Of one of the parts that share the listing: up to eight spans a Gaussian, and those of one more.
  size_t pair_room(int parts) const { return 8 * (static_cast<size_t>(places) / parts + 1) + tiles() + 16; }
  size_t bytes() const;
};

struct Frame : Raster {
  explicit Frame(const Scene& scene);

  const Scene& scene;
  const float* geometry;           // of the Gaussians in this frame: the scene's, or `worn`
  Output output;
  Pose pose;
  bool has_colours;                // whether `colours` are written, and needed
  bool mouth_moves;                // whether the mouth arrays below are this frame's

  Aligned<float> records;          // [places][8], see RecordField
  Aligned<float> colours;          // [places][4]: those of records, for spans that are blended as floats
  Aligned<float> brightest;        // [chunks]: colour
  Aligned<float> vertices;         // [3][padded vertices], world
  Aligned<float> triangles;        // [padded faces][16]: k·R row-major 9, centre 3; camera space
  Aligned<float> worn;             // [block][13][16], as Gaussians::geometry; empty until an appearance is worn
  Aligned<float> mouth_audio;      // [64]: the audio's share of the first hidden layer
  Aligned<float> mouth_geometry;   // [mouth block][13][16], as Gaussians::geometry
  Aligned<float> mouth_offset;     // [mouth block][3][16], camera space
};

}  // namespace emotag
