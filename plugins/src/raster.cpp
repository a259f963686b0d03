#include "frame.h"
#include "simd/records.h"

namespace emotag {

Raster::Raster(int count)
    : places(count), records(static_cast<size_t>(count) * simd::kRecord), rects(count), depths(count),
      visible(chunks()), near(chunks()), far(chunks()), pair_count(chunks()), items(count), spare(count), sorted_count(0) {}

void Raster::prepare_tiles(int parts) {
  const size_t cells = tiles() > kDepthBuckets ? tiles() : kDepthBuckets;
  tile_begin.reserve(tiles() + 1);
  cursors.reserve(parts * cells);
  if (list.size() == 0) make_room(static_cast<size_t>(places) * 3, parts);
}

void Raster::make_room(size_t count, int parts) {
  if (count + kListMargin <= list.size() && count + parts * kPairMargin <= pairs.size()) return;
  const size_t room = count + count / 4;
  pairs.reserve(room + parts * kPairMargin);
  list.reserve(room + kListMargin);
}

size_t Raster::bytes() const {
  return 4 * (records.size() + rects.size() + depths.size() + cursors.size() + tile_begin.size() + list.size()) +
         8 * (pairs.size() + items.size() + spare.size());
}

}  // namespace emotag
