// Stage 4: visible Gaussians by depth, and the list of each tile, nearest first.
#pragma once

#include "frame.h"
#include "pool.h"

namespace emotag {

// Radix sort of the projected records by depth, to twenty bits of the picture's range; stable in the order of the scene's places.
void sort_by_depth(Raster& frame, Pool& pool);

// Fills frame.tile_begin and frame.list; the list grows where a frame has more pairs than any before it. Throws
// std::overflow_error where there are more pairs than a list can number.
void bin_to_tiles(Raster& frame, Pool& pool);

}  // namespace emotag
