// What the rotary embeddings of heads have in common.
#pragma once
#ifndef __METAL_VERSION__
#include <cstdint>
#endif

struct HeadRopeParams {
  uint32_t heads;
  uint32_t head_dim;
  uint32_t half_rope_dim;     // number of rotated pairs
  uint32_t pair_offset;       // element i turns with element i + pair_offset
  uint32_t table_stride;      // cached: elements from one token's cos row to the next, 0 when all share one
  uint32_t positions_signed;  // positions are i32, else u32
  uint32_t has_freq_factors;
};
