#include "sort.h"

#include <algorithm>
#include <stdexcept>

namespace emotag {
namespace {

// The sorted order does not depend on how many parts share the work: each part counts its own share of the input, and
// its share of every bucket starts where those of the parts before it end.
struct Digits {
  int shift, bits;
  size_t buckets() const { return static_cast<size_t>(1) << bits; }
  uint32_t of(uint64_t item) const { return static_cast<uint32_t>(item >> (32 + shift)) & static_cast<uint32_t>(buckets() - 1); }
};

constexpr int kMaxDigitBits = 12;
static_assert(kDepthBuckets == 1 << kMaxDigitBits);
constexpr int64_t kMaxPairs = 300'000'000;  // 3.6 GB

int begin_of(int part, int parts, int count) { return static_cast<int>(static_cast<int64_t>(count) * part / parts); }

// Counts to starting positions: by bucket, then by part.
void accumulate(int32_t* counts, size_t buckets, int parts) {
  int32_t sum = 0;
  for (size_t d = 0; d < buckets; ++d)
    for (int p = 0; p < parts; ++p) {
      int32_t& slot = counts[p * (static_cast<size_t>(1) << kMaxDigitBits) + d];
      const int32_t count = slot;
      slot = sum;
      sum += count;
    }
}

int32_t* counts_of(Raster& frame, int part) { return frame.cursors.data() + (static_cast<size_t>(part) << kMaxDigitBits); }

uint64_t with_tiles(const uint32_t* rects, uint32_t record) {
  return static_cast<uint64_t>(rects[record]) << 32 | record;
}

TileRect tiles_of(uint64_t item) {
  const uint32_t bits = static_cast<uint32_t>(item >> 32);
  TileRect rect;
  std::memcpy(&rect, &bits, sizeof rect);
  return rect;
}

// Keys over record numbers, the chunks closed up.
void gather_items(Raster& frame, Pool& pool, uint32_t nearest) {
  const int chunks = frame.chunks();
  pool.run(chunks, [&](int chunk) {
    int to = 0;
    for (int c = 0; c < chunk; ++c) to += frame.visible[c];
    const int first = chunk * kProjectChunk, count = frame.visible[chunk];
    const uint32_t* const depths = frame.depths.data() + first;
    uint64_t* const items = frame.items.data() + to;
    for (int i = 0; i < count; ++i)
      items[i] = static_cast<uint64_t>(depths[i] - nearest) << 32 | static_cast<uint32_t>(first + i);
  });
}

// One pass; the last one replaces the key, which nobody needs any more, by the spans of the record.
template <bool Last>
void radix_pass(Raster& frame, Pool& pool, Digits digits, int parts) {
  pool.run(parts, [&](int part) {
    int32_t* counts = counts_of(frame, part);
    std::fill(counts, counts + digits.buckets(), 0);
    const uint64_t* const end = frame.items.data() + begin_of(part + 1, parts, frame.sorted_count);
    for (const uint64_t* item = frame.items.data() + begin_of(part, parts, frame.sorted_count); item < end; ++item)
      ++counts[digits.of(*item)];
  });
  accumulate(frame.cursors.data(), digits.buckets(), parts);
  pool.run(parts, [&](int part) {
    int32_t* const to = counts_of(frame, part);
    uint64_t* const spare = frame.spare.data();
    const uint32_t* const rects = frame.rects.data();
    const uint64_t* const end = frame.items.data() + begin_of(part + 1, parts, frame.sorted_count);
    for (const uint64_t* item = frame.items.data() + begin_of(part, parts, frame.sorted_count); item < end; ++item)
      spare[to[digits.of(*item)]++] = Last ? with_tiles(rects, static_cast<uint32_t>(*item)) : *item;
  });
  std::swap(frame.items, frame.spare);
}

// Pairs of a part's Gaussians and their spans.
int64_t count_pairs(const uint64_t* item, const uint64_t* end) {
  int64_t pairs = 0;
  for (; item < end; ++item) {
    const TileRect r = tiles_of(*item);
    pairs += (r.x1 - r.x0 + 1) * (r.y1 - r.y0 + 1);
  }
  return pairs;
}

// Writes them one after another: spans over record numbers. Most Gaussians are on up to two by two spans: they write four
// times without a branch, and what is not meant is overwritten by the next; there is room for that behind the last.
void write_pairs(const uint64_t* item, const uint64_t* end, uint32_t columns, uint64_t* to) {
  const uint64_t one = uint64_t{1} << 32, row = static_cast<uint64_t>(columns) << 32;
  for (; item < end; ++item) {
    const TileRect r = tiles_of(*item);
    const int right = r.x1 - r.x0, down = r.y1 - r.y0;
    uint64_t first = static_cast<uint64_t>(r.y0 * columns + r.x0) << 32 | static_cast<uint32_t>(*item);
    if (right > 1) {
      for (int y = 0; y <= down; ++y, first += row)
        for (int x = 0; x <= right; ++x) *to++ = first + x * one;
      continue;
    }
    to[0] = first;
    to[1] = first + one;
    to[1 + right] = first + row;
    to[2 + right] = first + row + one;
    to += (1 + right) * (1 + std::min(down, 1));
    for (int y = 2; y <= down; ++y, to += 1 + right) {
      to[0] = first + y * row;
      to[1] = first + y * row + one;
    }
  }
}

}  // namespace

void sort_by_depth(Raster& frame, Pool& pool) {
  uint32_t nearest = 0xffffffffu, farthest = 0;
  frame.sorted_count = 0;
  for (int c = 0; c < frame.chunks(); ++c) {
    frame.sorted_count += frame.visible[c];
    nearest = std::min(nearest, frame.near[c]);
    farthest = std::max(farthest, frame.far[c]);
  }
  if (frame.sorted_count == 0) return;
  gather_items(frame, pool, nearest);
  int bits = 1;
  while (bits < 32 && (farthest - nearest) >> bits != 0) ++bits;
  const int passes = (bits + kMaxDigitBits - 1) / kMaxDigitBits, each = (bits + passes - 1) / passes;
  for (int p = 0; p + 1 < passes; ++p) radix_pass<false>(frame, pool, {p * each, each}, pool.threads());
  radix_pass<true>(frame, pool, {(passes - 1) * each, each}, pool.threads());
}

void bin_to_tiles(Raster& frame, Pool& pool) {
  const int parts = pool.threads();
  const size_t tiles = frame.tiles();
  const auto items_of = [&](int part) { return frame.items.data() + begin_of(part, parts, frame.sorted_count); };
  const auto cells_of = [&](int part) { return frame.cursors.data() + part * tiles; };
  int64_t begin[constants::kMaxThreads + 1] = {};
  for (int c = 0; c < frame.chunks(); ++c) begin[parts] += frame.pair_count[c];
  if (begin[parts] > kMaxPairs) throw std::overflow_error("too many pairs of a Gaussian and a tile");
  if (parts > 1) pool.run(parts - 1, [&](int part) { begin[part + 1] = count_pairs(items_of(part), items_of(part + 1)); });
  for (int p = 1; p < parts; ++p) begin[p] += begin[p - 1];
  frame.make_room(static_cast<size_t>(begin[parts]), parts);
  const auto pairs_of = [&](int part) { return frame.pairs.data() + begin[part] + part * kPairMargin; };
  pool.run(parts, [&](int part) {
    uint64_t* const pair = pairs_of(part);
    write_pairs(items_of(part), items_of(part + 1), static_cast<uint32_t>(frame.view.tiles_x()), pair);
    int32_t* const cells = cells_of(part);
    std::fill(cells, cells + tiles, 0);
    const int64_t count = begin[part + 1] - begin[part];
    for (int64_t i = 0; i < count; ++i) ++cells[pair[i] >> 32];
  });
  int32_t sum = 0;
  for (size_t t = 0; t < tiles; ++t) {
    frame.tile_begin[t] = static_cast<uint32_t>(sum);
    for (int p = 0; p < parts; ++p) {
      int32_t& cell = cells_of(p)[t];
      const int32_t count = cell;
      cell = sum;
      sum += count;
    }
  }
  frame.tile_begin[tiles] = static_cast<uint32_t>(sum);
  pool.run(parts, [&](int part) {
    const uint64_t* const pair = pairs_of(part);
    int32_t* const cursors = cells_of(part);
    int32_t* const list = frame.list.data();
    const int64_t count = begin[part + 1] - begin[part];
    for (int64_t i = 0; i < count; ++i) list[cursors[pair[i] >> 32]++] = static_cast<int32_t>(pair[i]);
  });
}

}  // namespace emotag
