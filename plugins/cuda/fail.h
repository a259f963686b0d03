// Failures: a code for the caller, a sentence for the reader.
#pragma once

#include "emotag_cuda.h"

namespace emotag::cuda {

// Keeps the printf-style message for emotag_cuda_error and returns the code.
__attribute__((format(printf, 2, 3))) int fail(EmotagCudaResult code, const char* format, ...);

}  // namespace emotag::cuda
