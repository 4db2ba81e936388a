// Arguments of the kernels in vision_2d_rope.metal.
//
//   vision_2d_rope_<x>    <x> in f32 f16 bf16
//
// buffers: 0 params, 1 x, 2 y, 3 pos_x, 4 pos_y, 5 inverse frequencies float2[head_dim / 4] (see rope.h)
// threadgroup memory: 0 simdgroups * head_dim floats, 1 head_dim floats; lengths rounded up to 16 bytes
// grid: one threadgroup for each token, of whole SIMD-groups that share the heads
#pragma once
#ifndef __METAL_VERSION__
#include <cstdint>
#endif

struct Vision2dRopeParams {
  uint32_t heads;
  uint32_t head_dim;
  uint32_t pos_x_signed;  // i32, else u32
  uint32_t pos_y_signed;
};
