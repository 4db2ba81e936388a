// Arguments of the kernels in rope_neox.metal: HeadRopeParams.
//
//   rope_neox_cached_<x>        cos and sin are given                             <x> in f32 f16 bf16
//   rope_neox_positional_<x>    angles from positions and inverse frequencies
//
// buffers, threadgroup memory and grid: those of fused_head_norm_rope without weight
#pragma once
#include "params/head_rope.h"
