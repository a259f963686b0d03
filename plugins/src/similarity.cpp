#include "similarity.h"

#include <vector>

#include "variant.h"

namespace emotag {

// Calls work(channel, stripe, scratch) for all of them; every thread has a scratch of its own.
template <class Work>
void Similarity::run(const PicturePair& pictures, const Work& work) {
  const int parts = pool_.threads(), stripes = pictures.stripes() * pictures.channels;
  std::vector<SimilarityScratch> scratches;
  for (int part = 0; part < parts; ++part) scratches.emplace_back(pictures.width);
  std::lock_guard<std::mutex> lock(mutex_);
  pool_.run(parts, [&](int part) {
    const auto first = [&](int p) { return static_cast<int>(static_cast<int64_t>(stripes) * p / parts); };
    for (int i = first(part); i < first(part + 1); ++i)
      work(i / pictures.stripes(), i % pictures.stripes(), &scratches[part]);
  });
}

void Similarity::forward(const PicturePair& pictures, float* map, float* partials) {
  run(pictures, [&](int channel, int stripe, SimilarityScratch* scratch) {
    variant_.compare_stripe(window_, pictures, channel, stripe, scratch, map, partials);
  });
}

void Similarity::backward(const PicturePair& pictures, const float* partials, const float* loss, float* gradient) {
  run(pictures, [&](int channel, int stripe, SimilarityScratch* scratch) {
    variant_.uncompare_stripe(window_, pictures, channel, stripe, scratch, partials, loss, gradient);
  });
}

}  // namespace emotag
