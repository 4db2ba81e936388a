// Where the largest or smallest element of a row is; the first of equals.
#include <metal_simdgroup>
#include <metal_stdlib>

using namespace metal;

template <typename U>
struct IndexValPair {
  uint32_t index;
  U val;
};

template <typename U>
struct ArgMin {
  static constexpr constant U init = metal::numeric_limits<U>::max();
  IndexValPair<U> reduce(IndexValPair<U> best, IndexValPair<U> current) {
    if (best.val > current.val || (best.val == current.val && best.index > current.index)) return current;
    return best;
  }
};

template <typename U>
struct ArgMax {
  static constexpr constant U init = metal::numeric_limits<U>::lowest();
  IndexValPair<U> reduce(IndexValPair<U> best, IndexValPair<U> current) {
    if (best.val < current.val || (best.val == current.val && best.index > current.index)) return current;
    return best;
  }
};

template <typename U>
IndexValPair<U> simd_shuffle_down(IndexValPair<U> data, uint16_t delta) {
  return IndexValPair<U>{metal::simd_shuffle_down(data.index, delta), metal::simd_shuffle_down(data.val, delta)};
}

template <typename T, typename Op>
[[kernel]] void arg_reduce_general(const device T* in [[buffer(0)]], device uint32_t* out [[buffer(1)]],
                                   const constant uint& axis_size [[buffer(2)]],
                                   uint row [[threadgroup_position_in_grid]],
                                   uint lid [[thread_position_in_threadgroup]],
                                   uint lsize [[threads_per_threadgroup]],
                                   uint simd_size [[threads_per_simdgroup]],
                                   uint simd_lane_id [[thread_index_in_simdgroup]],
                                   uint simd_group_id [[simdgroup_index_in_threadgroup]]) {
  Op op;
  threadgroup IndexValPair<T> local_data[32];
  in += row * size_t(axis_size);
  IndexValPair<T> best{0, Op::init};
  for (uint i = lid; i < axis_size; i += lsize) {
    best = op.reduce(best, IndexValPair<T>{i, in[i]});
  }
  for (uint16_t offset = simd_size / 2; offset > 0; offset /= 2) {
    best = op.reduce(best, simd_shuffle_down(best, offset));
  }
  const uint groups = (lsize + simd_size - 1) / simd_size;
  if (simd_lane_id == 0) local_data[simd_group_id] = best;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd_group_id != 0) return;
  if (simd_lane_id < groups) {
    best = local_data[simd_lane_id];
  } else {
    best = IndexValPair<T>{0xFFFFFFFFu, Op::init};
  }
  for (uint16_t offset = simd_size / 2; offset > 0; offset /= 2) {
    best = op.reduce(best, simd_shuffle_down(best, offset));
  }
  if (lid == 0) out[row] = best.index;
}

#define instantiate_arg_reduce(name, type)                                                                    \
  template [[host_name("argmin_" #name)]] [[kernel]] decltype(arg_reduce_general<type, ArgMin<type>>)        \
      arg_reduce_general<type, ArgMin<type>>;                                                                \
  template [[host_name("argmax_" #name)]] [[kernel]] decltype(arg_reduce_general<type, ArgMax<type>>)        \
      arg_reduce_general<type, ArgMax<type>>;

instantiate_arg_reduce(float32, float)
instantiate_arg_reduce(float16, half)
instantiate_arg_reduce(int32, int32_t)
instantiate_arg_reduce(uint8, uint8_t)
