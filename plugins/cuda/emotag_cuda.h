/* Drawing an avatar on an NVIDIA GPU: C interface of libemotag_cuda.so.
 *
 * The library never allocates device memory, never copies between host and device, and never waits. The caller owns
 * all memory: it packs a scene into a blob, copies the blob to the device, makes a plan for a picture size and a number
 * of avatars, gives the plan a workspace, and then launches frames on a stream. What changes from frame to frame is read
 * from device memory, so one captured CUDA graph serves every frame.
 *
 * A plan belongs to one thread at a time, and its frames must follow one another (one stream): they share a workspace.
 * Functions that return an int return an EmotagCudaResult; emotag_cuda_error() says what went wrong, and its cure.
 * Floats are IEEE single, lengths metres, angles radians, quaternions wxyz, matrices row-major. Device pointers are
 * uint64_t, so that a caller without a CUDA toolkit can pass them.
 */
#ifndef EMOTAG_CUDA_H
#define EMOTAG_CUDA_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif
#pragma GCC visibility push(default)

#define EMOTAG_CUDA_VERSION 1 /* of this interface and of the blob; both sides compare it */

typedef enum {
  EMOTAG_CUDA_OK = 0,
  EMOTAG_CUDA_BAD_ARGUMENT = 1, /* a size, pointer or blob that cannot be */
  EMOTAG_CUDA_NO_DEVICE = 2,    /* no GPU, no driver, a driver that is too old, or a GPU that was not built for */
  EMOTAG_CUDA_FAILED = 3        /* the CUDA runtime refused a launch */
} EmotagCudaResult;

/* The avatar in host memory, as emotag.plugins.Scene holds it. Sizes agree and indices are in range: the caller checks. */
typedef struct {
  int32_t vertices, faces, expressions;
  int32_t gaussians, stored_coefficients, degree; /* degree: the active one, 0 to 3 */
  int32_t mouth, rows, audio;                     /* Gaussians of the mouth (0: none), rows of a plane, encoded audio */
  float bound;                                    /* half side of the hash grid's cube */
  const float* vertex_template;                   /* (V,3) */
  const int32_t* triangles;                       /* (F,3) */
  const float* expression_basis;                  /* (E,V,3) */
  const float* pose_basis;                        /* (36,V,3) */
  const float* joints;                            /* (5,3) */
  const float* joint_expression_basis;            /* (E,5,3) */
  const float* weights;                           /* (V,5) */
  const int32_t* parents;                         /* (5,) */
  const int32_t* face_index;                      /* (G,) */
  const float* means;                             /* (G,3) */
  const float* quats;                             /* (G,4) any length */
  const float* scales;                            /* (G,3) after the activation */
  const float* opacities;                         /* (G,) after the sigmoid */
  const float* sh;                                /* (G,K,3) */
  const int32_t* mouth_index;                     /* (M,) distinct; this and the rest may be null if mouth is 0 */
  const float* planes[3];                         /* (rows,) xy, yz, xz */
  const int32_t* offsets;                         /* (13,) */
  const float* layers[3];                         /* (64,36+A), (64,64), (64,64) */
  const float* head;                              /* (10,64) */
  const float* bias;                              /* (10,) */
} EmotagCudaScene;

typedef enum {
  EMOTAG_CUDA_RGB8 = 0,   /* (H,W,3) bytes, truncated; needs a background */
  EMOTAG_CUDA_RGBA8 = 1,  /* (H,W,4) bytes, truncated; straight alpha without a background, 255 with one */
  EMOTAG_CUDA_RGBA32F = 2 /* (H,W,4) floats: colour over the background (over black without one), alpha; not clamped */
} EmotagCudaPixels;

typedef enum {
  EMOTAG_CUDA_NO_BACKGROUND = 0,
  EMOTAG_CUDA_COLOUR = 1,     /* of the controls */
  EMOTAG_CUDA_IMAGE_U8 = 2,   /* (H,W,3) bytes on the device */
  EMOTAG_CUDA_IMAGE_F32 = 3   /* (H,W,3) floats in 0…1 on the device */
} EmotagCudaBackground;

typedef struct {
  int32_t width, height;   /* pixels, 1 to 4096 */
  int32_t avatars;         /* pictures drawn together, all of this scene; at least 1 */
  int32_t pixels;          /* EmotagCudaPixels */
  int32_t background;      /* EmotagCudaBackground */
  int32_t mouth_moves;     /* 0: the mouth stays where it is bound and no encoded audio is read */
  uint64_t pairs;          /* pairs of a Gaussian and a tile that there is room for, all avatars together; 0: a default */
} EmotagCudaOptions;

/* What a host writes for each avatar and copies to the device: 40 floats. */
typedef struct {
  float view[12];          /* (3,4) world to camera, OpenCV axes, rigid */
  float intrinsics[4];     /* fx, fy, cx, cy in pixels */
  float pose[15];          /* (5,3) axis-angle of root, neck, jaw, left eye, right eye */
  float translation[3];    /* added to the posed vertices */
  float background[3];     /* 0…1, for EMOTAG_CUDA_COLOUR */
  float unused[3];
} EmotagCudaControls;

/* What the device writes in every frame: 32 bytes. */
typedef struct {
  uint64_t pairs;          /* that this frame needed */
  uint64_t capacity;       /* that there was room for */
  uint32_t overflow;       /* 1: pairs > capacity; the pictures were NOT written. Draw again with a plan of more pairs */
  uint32_t frames;         /* one more than in the frame before: tells a fresh status from an old one */
  uint32_t unused[2];
} EmotagCudaStatus;

/* Device pointers of one frame; [B] is the number of avatars. 0 where "may be 0". */
typedef struct {
  uint64_t controls;       /* EmotagCudaControls [B], 16-byte aligned */
  uint64_t expression;     /* floats [B][E]; may be 0 if E is 0 */
  uint64_t jaw;            /* floats [B][3], used in place of the controls' jaw; may be 0 */
  uint64_t encoded_audio;  /* floats [B][A]; may be 0 unless mouth_moves */
  uint64_t background;     /* one image for all avatars, or [B] images; may be 0 unless the background is an image */
  uint64_t background_stride; /* bytes from one avatar's image to the next; 0: one for all */
  uint64_t vertices;       /* floats [B][V][3], written by SKIN and read after it; 0: kept in the workspace */
  uint64_t picture;        /* [B][H][W][channels], 16-byte aligned */
  uint64_t status;         /* EmotagCudaStatus, 8-byte aligned */
} EmotagCudaFrame;

/* Stages of a frame, in order. A mask may leave out stages whose results are still in the workspace. */
enum {
  EMOTAG_CUDA_SKIN = 1,    /* pose, skinning, the audio's share of the mouth network */
  EMOTAG_CUDA_MOUTH = 2,   /* hash grid, network and offsets of the mouth Gaussians */
  EMOTAG_CUDA_PROJECT = 4, /* binding, projection, colour, exact tiles */
  EMOTAG_CUDA_SORT = 8,    /* count, list, sort, tile ranges; writes the status */
  EMOTAG_CUDA_BLEND = 16,  /* pixels */
  EMOTAG_CUDA_ALL = 31
};

/* Arrays in the workspace, for tests and for measuring. */
typedef enum {
  EMOTAG_CUDA_VERTICES = 0,   /* floats [B][V][4]: x, y, z, 1 */
  EMOTAG_CUDA_MOUTH_MOVES = 1,/* floats [B][M padded to 16][12]: offset 3, local covariance 6, unused 3 */
  EMOTAG_CUDA_RECORDS = 2,    /* 32 bytes [B][places]: u v qa qb qc level as floats, r g b as halves */
  EMOTAG_CUDA_COUNTS = 3,     /* uint32 [B][places]: tiles that a Gaussian touches */
  EMOTAG_CUDA_TILE_BEGIN = 4, /* uint32 [B·tiles + 1] */
  EMOTAG_CUDA_ARRAYS = 5
} EmotagCudaArray;

typedef struct EmotagCudaPlan EmotagCudaPlan;

int emotag_cuda_version(void);
/* The last failure on this thread; "" if there was none. Valid until the next call on this thread. */
const char* emotag_cuda_error(void);

/* Packs a scene. The blob has no pointers: it may be written to a file and copied anywhere (256-byte aligned). */
int emotag_cuda_pack_bytes(const EmotagCudaScene* scene, size_t* bytes);
int emotag_cuda_pack(const EmotagCudaScene* scene, void* blob, size_t bytes);

/* Makes a plan from a blob in host memory (its header is copied, the rest not kept). */
int emotag_cuda_plan_create(const void* blob, size_t bytes, const EmotagCudaOptions* options, EmotagCudaPlan** plan);
void emotag_cuda_plan_destroy(EmotagCudaPlan* plan);
size_t emotag_cuda_plan_workspace_bytes(const EmotagCudaPlan* plan);
uint64_t emotag_cuda_plan_pairs(const EmotagCudaPlan* plan);
int emotag_cuda_plan_array(const EmotagCudaPlan* plan, int array, size_t* offset, size_t* bytes);
/* Device addresses of the blob and of the workspace, each 256-byte aligned. The workspace need not be cleared. */
int emotag_cuda_plan_bind(EmotagCudaPlan* plan, uint64_t blob, uint64_t workspace, size_t workspace_bytes);

/* Launches the stages on a stream (a cudaStream_t or CUstream). Returns at once; may be captured in a graph, once a first
 * frame has been launched outside of it: the driver loads kernels when they are first used. */
int emotag_cuda_run(EmotagCudaPlan* plan, const EmotagCudaFrame* frame, uint32_t stages, uint64_t stream);

/* World means (G,3), quaternions (G,4) and scales (G,3) of avatar 0 after SKIN, the mouth where it is bound, in the
 * scene's own order: what another rasterizer needs. */
int emotag_cuda_bound(EmotagCudaPlan* plan, const EmotagCudaFrame* frame, uint64_t means, uint64_t quats,
                      uint64_t scales, uint64_t stream);

#pragma GCC visibility pop
#if defined(__cplusplus)
}
#endif
#endif
