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

// Two passes of at most ten bits: a quarter of a micrometre across a head, and few enough buckets to be at hand. Gaussians
// that are closer than that keep the order of the arrays.
constexpr int kPasses = 2, kMaxDigitBits = 10;
static_assert(kDepthBuckets == 1 << kMaxDigitBits);
constexpr int64_t kMaxPairs = 0x3f000000;  // 4 GiB
constexpr int kPairMargin = 4;              // pairs behind those of a part that may be overwritten

int bits_of(size_t count) {
  int bits = 1;
  while (count >> bits != 0) ++bits;
  return bits;
}

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

// Keys, without the lowest `dropped` bits of the depth, over record numbers; the chunks closed up.
void gather_items(Raster& frame, Pool& pool, uint32_t nearest, int dropped) {
  const int chunks = frame.chunks();
  pool.run(chunks, [&](int chunk) {
    int to = 0;
    for (int c = 0; c < chunk; ++c) to += frame.visible[c];
    const int first = chunk * kProjectChunk, count = frame.visible[chunk];
    const uint32_t* const depths = frame.depths.data() + first;
    uint64_t* const items = frame.items.data() + to;
    for (int i = 0; i < count; ++i)
      items[i] = static_cast<uint64_t>((depths[i] - nearest) >> dropped) << 32 | static_cast<uint32_t>(first + i);
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

// A part's pairs, a span over a record's number, in as few bits as both need: half the memory where that is 32.
template <class Word>
struct Pairs {
  Word* data;
  size_t room, most;  // words, and the most that one Gaussian can need
  int span_shift;

  // Writes those of items from `item` on one after another, while there is room; returns the first item that is not
  // written, and their number. Most Gaussians are on up to two by two spans: they write four times without a branch, and
  // what is not meant is overwritten by the next.
  const uint64_t* write(const uint64_t* item, const uint64_t* end, int columns, size_t* count) const {
    const Word one = Word{1} << span_shift, row = static_cast<Word>(columns) << span_shift;
    const Word* const last = data + (room - most - kPairMargin);
    Word* to = data;
    for (; item < end && to <= last; ++item) {
      const TileRect r = tiles_of(*item);
      const int right = r.x1 - r.x0, down = r.y1 - r.y0;
      Word first = static_cast<Word>(r.y0 * columns + r.x0) << span_shift | static_cast<uint32_t>(*item);
      if (right > 1) {
        for (int y = 0; y <= down; ++y, first += row)
          for (int x = 0; x <= right; ++x) *to++ = first + static_cast<Word>(x) * one;
        continue;
      }
      to[0] = first;
      to[1] = first + one;
      to[1 + right] = first + row;
      to[2 + right] = first + row + one;
      to += (1 + right) * (1 + std::min(down, 1));
      for (int y = 2; y <= down; ++y, to += 1 + right) {
        to[0] = first + static_cast<Word>(y) * row;
        to[1] = first + static_cast<Word>(y) * row + one;
      }
    }
    *count = static_cast<size_t>(to - data);
    return item;
  }
  void count(size_t pairs, int32_t* cells) const {
    for (size_t i = 0; i < pairs; ++i) ++cells[data[i] >> span_shift];
  }
  void deal(size_t pairs, int32_t* cursors, int32_t* list) const {
    const Word mask = (Word{1} << span_shift) - 1;
    for (size_t i = 0; i < pairs; ++i) list[cursors[data[i] >> span_shift]++] = static_cast<int32_t>(data[i] & mask);
  }
};

// Where lists begin, and the parts' shares in them.
void place_lists(Raster& frame, int parts) {
  const size_t tiles = frame.tiles();
  int32_t pairs = 0;
  for (size_t t = 0; t < tiles; ++t) {
    frame.tile_begin[t] = static_cast<uint32_t>(pairs);
    for (int p = 0; p < parts; ++p) {
      int32_t& cell = frame.cursors[p * tiles + t];
      const int32_t count = cell;
      cell = pairs;
      pairs += count;
    }
  }
  frame.tile_begin[tiles] = static_cast<uint32_t>(pairs);
}

// Pairs that do not fit their room at once, which is rare, are written twice: to be counted, and to be dealt out.
template <class Word>
void fill_lists(Raster& frame, Pool& pool, int span_shift) {
  const int parts = pool.threads(), columns = frame.view.tiles_x();
  const size_t room = frame.pair_room(parts);
  const auto items_of = [&](int part) { return frame.items.data() + begin_of(part, parts, frame.sorted_count); };
  const auto cells_of = [&](int part) { return frame.cursors.data() + part * frame.tiles(); };
  const auto pairs_of = [&](int part) {
    return Pairs<Word>{reinterpret_cast<Word*>(frame.pairs.data()) + part * room, room, frame.tiles(), span_shift};
  };
  size_t written[constants::kMaxThreads];  // all of a part's pairs, or 0
  pool.run(parts, [&](int part) {
    const Pairs<Word> pairs = pairs_of(part);
    const uint64_t *item = items_of(part), *const end = items_of(part + 1);
    std::fill(cells_of(part), cells_of(part) + frame.tiles(), 0);
    item = pairs.write(item, end, columns, &written[part]);
    pairs.count(written[part], cells_of(part));
    while (item < end) {
      size_t more;
      item = pairs.write(item, end, columns, &more);
      pairs.count(more, cells_of(part));
      written[part] = 0;
    }
  });
  place_lists(frame, parts);
  pool.run(parts, [&](int part) {
    const Pairs<Word> pairs = pairs_of(part);
    int32_t* const list = frame.list.data();
    if (written[part] != 0) return pairs.deal(written[part], cells_of(part), list);
    const uint64_t *item = items_of(part), *const end = items_of(part + 1);
    while (item < end) {
      size_t count;
      item = pairs.write(item, end, columns, &count);
      pairs.deal(count, cells_of(part), list);
    }
  });
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
  const int bits = bits_of(farthest - nearest), dropped = std::max(bits - kPasses * kMaxDigitBits, 0);
  const int each = (bits - dropped + kPasses - 1) / kPasses;
  gather_items(frame, pool, nearest, dropped);
  radix_pass<false>(frame, pool, {0, each}, pool.threads());
  radix_pass<true>(frame, pool, {each, each}, pool.threads());
}

void bin_to_tiles(Raster& frame, Pool& pool) {
  int64_t pairs = 0;
  for (int c = 0; c < frame.chunks(); ++c) pairs += frame.pair_count[c];
  if (pairs > kMaxPairs) throw std::overflow_error("too many pairs of a Gaussian and a tile");
  const size_t room = static_cast<size_t>(pairs) + kListMargin;
  if (room > frame.list.size()) frame.list.reset(room + room / 4);
  const int record_bits = bits_of(static_cast<size_t>(frame.places));
  const bool narrow = record_bits + bits_of(frame.tiles()) <= 32;
  frame.pairs.reserve(frame.pair_room(pool.threads()) * pool.threads() * (narrow ? 1 : 2));
  if (narrow) {
    fill_lists<uint32_t>(frame, pool, record_bits);
  } else {
    fill_lists<uint64_t>(frame, pool, 32);
  }
}

}  // namespace emotag
