// Draws frames of a scene: the stages in order, shared among a pool of threads.
#pragma once

#include <mutex>

#include "frame.h"
#include "pool.h"
#include "variant.h"

namespace emotag {

// What one frame is drawn from. Pointers are read during the call only.
struct Controls {
  const float* expression;     // (E,)
  const float* pose;           // (5,3)
  const float* translation;    // (3,)
  const float* encoded_audio;  // (A,), or null: the mouth Gaussians stay where they are bound
};

enum Stage { kSkin, kMouth, kProject, kSort, kBlend, kStages };

class Renderer {
 public:
  // The scene must outlive the renderer.
  Renderer(const Scene& scene, const Variant& variant, int threads);

  // Frames from now on wear `appearance`, of the same scene, by its (R,) coefficients; null undresses.
  void wear(const Appearance* appearance, const float* coefficients);
  // Whether the caller of `wear` and `draw` does their work alone from now on.
  void set_alone(bool alone);
  // Draws one frame of the scene's head. Thread-safe: concurrent calls take turns.
  void draw(const Controls& controls, const View& view, const Output& output);
  // Draws Gaussians that are bound to the world: the scene has no head, and one frame, the view.
  void draw_world(const View& view, const Output& output);

  // Of the last frame, by stage: elapsed, and processor time of the calling thread alone.
  const double* milliseconds() const { return milliseconds_; }
  const double* cpu_milliseconds() const { return cpu_milliseconds_; }
  const Variant& variant() const { return variant_; }
  int threads() const { return pool_.threads(); }
  size_t bytes() const;

 private:
  void move_mouth(const float* encoded_audio);
  void project_gaussians();
  void draw_gaussians();
  template <class Work>
  void timed(Stage stage, const Work& work);

  Frame frame_;
  const Variant& variant_;
  Pool pool_;
  std::mutex mutex_;
  double milliseconds_[kStages] = {};
  double cpu_milliseconds_[kStages] = {};
  bool bright_ = false;  // whether a colour of the newest frame is above kBrightest
};

}  // namespace emotag
