// An avatar prepared for drawing: immutable, shared by all its renderers. Blocks of 16 elements, so that every vector
// width reads whole aligned vectors: block b of an array with n fields is [n][16] floats.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "aligned.h"
#include "constants.h"
#include "math/grid.h"

namespace emotag {

constexpr int kLanes = 16;

inline int blocks_of(int count) { return (count + kLanes - 1) / kLanes; }

// What Python hands over, already checked: sizes agree, values are finite, indices are in range.
struct HeadArrays {
  int vertices, faces, expressions;
  const float* shape;                   // (V,3)
  const int32_t* triangles;             // (F,3)
  const float* expression_basis;        // (E,V,3)
  const float* pose_basis;              // (36,V,3)
  const float* joints;                  // (5,3)
  const float* joint_expression_basis;  // (E,5,3)
  const float* weights;                 // (V,5)
  const int32_t* parents;               // (5,)
};

struct GaussianArrays {
  int count, stored_coefficients, degree;
  const int32_t* frame;    // (G,) triangle, or view, that the Gaussian is bound to
  const float* means;      // (G,3)
  const float* quats;      // (G,4) wxyz, any length
  const float* scales;     // (G,3) after the activation
  const float* opacities;  // (G,) after the sigmoid
  const float* sh;         // (G,K,3)
};

struct MouthArrays {
  int count, rows, audio;   // audio: A, width of the encoded audio
  const int32_t* index;     // (M,)
  float bound;
  const float* grids[3];    // (N,) xy, yz, xz
  const int32_t* offsets;   // (13,)
  const float* layers[3];   // (64,36+A), (64,64), (64,64)
  const float* head;        // (10,64)
  const float* bias;        // (10,)
};

struct Head {
  explicit Head(const HeadArrays& arrays);

  int vertices, faces, expressions, blocks;
  Aligned<float> rest;            // [block][3][16]
  Aligned<float> weights;         // [block][5][16]
  Aligned<int32_t> basis_begin;   // [blocks + 1]: entries of a block; bases that do not move it have none
  Aligned<int32_t> basis_index;   // [entries]: expression, or expressions + pose feature
  Aligned<float> basis;           // [entries][3][16]
  Aligned<int32_t> corners;       // [3][padded faces]
  std::vector<double> joints;     // [5][3]
  std::vector<float> joint_expression_basis;  // [E][5][3]
  std::vector<int32_t> parents;

  int padded_vertices() const { return blocks * kLanes; }
  int padded_faces() const { return blocks_of(faces) * kLanes; }
};

// Fields of a Gaussian's block. Level: log2(255·opacity).
enum GaussianField { kMean = 0, kCovariance = 3, kLevel = 9, kColour = 10, kGaussianFields = 13 };

struct Gaussians {
  // mouth: indices of the mouth Gaussians, which are put last, from a block of their own on.
  Gaussians(const GaussianArrays& arrays, const int32_t* mouth, int mouth_count);

  int blocks, mouth_begin;       // blocks; the first block of mouth Gaussians (= blocks if there are none)
  int degree;                    // active SH degree
  Aligned<int32_t> frame;        // [block][16]
  Aligned<float> geometry;       // [block][13][16]
  Aligned<uint16_t> sh;          // [block][((degree+1)² - 1)·3][16] half floats
  std::vector<int32_t> order;    // which Gaussian each place holds; -1 for none

  int places() const { return blocks * kLanes; }
};

struct Mouth {
  Mouth(const MouthArrays& arrays, const GaussianArrays& gaussians);

  int count, blocks, audio;    // audio: width of the encoded audio
  float bound;
  Aligned<float> tables[3];
  GridLevel levels[constants::kGridLevels];
  Aligned<float> audio_layer;  // [64][audio] of the first layer
  Aligned<float> grid_layer;   // [64][36] of the first layer
  Aligned<float> hidden_layer; // [64][64], the second
  Aligned<float> head;         // [10][64]: the third layer and the head, between which nothing happens, in one
  Aligned<float> bias;         // [10]
  Aligned<float> rotation;     // [block][4][16] unit quaternions
  Aligned<float> scale;        // [block][3][16]
};

// What an emotional residual may add to a Gaussian: 14 numbers.
enum OffsetField {
  kMeanOffset = 0, kTurnOffset = 3, kScaleOffset = 7, kLevelOffset = 10, kColourOffset = 11, kOffsetFields = 14
};

// An emotional residual of the Gaussians of a scene: fixed offsets, of which every frame wears a weighted sum.
struct Appearance {
  // offsets: (R,G,14), of the Gaussians that `gaussians` was made of; zero but for level and colour in the mouth.
  Appearance(const Gaussians& gaussians, const GaussianArrays& arrays, const float* offsets, int rank);

  int rank;
  Aligned<uint16_t> basis;     // [block][R][14][16] half floats
  Aligned<float> rotation;     // [block][4][16] unit quaternions
  Aligned<float> scale;        // [block][3][16]
};

void grid_levels(const int32_t* offsets, GridLevel* levels);

struct Scene {
  std::shared_ptr<const Head> head;  // none where the frames are views
  std::unique_ptr<const Gaussians> gaussians;
  std::unique_ptr<const Mouth> mouth;
};

}  // namespace emotag
