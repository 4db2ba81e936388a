// Arguments of the kernels in im2col_2d.metal.
//
//   im2col_2d_16, im2col_2d_32    elements of 16 or 32 bits, moved as integers
//
// buffers: 0 params, 1 pixels, 2 out
// grid: threadgroups (ceil(patches_x / patches_per_group), patches_y, 1), of any size;
//       out row = patch_y * patches_x + patch_x
#pragma once
#ifndef __METAL_VERSION__
#include <cstdint>
#endif

struct Im2col2dParams {
  uint32_t channels;
  uint32_t height;
  uint32_t width;
  uint32_t patch;
  uint32_t patches_per_group;  // neighbours in x that one threadgroup copies
};
