// Reductions of a whole array: atomics of each SIMD-group, and the last threadgroup adding up what all left.
#include <metal_stdlib>

using namespace metal;

struct Extremes {
  atomic_uint largest;   // keys in the order of the floats
  atomic_uint smallest;
  atomic_int count;
};

inline uint ordered_key(float v) {
  const uint bits = as_type<uint>(v);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

kernel void reduce_extremes(device const float* x [[buffer(0)]], device Extremes& result [[buffer(1)]],
                            device atomic_float* sum [[buffer(2)]], constant uint& n [[buffer(3)]],
                            uint i [[thread_position_in_grid]], uint grid [[threads_per_grid]]) {
  float high = -INFINITY, low = INFINITY, total = 0;
  int negative = 0;
  for (uint j = i; j < n; j += grid) {
    const float v = x[j];
    high = max(high, v);
    low = min(low, v);
    total += v;
    negative += v < 0 ? 1 : 0;
  }
  high = simd_max(high);
  low = simd_min(low);
  total = simd_sum(total);
  negative = simd_sum(negative);
  if (simd_is_first()) {
    atomic_fetch_max_explicit(&result.largest, ordered_key(high), memory_order_relaxed);
    atomic_fetch_min_explicit(&result.smallest, ordered_key(low), memory_order_relaxed);
    atomic_fetch_add_explicit(&result.count, negative, memory_order_relaxed);
    atomic_fetch_add_explicit(sum, total, memory_order_relaxed);
  }
}

// A product, which no atomic offers: compare and exchange until nobody was in between.
kernel void reduce_product(device const float* x [[buffer(0)]], device atomic_uint* product [[buffer(1)]],
                           constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const float v = simd_product(i < n ? x[i] : 1.0f);
  if (!simd_is_first()) return;
  uint seen = atomic_load_explicit(product, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(product, &seen, as_type<uint>(as_type<float>(seen) * v),
                                                memory_order_relaxed, memory_order_relaxed)) {
  }
}

template <typename T, typename AccT>
[[kernel]] void reduce_all(device const T* x [[buffer(0)]], device AccT* partials [[buffer(1)]],
                           device atomic_uint* done [[buffer(2)]], device AccT* out [[buffer(3)]],
                           constant uint& n [[buffer(4)]], uint i [[thread_position_in_grid]],
                           uint grid [[threads_per_grid]], uint group [[threadgroup_position_in_grid]],
                           uint groups [[threadgroups_per_grid]], uint t [[thread_index_in_threadgroup]],
                           uint threads [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                           uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup AccT shared[32];
  threadgroup bool last;
  AccT sum = 0;
  for (uint j = i; j < n; j += grid) sum += AccT(x[j]);
  sum = simd_sum(sum);
  if (lane == 0) shared[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t == 0) {
    AccT total = 0;
    for (uint s = 0; s < (threads + 31) / 32; s++) total += shared[s];
    partials[group] = total;
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
    last = atomic_fetch_add_explicit(done, 1u, memory_order_relaxed) == groups - 1;
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  if (!last || simdgroup != 0) return;
  sum = 0;
  for (uint g = lane; g < groups; g += 32) sum += partials[g];
  sum = simd_sum(sum);
  if (lane == 0) out[0] = sum;
}

template [[host_name("reduce_all_f32")]] [[kernel]] decltype(reduce_all<float, float>) reduce_all<float, float>;
template [[host_name("reduce_all_f16")]] [[kernel]] decltype(reduce_all<half, float>) reduce_all<half, float>;
template [[host_name("reduce_all_i8")]] [[kernel]] decltype(reduce_all<char, int>) reduce_all<char, int>;
