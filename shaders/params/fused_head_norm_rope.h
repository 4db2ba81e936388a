// Arguments of the kernels in fused_head_norm_rope.metal.
//
//   fused_head_norm_rope_cached_<x>[_<w>]        cos and sin are given
//   fused_head_norm_rope_positional_<x>[_<w>]    angles from positions and inverse frequencies
//     <x> in f32 f16 bf16; <x>_<w> in f32_f32 f16_f32 f16_f16 bf16_f32 bf16_bf16; no _<w>: no weight
//
// buffers: 0 params, 1 x, 2 y, 3 weight (only the forms with _<w>),
//          cached:     4 cos f32, 5 sin f32
//          positional: 4 positions, 5 inverse frequencies float2[half_rope_dim] (see rope.h),
//                      6 freq_factors f32 (anything bound when has_freq_factors is 0)
// threadgroup memory: 0 simdgroups * head_dim floats, 1 2 * head_dim floats; lengths rounded up to 16 bytes
// grid: one threadgroup for each token, of whole SIMD-groups that share the heads
#pragma once
#include "params/head_rope.h"

struct FusedHeadNormRopeParams {
  HeadRopeParams rope;
  float eps;
};
