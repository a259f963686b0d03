// Every number of the picture that is a choice rather than an input. Exported to Python as `emotag.plugins.constants`.
#pragma once

namespace emotag::constants {

constexpr int kJoints = 5;                       // root, neck, jaw, left eye, right eye
constexpr int kPoseFeatures = 36;                // R - I of joints 1-4, row-major
constexpr int kTile = 16;                        // pixels a side; 3DGS draws a Gaussian on the tiles that it touches
constexpr int kSpan = 32;                        // pixels; tiles are binned and drawn in pairs, side by side
constexpr int kBlock = 4;                        // pixels a side; the unit of the exact ellipse test
constexpr int kMaxSide = 4096;                   // a tile coordinate is one byte
constexpr int kMaxThreads = 64;
constexpr int kMaxShDegree = 3;

constexpr float kNear = 0.2f;                    // metres: nearer Gaussians are not drawn
constexpr float kJacobianClamp = 1.3f;           // times tan(fov / 2), for x/z and y/z in the Jacobian
constexpr float kLowPass = 0.3f;                 // px², added to the diagonal of the projected covariance
constexpr float kAlphaCut = 1.0f / 255.0f;       // fainter contributions are skipped
constexpr float kOpaqueLevel = 7.99435344f;      // log2(1 / kAlphaCut): the level of an opacity of 1
constexpr float kAlphaMax = 0.99f;
constexpr float kExtentSigmas = 3.0f;            // half side, in standard deviations, of the square that picks the tiles
constexpr float kStopTransmittance = 1e-4f;      // where the 3DGS definition stops, and training must
constexpr float kStopDrawing = 1.0f / 255.0f;    // where drawing stops; the colour is divided by 1 - T then

constexpr int kGridLevels = 12;
constexpr int kGridPlanes = 3;                   // xy, yz, xz
constexpr int kGridFeatures = kGridLevels * kGridPlanes;
constexpr float kGridBase = 16.0f;               // resolution of the coarsest level
constexpr float kGridFinest = 38.4f;             // 256 · 0.15, resolution of the finest level
constexpr int kMouthHidden = 64;
constexpr int kMouthOutputs = 10;                // offset of position 3, rotation 4, scale 3
constexpr float kMouthMeanScale = 0.01f;
constexpr float kMouthScaleScale = 0.001f;

constexpr float kLog2e = 1.44269504088896341f;
constexpr float kTiny = 1e-24f;                  // m²: shorter edges count as this long, so nothing divides by zero

}  // namespace emotag::constants
