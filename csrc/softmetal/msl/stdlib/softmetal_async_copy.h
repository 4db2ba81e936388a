// simdgroup_event: copies that the lanes of a SIMD-group make together. They are made at once, and waiting
// for them is what makes them visible to all lanes.
#pragma once

#include "softmetal_simd.h"

namespace softmetal {

// Copies a tile of `to_rows` x `to_columns`, of which the source has `from_rows` x `from_columns`. Beyond
// those the target gets zeros, or what is at the source's edge.
template <class T>
SOFTMETAL_INLINE void copy_tile(T* to, ulong to_stride, ulong to_rows, ulong to_columns, const T* from,
                                ulong from_stride, ulong from_rows, ulong from_columns, bool to_edge) {
  const copying_lanes lanes = share_copy();
  const ulong count = to_rows * to_columns;
  for (ulong i = lanes.first; i < count; i += lanes.count) {
    const ulong row = i / to_columns, column = i % to_columns;
    if (row < from_rows && column < from_columns) {
      to[row * to_stride + column] = from[row * from_stride + column];
    } else if (to_edge && from_rows != 0 && from_columns != 0) {
      const ulong r = row < from_rows ? row : from_rows - 1;
      const ulong c = column < from_columns ? column : from_columns - 1;
      to[row * to_stride + column] = from[r * from_stride + c];
    } else {
      to[row * to_stride + column] = T();
    }
  }
}

}  // namespace softmetal

namespace metal {

enum class simdgroup_async_copy_clamp_mode { clamp_to_zero = 0, clamp_to_edge = 1 };

// Between device and threadgroup memory, in either direction.
struct simdgroup_event {
  template <class T>
  SOFTMETAL_INLINE void async_copy(T* dst, const type_identity_t<T>* src, ulong n_elements) {
    softmetal::copy_tile<T>(dst, n_elements, 1, n_elements, src, n_elements, 1, n_elements, false);
  }
  // Dimensions are columns and rows, of the tiles as they are when `transpose_matrix` is false.
  template <class T>
  SOFTMETAL_INLINE void async_copy(
      T* dst, ulong dst_elements_per_row, ushort2 dst_tile_dimensions, const type_identity_t<T>* src,
      ulong src_elements_per_row, ushort2 src_tile_dimensions, bool transpose_matrix = false,
      simdgroup_async_copy_clamp_mode clamp_mode = simdgroup_async_copy_clamp_mode::clamp_to_zero) {
    const ushort2 d = transpose_matrix ? ushort2(dst_tile_dimensions.y, dst_tile_dimensions.x)
                                       : dst_tile_dimensions,
                  s = transpose_matrix ? ushort2(src_tile_dimensions.y, src_tile_dimensions.x)
                                       : src_tile_dimensions;
    softmetal::copy_tile<T>(dst, dst_elements_per_row, d.y, d.x, src, src_elements_per_row, s.y, s.x,
                            clamp_mode == simdgroup_async_copy_clamp_mode::clamp_to_edge);
  }
  static SOFTMETAL_INLINE void wait(int, simdgroup_event*) {
    simdgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
  }
};

}  // namespace metal
