// Plans: a scene and a size turned into addresses in the workspace, and the launches of a frame.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

#include "fail.h"
#include "frame.cuh"

namespace {

using namespace emotag::cuda;

constexpr uint64_t kPairsPerGaussian = 4;  // room by default; a head that fills its picture needs about three

thread_local char last_error[512] = "";

// Where everything is in the workspace, in bytes.
enum Region {
  kCoefficients, kTransforms, kMouthAudio, kVertices, kMovedRegion, kRecords, kDepths, kRects, kMasks, kCounts, kBlockSums,
  kBlockBegin, kState, kKeys0, kKeys1, kValues0, kValues1, kTileBegin, kSortRoom, kRegions
};

}  // namespace

struct EmotagCudaPlan {
  BlobHeader scene;
  EmotagCudaOptions options;
  size_t at[kRegions], bytes[kRegions], total;
  uint64_t blob, workspace;
  uint32_t sorted;  // the buffer that the last launched sort leaves its result in

  uint64_t tiles_x() const { return (options.width + emotag::constants::kTile - 1) / emotag::constants::kTile; }
  uint64_t tiles_y() const { return (options.height + emotag::constants::kTile - 1) / emotag::constants::kTile; }
  uint64_t all_tiles() const { return tiles_x() * tiles_y() * options.avatars; }
};

namespace emotag::cuda {

int fail(EmotagCudaResult code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  return code;
}

}  // namespace emotag::cuda

namespace {

int check_cuda(cudaError_t error, const char* doing) {
  switch (error) {
    case cudaSuccess: return EMOTAG_CUDA_OK;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
      return fail(EMOTAG_CUDA_NO_DEVICE, "%s: no NVIDIA GPU is visible (%s); check nvidia-smi and CUDA_VISIBLE_DEVICES",
                  doing, cudaGetErrorString(error));
    case cudaErrorInsufficientDriver:
      return fail(EMOTAG_CUDA_NO_DEVICE, "%s: the NVIDIA driver is missing or too old (%s); install 580 or newer", doing,
                  cudaGetErrorString(error));
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return fail(EMOTAG_CUDA_NO_DEVICE,
                  "%s: this GPU is not among those that the kernels were built for (%s); build them with its compute "
                  "capability in CMAKE_CUDA_ARCHITECTURES",
                  doing, cudaGetErrorString(error));
    default: return fail(EMOTAG_CUDA_FAILED, "%s: %s", doing, cudaGetErrorString(error));
  }
}

bool is_one_of(int32_t value, int32_t last) { return value >= 0 && value <= last; }

int check_options(const BlobHeader& h, const EmotagCudaOptions& o) {
  const int side = emotag::constants::kMaxSide;
  if (o.width < 1 || o.width > side || o.height < 1 || o.height > side)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "a picture must be 1 to %d pixels a side, not %dx%d", side, o.width, o.height);
  if (o.avatars < 1 || o.avatars > 1024)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "1 to 1024 avatars can be drawn together, not %d", o.avatars);
  if (!is_one_of(o.pixels, EMOTAG_CUDA_RGBA32F) || !is_one_of(o.background, EMOTAG_CUDA_IMAGE_F32))
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "pixels %d or background %d is unknown", o.pixels, o.background);
  if (o.pixels == EMOTAG_CUDA_RGB8 && o.background == EMOTAG_CUDA_NO_BACKGROUND)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "RGB8 has no alpha and needs a background; ask for RGBA8, or give one");
  if (o.mouth_moves && h.mouth == 0)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "the scene has no mouth to move; plan it without mouth_moves");
  return EMOTAG_CUDA_OK;
}

int check_blob(const void* blob, size_t bytes) {
  BlobHeader h;
  if (bytes < sizeof h) return fail(EMOTAG_CUDA_BAD_ARGUMENT, "a packed scene is longer than %zu bytes", bytes);
  std::memcpy(&h, blob, sizeof h);
  if (h.magic != kMagic || h.version != EMOTAG_CUDA_VERSION)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "this is no packed scene of version %d; pack the scene again", EMOTAG_CUDA_VERSION);
  if (h.bytes > bytes)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "the packed scene is cut short: %zu of %zu bytes", bytes, static_cast<size_t>(h.bytes));
  return EMOTAG_CUDA_OK;
}

// Room for the pairs: what was asked for, or four a Gaussian, at least one a tile.
uint64_t pairs_for(const EmotagCudaPlan& plan) {
  if (plan.options.pairs != 0) return plan.options.pairs;
  const uint64_t by_count = kPairsPerGaussian * plan.scene.places * plan.options.avatars;
  return by_count > plan.all_tiles() ? by_count : plan.all_tiles();
}

int lay_out_workspace(EmotagCudaPlan* p) {
  const BlobHeader& h = p->scene;
  const size_t avatars = p->options.avatars, places = avatars * h.places;
  const size_t pairs = p->options.pairs = pairs_for(*p);
  if (pairs > 0x7fffffffu || places > 0x7fffffffu)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "%zu pairs of a Gaussian and a tile are more than a sort can number; draw fewer "
                "avatars at once, or a smaller picture", pairs);
  int device = 0, error = check_cuda(cudaGetDevice(&device), "planning the sort");  // CUB's own answer says less
  if (error != EMOTAG_CUDA_OK) return error;
  size_t room = 0;
  error = check_cuda(sort_room(static_cast<uint32_t>(pairs), key_bits(p->all_tiles()), &room), "planning the sort");
  if (error != EMOTAG_CUDA_OK) return error;
  const size_t joints = emotag::constants::kJoints, hidden = emotag::constants::kMouthHidden;
  const size_t bytes[kRegions] = {
      avatars * (h.expressions + emotag::constants::kPoseFeatures) * 4, avatars * joints * 12 * 4, avatars * hidden * 4,
      avatars * h.vertices * 16, avatars * padded_mouth(h) * kMoved * 4, places * 32, places * 4, places * 4, places * 8,
      places * 4, places / kPlaces * 4, places / kPlaces * 4, sizeof(State), pairs * 8, pairs * 8, pairs * 4, pairs * 4,
      (p->all_tiles() + 1) * 4, room};
  p->total = 0;
  for (int k = 0; k < kRegions; ++k) {
    p->at[k] = p->total;
    p->bytes[k] = bytes[k];
    p->total += aligned(bytes[k]);
  }
  return EMOTAG_CUDA_OK;
}

template <class T>
T* device_pointer(uint64_t address) { return reinterpret_cast<T*>(static_cast<uintptr_t>(address)); }

Workspace workspace_of(const EmotagCudaPlan& p) {
  const auto at = [&p](Region region) { return p.workspace + p.at[region]; };
  return {device_pointer<float>(at(kCoefficients)), device_pointer<float>(at(kTransforms)),
          device_pointer<float>(at(kMouthAudio)), device_pointer<float4>(at(kVertices)),
          device_pointer<float4>(at(kMovedRegion)), device_pointer<float4>(at(kRecords)),
          device_pointer<uint32_t>(at(kDepths)), device_pointer<uchar4>(at(kRects)),
          device_pointer<uint64_t>(at(kMasks)), device_pointer<uint32_t>(at(kCounts)),
          device_pointer<uint32_t>(at(kBlockSums)), device_pointer<uint32_t>(at(kBlockBegin)),
          device_pointer<State>(at(kState)),
          {device_pointer<uint64_t>(at(kKeys0)), device_pointer<uint64_t>(at(kKeys1))},
          {device_pointer<uint32_t>(at(kValues0)), device_pointer<uint32_t>(at(kValues1))},
          device_pointer<uint32_t>(at(kTileBegin)), device_pointer<void>(at(kSortRoom))};
}

Job job_of(const EmotagCudaPlan& p, const EmotagCudaFrame& f) {
  Job job = {};
  job.scene = {p.scene, device_pointer<const char>(p.blob)};
  job.work = workspace_of(p);
  job.avatars = p.options.avatars;
  job.width = p.options.width;
  job.height = p.options.height;
  job.tiles_x = static_cast<int>(p.tiles_x());
  job.tiles = static_cast<int>(p.tiles_x() * p.tiles_y());
  job.pixels = p.options.pixels;
  job.background = p.options.background;
  job.mouth_moves = p.options.mouth_moves != 0;
  job.capacity = static_cast<uint32_t>(p.options.pairs);
  job.sorted = p.sorted;
  job.controls = device_pointer<const EmotagCudaControls>(f.controls);
  job.expression = device_pointer<const float>(f.expression);
  job.jaw = device_pointer<const float>(f.jaw);
  job.encoded_audio = device_pointer<const float>(f.encoded_audio);
  job.background_image = device_pointer<const void>(f.background);
  job.background_stride = f.background_stride;
  job.vertices = device_pointer<float>(f.vertices);
  job.picture = device_pointer<void>(f.picture);
  job.status = device_pointer<EmotagCudaStatus>(f.status);
  return job;
}

int check_pointers(const EmotagCudaPlan& p, const EmotagCudaFrame& f, uint32_t stages) {
  const char* missing = nullptr;
  const bool image = p.options.background == EMOTAG_CUDA_IMAGE_U8 || p.options.background == EMOTAG_CUDA_IMAGE_F32;
  if (f.controls == 0) missing = "controls";
  if ((stages & EMOTAG_CUDA_SKIN) && f.expression == 0 && p.scene.expressions > 0) missing = "expression";
  if ((stages & EMOTAG_CUDA_SKIN) && f.encoded_audio == 0 && p.options.mouth_moves) missing = "encoded_audio";
  if ((stages & EMOTAG_CUDA_SORT) && f.status == 0) missing = "status";
  if ((stages & EMOTAG_CUDA_BLEND) && f.picture == 0) missing = "picture";
  if ((stages & EMOTAG_CUDA_BLEND) && image && f.background == 0) missing = "background";
  if (missing != nullptr) return fail(EMOTAG_CUDA_BAD_ARGUMENT, "the frame has no %s on the device", missing);
  if (f.controls % 16 != 0 || f.picture % 16 != 0 || f.status % 8 != 0)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "controls and picture must be 16-byte aligned, status 8-byte aligned");
  if (stages == 0 || stages > EMOTAG_CUDA_ALL) return fail(EMOTAG_CUDA_BAD_ARGUMENT, "stages %u are unknown", stages);
  return EMOTAG_CUDA_OK;
}

int check_bound(const EmotagCudaPlan& p) {
  if (p.workspace == 0) return fail(EMOTAG_CUDA_BAD_ARGUMENT, "the plan has no device memory yet; bind it first");
  return EMOTAG_CUDA_OK;
}

}  // namespace

extern "C" int emotag_cuda_version(void) { return EMOTAG_CUDA_VERSION; }

extern "C" const char* emotag_cuda_error(void) { return last_error; }

extern "C" int emotag_cuda_plan_create(const void* blob, size_t bytes, const EmotagCudaOptions* options,
                                       EmotagCudaPlan** plan) {
  *plan = nullptr;
  int error = check_blob(blob, bytes);
  if (error != EMOTAG_CUDA_OK) return error;
  EmotagCudaPlan made = {};
  std::memcpy(&made.scene, blob, sizeof made.scene);
  made.options = *options;
  error = check_options(made.scene, *options);
  if (error == EMOTAG_CUDA_OK) error = lay_out_workspace(&made);
  if (error != EMOTAG_CUDA_OK) return error;
  *plan = new (std::nothrow) EmotagCudaPlan(made);
  return *plan != nullptr ? EMOTAG_CUDA_OK : fail(EMOTAG_CUDA_FAILED, "the host has no memory left for a plan");
}

extern "C" void emotag_cuda_plan_destroy(EmotagCudaPlan* plan) { delete plan; }

extern "C" size_t emotag_cuda_plan_workspace_bytes(const EmotagCudaPlan* plan) { return plan->total; }

extern "C" uint64_t emotag_cuda_plan_pairs(const EmotagCudaPlan* plan) { return plan->options.pairs; }

extern "C" int emotag_cuda_plan_array(const EmotagCudaPlan* plan, int array, size_t* offset, size_t* bytes) {
  const Region regions[EMOTAG_CUDA_ARRAYS] = {kVertices, kMovedRegion, kRecords, kCounts, kTileBegin};
  if (array < 0 || array >= EMOTAG_CUDA_ARRAYS) return fail(EMOTAG_CUDA_BAD_ARGUMENT, "there is no array %d", array);
  *offset = plan->at[regions[array]];
  *bytes = plan->bytes[regions[array]];
  return EMOTAG_CUDA_OK;
}

extern "C" int emotag_cuda_plan_bind(EmotagCudaPlan* plan, uint64_t blob, uint64_t workspace, size_t workspace_bytes) {
  if (blob == 0 || workspace == 0 || blob % kAlign != 0 || workspace % kAlign != 0)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "the packed scene and the workspace must be on the device, %d-byte aligned", kAlign);
  if (workspace_bytes < plan->total)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "the workspace needs %zu bytes, not %zu", plan->total, workspace_bytes);
  plan->blob = blob;
  plan->workspace = workspace;
  return EMOTAG_CUDA_OK;
}

extern "C" int emotag_cuda_run(EmotagCudaPlan* plan, const EmotagCudaFrame* frame, uint32_t stages, uint64_t stream) {
  int error = check_bound(*plan);
  if (error == EMOTAG_CUDA_OK) error = check_pointers(*plan, *frame, stages);
  if (error != EMOTAG_CUDA_OK) return error;
  Job job = job_of(*plan, *frame);
  const cudaStream_t on = device_pointer<std::remove_pointer_t<cudaStream_t>>(stream);
  if (stages & EMOTAG_CUDA_SKIN) error = check_cuda(launch_skin(job, on), "skinning");
  if (error == EMOTAG_CUDA_OK && (stages & EMOTAG_CUDA_MOUTH)) error = check_cuda(launch_mouth(job, on), "moving the mouth");
  if (error == EMOTAG_CUDA_OK && (stages & EMOTAG_CUDA_PROJECT)) error = check_cuda(launch_project(job, on), "projecting");
  if (error == EMOTAG_CUDA_OK && (stages & EMOTAG_CUDA_SORT))
    error = check_cuda(launch_sort(job, plan->bytes[kSortRoom], on), "sorting");
  plan->sorted = job.sorted;
  if (error == EMOTAG_CUDA_OK && (stages & EMOTAG_CUDA_BLEND)) error = check_cuda(launch_blend(job, on), "blending");
  return error;
}

extern "C" int emotag_cuda_bound(EmotagCudaPlan* plan, const EmotagCudaFrame* frame, uint64_t means, uint64_t quats,
                                 uint64_t scales, uint64_t stream) {
  const int error = check_bound(*plan);
  if (error != EMOTAG_CUDA_OK) return error;
  if (means == 0 || quats == 0 || scales == 0)
    return fail(EMOTAG_CUDA_BAD_ARGUMENT, "means, quats and scales must be on the device");
  return check_cuda(launch_bound(job_of(*plan, *frame), device_pointer<float>(means), device_pointer<float>(quats),
                                 device_pointer<float>(scales),
                                 device_pointer<std::remove_pointer_t<cudaStream_t>>(stream)),
                    "binding");
}
