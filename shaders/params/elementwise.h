// Arguments of the kernels in elementwise.metal.
//
//   add_<x> mul_<x> silu_mul_<x> gelu_mul_<x>    <x> in f32 f16 bf16
//
// buffers: 0 params, 1 first input, 2 y, 3 second input, all of one type and size
// grid: one threadgroup, of any size, for each block of elements; the last one may be shorter
#pragma once
#ifndef __METAL_VERSION__
#include <cstdint>
#endif

struct ElementwiseParams {
  uint32_t block;       // elements of a block
  uint32_t last_block;  // elements of the last block
  uint32_t vectorized;  // block is a multiple of 4, and all buffers start on a multiple of 4 elements' bytes
};
