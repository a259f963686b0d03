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
constexpr int64_t kMaxPairs = 0x3f000000;  // 4 GiB

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

// Cells of a part's table of tiles. The margin, one row and three columns, takes the ends of rectangles at the border.
struct TileTable {
  int columns, rows;
  size_t cells() const { return static_cast<size_t>(columns) * rows; }
};

// Number of a part's Gaussians on each tile, by a two-dimensional difference array.
void count_tiles(const uint64_t* item, const uint64_t* end, const TileTable& table, int32_t* cells) {
  std::fill(cells, cells + table.cells(), 0);
  const int w = table.columns;
  for (; item < end; ++item) {
    const TileRect r = tiles_of(*item);
    ++cells[r.y0 * w + r.x0];
    --cells[r.y0 * w + r.x1 + 1];
    --cells[(r.y1 + 1) * w + r.x0];
    ++cells[(r.y1 + 1) * w + r.x1 + 1];
  }
  for (int y = 0; y < table.rows; ++y) {
    int32_t sum = 0;
    for (int x = 0; x < w; ++x) {
      sum += cells[y * w + x];
      cells[y * w + x] = sum + (y > 0 ? cells[(y - 1) * w + x] : 0);
    }
  }
}

// Appends records to the lists of their spans. Most are up to two wide and two high: they write four times without a
// branch, to a place of no meaning where a span is not touched.
void write_lists(const uint64_t* item, const uint64_t* end, int columns, int32_t* cursors, int32_t nowhere,
                 int32_t* list) {
  for (; item < end; ++item) {
    const int32_t record = static_cast<int32_t>(*item);
    const TileRect r = tiles_of(*item);
    const int right = r.x1 - r.x0, down = r.y1 - r.y0;
    int32_t* row = cursors + r.y0 * columns + r.x0;
    if ((right | down) > 1) {
      for (int y = 0; y <= down; ++y, row += columns)
        for (int x = 0; x <= right; ++x) list[row[x]++] = record;
      continue;
    }
    int32_t* const below = row + columns;
    const int32_t a = row[0], b = row[1], c = below[0], d = below[1];
    const int corner = right & down;
    list[a] = record;
    list[right ? b : nowhere] = record;
    list[down ? c : nowhere] = record;
    list[corner ? d : nowhere] = record;
    row[0] = a + 1;
    row[1] = b + right;
    below[0] = c + down;
    below[1] = d + corner;
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
  const int parts = pool.threads(), tiles_x = frame.view.tiles_x(), tiles_y = frame.view.tiles_y();
  const TileTable table = {tiles_x + kMarginColumns, tiles_y + 1};
  const auto items_of = [&](int part) { return frame.items.data() + begin_of(part, parts, frame.sorted_count); };
  const auto cells_of = [&](int part) { return frame.cursors.data() + part * table.cells(); };
  pool.run(parts, [&](int part) { count_tiles(items_of(part), items_of(part + 1), table, cells_of(part)); });
  int64_t pairs = 0;
  for (int y = 0; y < tiles_y; ++y)
    for (int x = 0; x < tiles_x; ++x) {
      frame.tile_begin[y * tiles_x + x] = static_cast<uint32_t>(pairs);
      for (int p = 0; p < parts; ++p) {
        int32_t& cell = cells_of(p)[y * table.columns + x];
        const int32_t count = cell;
        cell = static_cast<int32_t>(pairs);
        pairs += count;
      }
    }
  if (pairs > kMaxPairs) throw std::overflow_error("too many pairs of a Gaussian and a tile");
  frame.tile_begin[tiles_x * tiles_y] = static_cast<uint32_t>(pairs);
  if (pairs + parts + kListMargin > static_cast<int64_t>(frame.list.size()))
    frame.list.reset(static_cast<size_t>(pairs + pairs / 4) + parts + kListMargin);
  pool.run(parts, [&](int part) {
    const int32_t nowhere = static_cast<int32_t>(pairs) + part;
    write_lists(items_of(part), items_of(part + 1), table.columns, cells_of(part), nowhere, frame.list.data());
  });
}

}  // namespace emotag
