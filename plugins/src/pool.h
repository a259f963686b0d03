// A few threads that share the chunks of one phase after another.
//
// The caller takes chunks like everyone else, so a phase ends even if no helper ever wakes; it only waits for chunks
// that a helper has begun. All spinning is bounded.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace emotag {

class Pool {
 public:
  // threads ≥ 1, the caller included.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(helpers_.size()) + 1; }

  // Calls work(chunk) once for each chunk in [0, chunks), on any thread; returns when all are done. One caller at a
  // time. work must not throw.
  template <class Work>
  void run(int chunks, const Work& work) {
    if (helpers_.empty() || alone_ || chunks <= 1) {
      for (int i = 0; i < chunks; ++i) work(i);
      return;
    }
    run_shared(chunks, [](const void* w, int chunk) { (*static_cast<const Work*>(w))(chunk); }, &work);
  }

  // Whether the caller does all chunks of the next phases itself. To be set between phases.
  void set_alone(bool alone) { alone_ = alone; }

 private:
  using Call = void (*)(const void* work, int chunk);

  void run_shared(int chunks, Call call, const void* work);
  bool take_one();
  void help();

  // The ticket holds generation (24 bits), chunk count (20) and next chunk (20) in one word, so that a helper that
  // was late for a phase cannot take a chunk of it, or of the next one under the wrong count.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<int> done_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<const void*> work_{nullptr};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> caller_waits_{false};
  std::atomic<bool> quit_{false};
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::vector<std::thread> helpers_;
  bool alone_ = false;
};

}  // namespace emotag
