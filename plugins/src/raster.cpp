#include "frame.h"
#include "simd/records.h"

namespace emotag {

Raster::Raster(int count)
    : places(count), records(static_cast<size_t>(count) * simd::kRecord), rects(count), depths(count),
      visible(chunks()), near(chunks()), far(chunks()), items(count), spare(count), sorted_count(0) {}

void Raster::prepare_tiles(int parts) {
  const size_t tiles = static_cast<size_t>(view.tiles_x()) * view.tiles_y();
  const size_t cells = static_cast<size_t>(view.tiles_x() + kMarginColumns) * (view.tiles_y() + 1);
  tile_begin.reserve(tiles + 1);
  cursors.reserve(parts * (cells > 4096 ? cells : 4096));
  list.reserve(static_cast<size_t>(places) * 4);
}

size_t Raster::bytes() const {
  return 4 * (records.size() + rects.size() + depths.size() + cursors.size() + tile_begin.size() + list.size()) +
         8 * (items.size() + spare.size());
}

}  // namespace emotag
