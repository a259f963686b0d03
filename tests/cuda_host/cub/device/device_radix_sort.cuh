// Stands in for CUB's header of this name: a stable sort on the host.
#pragma once

#include <cuda_runtime.h>

#include <numeric>
#include <vector>

namespace cub {

template <class T>
struct DoubleBuffer {
  T* d_buffers[2];
  int selector = 0;
  DoubleBuffer(T* current, T* alternate) : d_buffers{current, alternate} {}
  T* Current() { return d_buffers[selector]; }
  T* Alternate() { return d_buffers[selector ^ 1]; }
};

struct DeviceRadixSort {
  template <class Key, class Value, class Count>
  static cudaError_t SortPairs(void* room, size_t& bytes, DoubleBuffer<Key>& keys, DoubleBuffer<Value>& values,
                               Count count, int begin_bit, int end_bit, cudaStream_t) {
    const size_t needed = 4096;
    if (room == nullptr) {
      bytes = needed;
      return cuda_host::pending_error();
    }
    if (bytes < needed || begin_bit != 0 || end_bit < 1 || end_bit > 64) return cudaErrorInvalidValue;
    std::memset(room, 0xff, needed);
    const Key mask = end_bit == 64 ? ~Key{0} : (Key{1} << end_bit) - 1;  // higher bits do not count
    std::vector<uint32_t> order(count);
    std::iota(order.begin(), order.end(), 0u);
    const Key* from = keys.Current();
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return (from[a] & mask) < (from[b] & mask); });
    for (size_t i = 0; i < order.size(); ++i) {
      keys.Alternate()[i] = from[order[i]];
      values.Alternate()[i] = values.Current()[order[i]];
    }
    std::memset(keys.Current(), 0xff, count * sizeof(Key));  // nobody may rely on what is left there
    std::memset(values.Current(), 0xff, count * sizeof(Value));
    keys.selector ^= 1;
    values.selector ^= 1;
    return cudaSuccess;
  }
};

}  // namespace cub
