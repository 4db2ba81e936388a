// Copies between arrays of any strides, types converted on the way.
#include <metal_stdlib>

using namespace metal;

template <typename IdxT = size_t>
METAL_FUNC IdxT elem_to_loc(IdxT elem, constant const int* shape, constant const int64_t* strides, int ndim) {
  IdxT loc = 0;
  for (int i = ndim - 1; i >= 0 && elem > 0; --i) {
    loc += (elem % shape[i]) * IdxT(strides[i]);
    elem /= shape[i];
  }
  return loc;
}

METAL_FUNC int64_t elem_to_loc_2(uint2 elem, constant const int64_t strides[2]) {
  return elem.x * strides[1] + elem.y * strides[0];
}

METAL_FUNC int64_t elem_to_loc_3(uint3 elem, constant const int64_t strides[3]) {
  return elem.x * strides[2] + elem.y * strides[1] + elem.z * strides[0];
}

template <typename T, typename U>
[[kernel]] void copy_g(device const T* src [[buffer(0)]], device U* dst [[buffer(1)]],
                       constant const int* src_shape [[buffer(2)]],
                       constant const int64_t* src_strides [[buffer(3)]], constant const int& ndim [[buffer(5)]],
                       uint index [[thread_position_in_grid]]) {
  const auto src_idx = elem_to_loc<long>(index, src_shape, src_strides, ndim);
  dst[index] = static_cast<U>(src[src_idx]);
}

template <typename T, typename U>
[[kernel]] void copy_g_nd2(device const T* src [[buffer(0)]], device U* dst [[buffer(1)]],
                           constant const int64_t* src_strides [[buffer(3)]],
                           uint2 index [[thread_position_in_grid]], uint2 grid_dim [[threads_per_grid]]) {
  const auto src_idx = elem_to_loc_2(index, src_strides);
  dst[index.x + int64_t(grid_dim.x) * index.y] = static_cast<U>(src[src_idx]);
}

template <typename T, typename U, int N = 2>
[[kernel]] void copy_gg_nd3(device const T* src [[buffer(0)]], device U* dst [[buffer(1)]],
                            constant const int64_t* src_strides [[buffer(3)]],
                            constant const int64_t* dst_strides [[buffer(4)]],
                            constant const int& width [[buffer(5)]], uint3 index [[thread_position_in_grid]]) {
  // N elements along the last axis.
  auto src_idx = elem_to_loc_3(uint3(index.x * N, index.y, index.z), src_strides);
  auto dst_idx = elem_to_loc_3(uint3(index.x * N, index.y, index.z), dst_strides);
  for (int i = 0; i < N && int(index.x) * N + i < width; ++i) {
    dst[dst_idx] = static_cast<U>(src[src_idx]);
    src_idx += src_strides[2];
    dst_idx += dst_strides[2];
  }
}

#define instantiate_copy(name, in, out)                                                        \
  template [[host_name("g_copy_" name)]] [[kernel]] decltype(copy_g<in, out>) copy_g<in, out>; \
  template [[host_name("g2_copy_" name)]] [[kernel]] decltype(copy_g_nd2<in, out>) copy_g_nd2<in, out>;   \
  template [[host_name("gg3_copy_" name)]] [[kernel]] decltype(copy_gg_nd3<in, out>) copy_gg_nd3<in, out>;

instantiate_copy("float32float16", float, half)
instantiate_copy("float32bfloat16", float, bfloat)
instantiate_copy("float32int32", float, int32_t)
instantiate_copy("int8float32", int8_t, float)
instantiate_copy("uint64uint64", uint64_t, uint64_t)
