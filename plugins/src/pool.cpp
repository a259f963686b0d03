#include "pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace emotag {
namespace {

constexpr int kSpins = 4000;  // about 50 µs: longer than the gap between two phases, shorter than a time slice
constexpr uint64_t kChunkMask = (1u << 20) - 1;

uint64_t next_of(uint64_t ticket) { return ticket & kChunkMask; }
uint64_t count_of(uint64_t ticket) { return (ticket >> 20) & kChunkMask; }

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

Pool::Pool(int threads) {
  for (int i = 1; i < threads; ++i) helpers_.emplace_back([this] { help(); });
}

Pool::~Pool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    quit_ = true;
  }
  wake_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

// Takes and does one chunk; false if none is left.
bool Pool::take_one() {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  do {
    if (next_of(ticket) >= count_of(ticket)) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel));
  // The phase cannot end before this chunk does, so call_ and work_ stay what they are.
  call_.load(std::memory_order_relaxed)(work_.load(std::memory_order_relaxed), static_cast<int>(next_of(ticket)));
  const int done = done_.fetch_add(1) + 1;
  if (done == static_cast<int>(count_of(ticket)) && caller_waits_.load()) {
    std::lock_guard<std::mutex> lock(mutex_);
    finished_.notify_one();
  }
  return true;
}

void Pool::run_shared(int chunks, Call call, const void* work) {
  done_.store(0, std::memory_order_relaxed);
  call_.store(call, std::memory_order_relaxed);
  work_.store(work, std::memory_order_relaxed);
  const uint64_t generation = (ticket_.load(std::memory_order_relaxed) >> 40) + 1;
  ticket_.store(generation << 40 | static_cast<uint64_t>(chunks) << 20);
  if (sleeping_.load() > 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  while (take_one()) {
  }
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done_.load(std::memory_order_acquire) == chunks) return;
    pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  caller_waits_.store(true);
  finished_.wait(lock, [&] { return done_.load() == chunks; });
  caller_waits_.store(false);
}

void Pool::help() {
  const auto has_work = [this] {
    const uint64_t ticket = ticket_.load();
    return next_of(ticket) < count_of(ticket);
  };
  while (!quit_.load()) {
    while (take_one()) {
    }
    bool found = false;
    for (int spin = 0; spin < kSpins && !found; ++spin) {
      found = has_work();
      pause();
    }
    if (found) continue;
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_.fetch_add(1);
    wake_.wait(lock, [&] { return quit_.load() || has_work(); });
    sleeping_.fetch_sub(1);
  }
}

}  // namespace emotag
