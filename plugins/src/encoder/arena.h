// Memory that is read from end to end for every step: few large blocks, in large pages where there are any.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "product.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace emotag::encoder {

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Room for `count` elements, aligned to cache lines. It is not zeroed. Throws std::bad_alloc.
  template <class T>
  T* take(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    if (bytes > left_) grow(bytes);
    std::byte* at = next_;
    next_ += bytes;
    left_ -= bytes;
    return reinterpret_cast<T*>(at);
  }

  // A copy of `values`, padded with zeros.
  const float* padded_copy(const float* values, int count) {
    float* to = take<float>(padded(count));
    std::fill_n(to, padded(count), 0.0f);
    std::copy_n(values, count, to);
    return to;
  }

 private:
  static constexpr size_t kPage = size_t{2} << 20, kBlock = size_t{16} << 20;

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };

  void grow(size_t least) {
    const size_t bytes = ((least > kBlock ? least : kBlock) + kPage - 1) / kPage * kPage;
    void* block = std::aligned_alloc(kPage, bytes);
    if (block == nullptr) throw std::bad_alloc();
    blocks_.emplace_back(block);
#if defined(__linux__)
    ::madvise(block, bytes, MADV_HUGEPAGE);  // a wish: nothing is lost where it is not granted
#endif
    next_ = static_cast<std::byte*>(block);
    left_ = bytes;
  }

  std::vector<std::unique_ptr<void, Free>> blocks_;
  std::byte* next_ = nullptr;
  size_t left_ = 0;
};

}  // namespace emotag::encoder
