#include "sort.h"

#include <algorithm>
#include <new>

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
constexpr int64_t kMaxPairs = 0x7f000000;

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

int32_t* counts_of(Frame& frame, int part) { return frame.cursors.data() + (static_cast<size_t>(part) << kMaxDigitBits); }

uint64_t with_tiles(const Frame& frame, uint32_t record) {
  uint32_t tiles;
  std::memcpy(&tiles, &frame.rects[record], sizeof tiles);
  return static_cast<uint64_t>(tiles) << 32 | record;
}

TileRect tiles_of(uint64_t item) {
  const uint32_t bits = static_cast<uint32_t>(item >> 32);
  TileRect rect;
  std::memcpy(&rect, &bits, sizeof rect);
  return rect;
}

// Depths to sort keys over record numbers, the chunks closed up.
void gather_items(Frame& frame, Pool& pool, uint32_t nearest) {
  const int chunks = frame.chunks();
  pool.run(chunks, [&](int chunk) {
    int to = 0;
    for (int c = 0; c < chunk; ++c) to += frame.visible[c];
    const int first = chunk * kProjectChunk;
    for (int i = first; i < first + frame.visible[chunk]; ++i)
      frame.items[to++] = static_cast<uint64_t>(frame.depths[i] - nearest) << 32 | static_cast<uint32_t>(i);
  });
}

// One pass; the last one replaces the key, which nobody needs any more, by the tiles of the record.
void radix_pass(Frame& frame, Pool& pool, Digits digits, int parts, bool last) {
  pool.run(parts, [&](int part) {
    int32_t* counts = counts_of(frame, part);
    std::fill(counts, counts + digits.buckets(), 0);
    const int end = begin_of(part + 1, parts, frame.sorted_count);
    for (int i = begin_of(part, parts, frame.sorted_count); i < end; ++i) ++counts[digits.of(frame.items[i])];
  });
  accumulate(frame.cursors.data(), digits.buckets(), parts);
  pool.run(parts, [&](int part) {
    int32_t* to = counts_of(frame, part);
    const int end = begin_of(part + 1, parts, frame.sorted_count);
    for (int i = begin_of(part, parts, frame.sorted_count); i < end; ++i) {
      const uint64_t item = frame.items[i];
      uint64_t& place = frame.spare[to[digits.of(item)]++];
      place = last ? with_tiles(frame, static_cast<uint32_t>(item)) : item;
    }
  });
  std::swap(frame.items, frame.spare);
}

// Cells of a part's table of tiles. The margin, one row and three columns, takes the ends of rectangles at the border.
struct TileTable {
  int columns, rows;
  size_t cells() const { return static_cast<size_t>(columns) * rows; }
};

// Number of a part's Gaussians on each tile, by a two-dimensional difference array.
void count_tiles(const Frame& frame, const TileTable& table, int begin, int end, int32_t* cells) {
  std::fill(cells, cells + table.cells(), 0);
  const int w = table.columns;
  for (int i = begin; i < end; ++i) {
    const TileRect r = tiles_of(frame.items[i]);
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

// Appends records to the lists of their tiles. Most are up to three tiles wide: for them every row writes three times
// without a branch, to a place of no meaning where the tile is not touched.
void write_lists(Frame& frame, const TileTable& table, int begin, int end, int32_t* cursors, int32_t nowhere) {
  int32_t* list = frame.list.data();
  for (int i = begin; i < end; ++i) {
    const int32_t record = static_cast<int32_t>(frame.items[i]);
    const TileRect r = tiles_of(frame.items[i]);
    const int more = r.x1 - r.x0;
    int32_t* row = cursors + r.y0 * table.columns + r.x0;
    for (int y = r.y0; y <= r.y1; ++y, row += table.columns) {
      if (more > 2) {
        for (int x = 0; x <= more; ++x) list[row[x]++] = record;
        continue;
      }
      const int32_t first = row[0], second = row[1], third = row[2];
      list[first] = record;
      list[more >= 1 ? second : nowhere] = record;
      list[more >= 2 ? third : nowhere] = record;
      row[0] = first + 1;
      row[1] = second + (more >= 1);
      row[2] = third + (more >= 2);
    }
  }
}

}  // namespace

void sort_by_depth(Frame& frame, Pool& pool) {
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
  for (int p = 0; p < passes; ++p) radix_pass(frame, pool, {p * each, each}, pool.threads(), p + 1 == passes);
}

void bin_to_tiles(Frame& frame, Pool& pool) {
  const int parts = pool.threads(), tiles_x = frame.view.tiles_x(), tiles_y = frame.view.tiles_y();
  const TileTable table = {tiles_x + kMarginColumns, tiles_y + 1};
  const auto part_begin = [&](int part) { return begin_of(part, parts, frame.sorted_count); };
  const auto cells_of = [&](int part) { return frame.cursors.data() + part * table.cells(); };
  pool.run(parts, [&](int part) { count_tiles(frame, table, part_begin(part), part_begin(part + 1), cells_of(part)); });
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
  if (pairs > kMaxPairs) throw std::bad_alloc();
  frame.tile_begin[tiles_x * tiles_y] = static_cast<uint32_t>(pairs);
  if (pairs + parts + kListMargin > static_cast<int64_t>(frame.list.size()))
    frame.list.reset(static_cast<size_t>(pairs + pairs / 4) + parts + kListMargin);
  pool.run(parts, [&](int part) {
    const int32_t nowhere = static_cast<int32_t>(pairs) + part;
    write_lists(frame, table, part_begin(part), part_begin(part + 1), cells_of(part), nowhere);
  });
}

}  // namespace emotag
