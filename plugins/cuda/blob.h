// A packed scene: a header, then arrays, 256-byte aligned, laid out as the kernels read them.
//
// Gaussians are in the order of their triangles, so that a warp's gathers of vertices meet in the cache; those of the
// mouth come last, from a multiple of kPlaces on, so that a whole block of threads either has moved Gaussians or none.
#pragma once

#include <cstdint>

#include "../src/constants.h"
#include "../src/math/grid.h"

namespace emotag::cuda {

constexpr uint32_t kMagic = 0x43414D45;   // "EMAC"
constexpr int kAlign = 256;               // bytes
constexpr int kPlaces = 256;              // Gaussians of a block of threads; their number is padded to it
constexpr int kVertexBlock = 32;          // vertices of a block of threads; bases that move none of them are left out
constexpr int kHeadColumns = 16;          // outputs of the mouth's last layer, padded

enum BlobArray {
  kRest,          // float4 [vertex blocks·32]: x, y, z, 0
  kWeights,       // float [5][vertex blocks·32]
  kBasisBegin,    // int32 [vertex blocks + 1]
  kBasisIndex,    // int32 [entries]: expression, or expressions + pose feature
  kBasis,         // float [entries][3][32]
  kJointRest,     // float [5][3]
  kJointBasis,    // float [E][15]
  kGeometry,      // float4 [4][places]: mean, level | c0…c3 | c4 c5 red green | blue, three vertices (as bits)
  kSh,            // uint4 [chunks][places]: halves of the coefficients above the zeroth, [k][rgb], eight to a chunk
  kQuats,         // float4 [places]: unit, wxyz
  kScales,        // float [3][places]
  kOrder,         // int32 [places]: the Gaussian's number in the scene, or -1
  kPlanes,        // float [3][rows]
  kAudioLayer,    // float [64][A]: the audio's share of the first layer
  kGridLayer,     // float [36][64]: inputs by outputs, as are the next
  kHiddenLayers,  // float [2][64][64]
  kHeadLayer,     // float [64][16]
  kBias,          // float [16]
  kBlobArrays
};

struct BlobHeader {
  uint32_t magic, version;
  uint64_t bytes;
  int32_t vertices, faces, expressions, entries;
  int32_t gaussians, places, mouth_begin, degree;
  int32_t mouth, rows, audio;
  float bound;
  int32_t parents[constants::kJoints];
  GridLevel levels[constants::kGridLevels];
  uint64_t at[kBlobArrays];  // bytes from the header

  constexpr int vertex_blocks() const { return (vertices + kVertexBlock - 1) / kVertexBlock; }
  constexpr int sh_halves() const { return ((degree + 1) * (degree + 1) - 1) * 3; }
  constexpr int sh_chunks() const { return (sh_halves() + 7) / 8; }
};

inline uint64_t aligned(uint64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Bytes of each array of a scene whose sizes are set; fills `at` and `bytes`.
void lay_out(BlobHeader* header);

}  // namespace emotag::cuda
