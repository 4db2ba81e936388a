// SIMD-group functions that depend on lanes which take no part.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>

using namespace metal;

// case shuffle_from_returned: the partner has returned.
kernel void shuffle_from_returned_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                         constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i >= n) return;
  y[i] = simd_shuffle_xor(x[i], 1);  // FAULT first
}

kernel void shuffle_from_returned_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                         constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const float other = simd_shuffle_xor(i < n ? x[i] : 0.0f, 1);
  if (i < n) y[i] = other;
}

// case broadcast_from_missing: the last SIMD-group of the threadgroup has no such lane.
kernel void broadcast_from_missing_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                          uint i [[thread_position_in_grid]]) {
  y[i] = simd_broadcast(x[i], 31);  // FAULT first
}

kernel void broadcast_from_missing_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                          uint i [[thread_position_in_grid]]) {
  y[i] = simd_broadcast_first(x[i]);
}

// case shuffle_in_branch: the partner took the other branch.
kernel void shuffle_in_branch_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                     uint i [[thread_position_in_grid]]) {
  float v = x[i];
  if (v < 0.0f) v = -simd_shuffle(v, ushort((i + 1) % 32));  // FAULT first
  y[i] = v;
}

kernel void shuffle_in_branch_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                     uint i [[thread_position_in_grid]]) {
  float v = x[i];
  const float next = simd_shuffle(v, ushort((i + 1) % 32));
  if (v < 0.0f) v = -next;
  y[i] = v;
}

// case shuffle_down_in_loop: lanes leave the loop at different times, but the tree needs them all.
kernel void shuffle_down_in_loop_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                        constant uint& n [[buffer(2)]], uint lane [[thread_index_in_simdgroup]]) {
  float last = 0.0f;
  for (uint i = lane; i < n; i += 32) {
    last = x[i];
    last += simd_shuffle_down(last, 16);  // FAULT first
  }
  y[lane] = last;
}

kernel void shuffle_down_in_loop_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                        constant uint& n [[buffer(2)]], uint lane [[thread_index_in_simdgroup]]) {
  float last = 0.0f;
  for (uint i = lane; i < n; i += 32) last = x[i];
  last += simd_shuffle_down(last, 16);
  y[lane] = last;
}

// case quad_of_three: one thread of the quad is not there.
kernel void quad_of_three_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  if (i % 4 == 2) return;
  y[i] = quad_broadcast(x[i], 2);  // FAULT first
}

kernel void quad_of_three_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  const float v = quad_broadcast(x[i], 2);
  if (i % 4 == 2) return;
  y[i] = v;
}

// case half_of_the_lanes: a matrix product that half of the lanes leave out.
kernel void half_of_the_lanes_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                     uint lane [[thread_index_in_simdgroup]]) {
  simdgroup_float8x8 a, b, c;
  simdgroup_load(a, x, 8);
  simdgroup_load(b, x + 64, 8);
  c = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  if (lane < 16) simdgroup_multiply_accumulate(c, a, b, c);  // FAULT first
  simdgroup_store(c, y, 8);
}

kernel void half_of_the_lanes_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                     uint lane [[thread_index_in_simdgroup]]) {
  simdgroup_float8x8 a, b, c;
  simdgroup_load(a, x, 8);
  simdgroup_load(b, x + 64, 8);
  c = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  simdgroup_multiply_accumulate(c, a, b, c);
  simdgroup_store(c, y, 8);
}

// case short_simdgroup: the threadgroup is no multiple of 32 threads.
kernel void short_simdgroup_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  simdgroup_float8x8 a;
  simdgroup_load(a, x + 64 * simdgroup, 8);   // FAULT first
  simdgroup_store(a, y + 64 * simdgroup, 8);  // FAULT second
}

kernel void short_simdgroup_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint simdgroup [[simdgroup_index_in_threadgroup]],
                                   uint threads [[threads_per_threadgroup]]) {
  if (32 * (simdgroup + 1) > threads) return;
  simdgroup_float8x8 a;
  simdgroup_load(a, x + 64 * simdgroup, 8);
  simdgroup_store(a, y + 64 * simdgroup, 8);
}
