// Arguments of the kernels in gated_delta_net.metal.
//
//   gated_delta_net_chunk_o_k64, _k128, _k256    one for each key dimension K
//
// buffers: 0 params, 1 q, 2 k, 3 v, 4 state, 5 g, 6 o
// threadgroup memory: 0 scores, 64 * 64 bfloats (8192 bytes); 1 simdgroups * 8 * 64 floats (2048 bytes each)
// grid: threadgroups (chunks, heads, batch), of 1 to 8 whole SIMD-groups
#pragma once
#ifndef __METAL_VERSION__
#include <cstdint>
#endif

#define GATED_DELTA_NET_CHUNK 64

struct GatedDeltaNetParams {
  uint32_t tokens;     // T, a multiple of the chunk length
  uint32_t heads;      // H, value heads
  uint32_t key_heads;  // Hg
  uint32_t value_dim;  // V
  float scale;
};
