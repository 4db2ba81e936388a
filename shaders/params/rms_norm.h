// Arguments of the kernels in rms_norm.metal.
//
//   rms_norm_<x>            x without weight          <x> in f32 f16 bf16
//   rms_norm_<x>_<w>        with weight               <x>_<w> in f32_f32 f16_f32 f16_f16 bf16_f32 bf16_bf16
//   rms_norm_mul_<x>_<w>    weight, times scale       the same pairs
//
// buffers: 0 params, 1 x, 2 y, 3 weight, 4 scale (only those that the form has)
// grid: one threadgroup for each row, of any size
#pragma once
#ifndef __METAL_VERSION__
#include <cstdint>
#endif

struct RmsNormParams {
  uint32_t dim;
  uint32_t
      vectorized;  // dim is a multiple of 4, and every bound row starts on a multiple of 4 elements' bytes
  float eps;
};
