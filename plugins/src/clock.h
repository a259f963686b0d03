// Processor time of the calling thread.
#pragma once

#include <time.h>

namespace emotag {

inline double milliseconds_of(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return 1e3 * static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_nsec);
}

class CpuClock {
 public:
  // Milliseconds since the last lap, or since it was made.
  double lap() {
    const double before = last_;
    last_ = milliseconds_of(CLOCK_THREAD_CPUTIME_ID);
    return last_ - before;
  }

 private:
  double last_ = milliseconds_of(CLOCK_THREAD_CPUTIME_ID);
};

}  // namespace emotag
