#include "frame.h"

namespace emotag {

Raster::Raster(int count)
    : places(count), rects(count), depths(count), visible(chunks()), near(chunks()), far(chunks()), pair_count(chunks()),
      items(count), spare(count), sorted_count(0) {}

void Raster::prepare_tiles(int parts) {
  const size_t cells = tiles() > kDepthBuckets ? tiles() : kDepthBuckets;
  tile_begin.reserve(tiles() + 1);
  cursors.reserve(parts * cells);
  list.reserve(static_cast<size_t>(places) * 4);
}

size_t Raster::bytes() const {
  return 4 * (rects.size() + depths.size() + cursors.size() + tile_begin.size() + pairs.size() +
              list.size()) +
         8 * (items.size() + spare.size());
}

}  // namespace emotag
