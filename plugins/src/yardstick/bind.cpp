// The gate's yardstick of memory. Frozen, see loops.h.
#include "bind.h"

#include <nanobind/stl/vector.h>

#include <algorithm>
#include <vector>

#include "../aligned.h"
#include "../clock.h"
#include "loops.h"

namespace nb = nanobind;

namespace emotag {
namespace {

using namespace yardstick;

const Loops& best_loops() {
#if defined(__x86_64__)
  if (kAvx2.supported()) return kAvx2;
#endif
  return kPlain;
}

constexpr uint32_t kRecords = 60000;  // 3.8 MB: more than a core's own cache, less than its share of the next
constexpr int kPieces = 16;
constexpr size_t kSpans = 512, kReads = 313;  // of a span, among the kNear records from its own on
constexpr uint32_t kNear = 1500;

// Records, read in the order of spans that each see some of their neighbours'.
class Yardstick {
 public:
  Yardstick() : loops_(best_loops()), records_(size_t{kRecords} * kRecord), out_(8), list_(kSpans * kReads) {
    uint64_t state = 88172645463325252u;
    const auto random = [&state] {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      return static_cast<uint32_t>(state >> 20);
    };
    for (size_t i = 0; i < records_.size(); ++i) records_[i] = 1e-3f * static_cast<float>(random() % 1000);
    for (size_t span = 0; span < kSpans; ++span)
      for (size_t i = 0; i < kReads; ++i)
        list_[span * kReads + i] = static_cast<int32_t>((span * kRecords / kSpans + random() % kNear) % kRecords);
  }

  // Processor milliseconds of the pieces of one pass.
  std::vector<double> run() {
    std::vector<double> pieces(kPieces);
    std::fill_n(out_.data(), out_.size(), 0.0f);
    const size_t count = list_.size();
    for (int i = 0; i < kPieces; ++i) {
      CpuClock clock;
      loops_.blend(records_.data(), list_.data(), static_cast<int>(count * i / kPieces),
                   static_cast<int>(count * (i + 1) / kPieces), out_.data());
      pieces[i] = clock.lap();
    }
    return pieces;
  }

 private:
  const Loops& loops_;
  Aligned<float> records_, out_;
  Aligned<int32_t> list_;
};

}  // namespace

void define_yardstick(nb::module_& m) {
  nb::class_<Yardstick>(m, "Yardstick").def(nb::init<>()).def("run", &Yardstick::run);
}

}  // namespace emotag
