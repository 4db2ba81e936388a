// Softmax of every row, one threadgroup to a row. Rows come out wrong now and then.
#include <metal_stdlib>
using namespace metal;

struct Max {
  static float simd(float v) { return simd_max(v); }
  static float pair(float a, float b) { return max(a, b); }
};
struct Sum {
  static float simd(float v) { return simd_sum(v); }
  static float pair(float a, float b) { return a + b; }
};

// Gives every thread the maximum or the sum over the threadgroup.
template <typename Op>
inline float reduce(float v, threadgroup float* scratch, uint lane, uint simdgroup, uint simdgroups) {
  v = Op::simd(v);
  if (lane == 0) scratch[simdgroup] = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  v = scratch[0];
  for (uint i = 1; i < simdgroups; i++) v = Op::pair(v, scratch[i]);
  return v;
}

[[kernel]] void softmax(const device float* x [[buffer(0)]], device float* y [[buffer(1)]],
                        constant uint& dim [[buffer(2)]], uint row [[threadgroup_position_in_grid]],
                        uint thread_index [[thread_index_in_threadgroup]],
                        uint threads [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float scratch[32];
  const device float* in = x + row * dim;
  device float* out = y + row * dim;

  float largest = -INFINITY;
  for (uint i = thread_index; i < dim; i += threads) largest = max(largest, in[i]);
  largest = reduce<Max>(largest, scratch, lane, simdgroup, simdgroups);

  float sum = 0.0f;
  for (uint i = thread_index; i < dim; i += threads) sum += exp(in[i] - largest);
  sum = reduce<Sum>(sum, scratch, lane, simdgroup, simdgroups);

  for (uint i = thread_index; i < dim; i += threads) out[i] = exp(in[i] - largest) / sum;
}
