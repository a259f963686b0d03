// Memory aligned to cache lines, zeroed when it is made, with a line of slack behind the last element.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace emotag {

template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(size_t count) { reset(count); }
  Aligned(Aligned&& other) noexcept : data_(other.data_), count_(other.count_) {
    other.data_ = nullptr;
    other.count_ = 0;
  }
  Aligned& operator=(Aligned&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~Aligned() { std::free(data_); }

  // Makes room for `count` zeroed elements; what was there is lost. Throws std::bad_alloc and is empty then.
  void reset(size_t count) {
    std::free(data_);
    data_ = nullptr;
    count_ = 0;
    const size_t bytes = (count * sizeof(T) + 127) / 64 * 64;
    data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(static_cast<void*>(data_), 0, bytes);
    count_ = count;
  }
  // Makes room for at least `count` elements and keeps nothing; does nothing where there is room.
  void reserve(size_t count) {
    if (count > count_) reset(count);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

}  // namespace emotag
