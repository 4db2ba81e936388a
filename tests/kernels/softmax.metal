// Softmax over rows: in one pass with the row in registers, and in a loop that keeps a running maximum.
#include <metal_common>
#include <metal_simdgroup>
#include <metal_stdlib>

using namespace metal;

#define SIMD_SIZE 32
#define N_READS 4

template <typename T>
inline T softmax_exp(T x) {
  return fast::exp(x);
}

template <typename T, typename AccT = T>
[[kernel]] void softmax_single_row(const device T* in, device T* out, constant int& axis_size,
                                   uint gid [[threadgroup_position_in_grid]],
                                   uint lid [[thread_position_in_threadgroup]],
                                   uint simd_lane_id [[thread_index_in_simdgroup]],
                                   uint simd_group_id [[simdgroup_index_in_threadgroup]]) {
  threadgroup AccT local_max[SIMD_SIZE];
  threadgroup AccT local_normalizer[SIMD_SIZE];

  AccT ld[N_READS];
  in += gid * size_t(axis_size) + lid * N_READS;
  const int left = axis_size - int(lid * N_READS);
  for (int i = 0; i < N_READS; i++) {
    ld[i] = i < left ? AccT(in[i]) : AccT(-INFINITY);
  }
  if (simd_group_id == 0) {
    local_max[simd_lane_id] = -INFINITY;
    local_normalizer[simd_lane_id] = 0;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  AccT maxval = ld[0];
  for (int i = 1; i < N_READS; i++) {
    maxval = (maxval < ld[i]) ? ld[i] : maxval;
  }
  maxval = simd_max(maxval);
  if (simd_lane_id == 0) {
    local_max[simd_group_id] = maxval;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd_group_id == 0) {
    maxval = simd_max(local_max[simd_lane_id]);
    if (simd_lane_id == 0) {
      local_max[0] = maxval;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  maxval = local_max[0];

  AccT normalizer = 0;
  for (int i = 0; i < N_READS; i++) {
    ld[i] = softmax_exp(ld[i] - maxval);
    normalizer += ld[i];
  }
  normalizer = simd_sum(normalizer);
  if (simd_lane_id == 0) {
    local_normalizer[simd_group_id] = normalizer;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simd_group_id == 0) {
    normalizer = simd_sum(local_normalizer[simd_lane_id]);
    if (simd_lane_id == 0) {
      local_normalizer[0] = normalizer;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  normalizer = 1 / local_normalizer[0];

  out += gid * size_t(axis_size) + lid * N_READS;
  for (int i = 0; i < N_READS; i++) {
    if (i < left) out[i] = T(ld[i] * normalizer);
  }
}

template <typename T, typename AccT = T>
[[kernel]] void softmax_looped(const device T* in, device T* out, constant int& axis_size,
                               uint gid [[threadgroup_position_in_grid]],
                               uint lid [[thread_position_in_threadgroup]],
                               uint lsize [[threads_per_threadgroup]],
                               uint simd_lane_id [[thread_index_in_simdgroup]],
                               uint simd_group_id [[simdgroup_index_in_threadgroup]]) {
  threadgroup AccT local_max[SIMD_SIZE];
  threadgroup AccT local_normalizer[SIMD_SIZE];
  in += gid * size_t(axis_size);
  out += gid * size_t(axis_size);

  AccT maxval = -FLT_MAX;
  AccT normalizer = 0;
  for (int offset = lid; offset < axis_size; offset += lsize) {
    const AccT v = in[offset];
    const AccT previous = maxval;
    maxval = max(maxval, v);
    normalizer = normalizer * softmax_exp(previous - maxval) + softmax_exp(v - maxval);
  }
  AccT previous = maxval;
  maxval = simd_max(maxval);
  normalizer = simd_sum(normalizer * softmax_exp(previous - maxval));

  previous = maxval;
  if (simd_lane_id == 0) {
    local_max[simd_group_id] = maxval;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint groups = (lsize + SIMD_SIZE - 1) / SIMD_SIZE;
  maxval = simd_max(simd_lane_id < groups ? local_max[simd_lane_id] : -FLT_MAX);
  normalizer = normalizer * softmax_exp(previous - maxval);
  if (simd_lane_id == 0) {
    local_normalizer[simd_group_id] = normalizer;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  normalizer = simd_sum(simd_lane_id < groups ? local_normalizer[simd_lane_id] : 0.0f);
  normalizer = 1 / normalizer;
  for (int offset = lid; offset < axis_size; offset += lsize) {
    out[offset] = T(softmax_exp(AccT(in[offset]) - maxval) * normalizer);
  }
}

#define instantiate_softmax(name, itype)                                                      \
  template [[host_name("block_softmax_" #name)]] [[kernel]] void                             \
  softmax_single_row<itype, float>(const device itype* in, device itype* out,                \
                                   constant int& axis_size,                                  \
                                   uint gid [[threadgroup_position_in_grid]],                \
                                   uint lid [[thread_position_in_threadgroup]],              \
                                   uint simd_lane_id [[thread_index_in_simdgroup]],          \
                                   uint simd_group_id [[simdgroup_index_in_threadgroup]]);   \
  template [[host_name("looped_softmax_" #name)]] [[kernel]] void                            \
  softmax_looped<itype, float>(const device itype* in, device itype* out,                    \
                               constant int& axis_size,                                      \
                               uint gid [[threadgroup_position_in_grid]],                    \
                               uint lid [[thread_position_in_threadgroup]],                  \
                               uint lsize [[threads_per_threadgroup]],                       \
                               uint simd_lane_id [[thread_index_in_simdgroup]],              \
                               uint simd_group_id [[simdgroup_index_in_threadgroup]]);

instantiate_softmax(float32, float)
instantiate_softmax(float16, half)
instantiate_softmax(bfloat16, bfloat)
