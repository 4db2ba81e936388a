// Races in device memory, within a dispatch.
#include <metal_stdlib>

using namespace metal;

// case one_word_of_all: every threadgroup writes its maximum to the same word.
kernel void one_word_of_all_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
  const float largest = simd_max(x[i]);
  if (t == 0) y[0] = largest;  // FAULT first
}

kernel void one_word_of_all_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]],
                                   uint g [[threadgroup_position_in_grid]]) {
  const float largest = simd_max(x[i]);
  if (t == 0) y[g] = largest;
}

// case lanes_of_one_word: two threads of a threadgroup write each word.
kernel void lanes_of_one_word_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                     uint i [[thread_position_in_grid]]) {
  y[i / 2] = x[i];  // FAULT first
}

kernel void lanes_of_one_word_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                     uint i [[thread_position_in_grid]]) {
  if (i % 2 == 0) y[i / 2] = x[i];
}

// case plain_sum: a sum over all threads without atomics.
kernel void plain_sum_faulty(device const uint* x [[buffer(0)]], device uint* y [[buffer(1)]],
                             uint i [[thread_position_in_grid]]) {
  y[0] += x[i];  // FAULT first
}

kernel void plain_sum_mended(device const uint* x [[buffer(0)]], device atomic_uint* y [[buffer(1)]],
                             uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(y, x[i], memory_order_relaxed);
}

// case colliding_scatter: gradients of rows that several tokens share.
kernel void colliding_scatter_faulty(device const float* x [[buffer(0)]], device const uint* token [[buffer(1)]],
                                     device float* y [[buffer(2)]], uint2 at [[thread_position_in_grid]],
                                     uint2 grid [[threads_per_grid]]) {
  y[token[at.y] * grid.x + at.x] += x[at.y * grid.x + at.x];  // FAULT first
}

kernel void colliding_scatter_mended(device const float* x [[buffer(0)]], device const uint* token [[buffer(1)]],
                                     device atomic_float* y [[buffer(2)]], uint2 at [[thread_position_in_grid]],
                                     uint2 grid [[threads_per_grid]]) {
  atomic_fetch_add_explicit(&y[token[at.y] * grid.x + at.x], x[at.y * grid.x + at.x], memory_order_relaxed);
}

// case plain_look: a counter of other threadgroups is looked at without an atomic.
kernel void plain_look_faulty(device atomic_uint* count [[buffer(0)]], device uint* y [[buffer(1)]],
                              uint t [[thread_index_in_threadgroup]], uint g [[threadgroup_position_in_grid]]) {
  if (t == 0) atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);  // FAULT first
  if (t == 1) y[g] = *(device uint*)count > 1000;                         // FAULT second
}

kernel void plain_look_mended(device atomic_uint* count [[buffer(0)]], device uint* y [[buffer(1)]],
                              uint t [[thread_index_in_threadgroup]], uint g [[threadgroup_position_in_grid]]) {
  if (t == 0) atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);
  if (t == 1) y[g] = atomic_load_explicit(count, memory_order_relaxed) > 1000;
}

// case last_without_fence: the last threadgroup reads what the others left, and nothing orders that.
kernel void last_without_fence_faulty(device const float* x [[buffer(0)]], device float* partial [[buffer(1)]],
                                      device atomic_uint* done [[buffer(2)]], device float* y [[buffer(3)]],
                                      uint i [[thread_position_in_grid]],
                                      uint t [[thread_index_in_threadgroup]],
                                      uint g [[threadgroup_position_in_grid]],
                                      uint groups [[threadgroups_per_grid]]) {
  threadgroup bool last;
  const float sum = simd_sum(x[i]);
  if (t == 0) {
    partial[g] = sum;  // FAULT first
    last = atomic_fetch_add_explicit(done, 1u, memory_order_relaxed) == groups - 1;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  if (!last) return;
  float total = 0.0f;
  for (uint j = t; j < groups; j += 32) total += partial[j];  // FAULT second
  total = simd_sum(total);
  if (t == 0) y[0] = total;
}

kernel void last_without_fence_mended(device const float* x [[buffer(0)]], device float* partial [[buffer(1)]],
                                      device atomic_uint* done [[buffer(2)]], device float* y [[buffer(3)]],
                                      uint i [[thread_position_in_grid]],
                                      uint t [[thread_index_in_threadgroup]],
                                      uint g [[threadgroup_position_in_grid]],
                                      uint groups [[threadgroups_per_grid]]) {
  threadgroup bool last;
  const float sum = simd_sum(x[i]);
  if (t == 0) {
    partial[g] = sum;
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
    last = atomic_fetch_add_explicit(done, 1u, memory_order_relaxed) == groups - 1;
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  if (!last) return;
  float total = 0.0f;
  for (uint j = t; j < groups; j += 32) total += partial[j];
  total = simd_sum(total);
  if (t == 0) y[0] = total;
}

// case halo_in_place: cells at the edge of a threadgroup belong to another one.
kernel void halo_in_place_faulty(device float* y [[buffer(0)]], constant uint& n [[buffer(1)]],
                                 uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float halo[66];
  halo[t + 1] = y[i];
  if (t == 0) halo[0] = i > 0 ? y[i - 1] : 0.0f;           // FAULT first
  if (t == 63) halo[65] = i + 1 < n ? y[i + 1] : 0.0f;     // FAULT third
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  y[i] = halo[t] + halo[t + 1] + halo[t + 2];  // FAULT second
}

kernel void halo_in_place_mended(device float* y [[buffer(0)]], constant uint& n [[buffer(1)]],
                                 uint i [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float halo[66];
  halo[t + 1] = y[i];
  if (t == 0) halo[0] = 0.0f;
  if (t == 63) halo[65] = 0.0f;
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  y[i] = halo[t] + halo[t + 1] + halo[t + 2];
}

// case shifted_alias: two arguments are ranges of one buffer that overlap.
kernel void shifted_alias_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  const float v = x[i];  // FAULT first
  y[i] = 2.0f * v;       // FAULT second
}

kernel void shifted_alias_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  const float v = x[i];
  y[i] = 2.0f * v;
}

// case vector_overlap: vectors of four are stored every second element.
kernel void vector_overlap_faulty(device const float* x [[buffer(0)]], device packed_float4* y [[buffer(1)]],
                                  uint i [[thread_position_in_grid]]) {
  device float* to = (device float*)y + 2 * i;
  *(device packed_float4*)to = packed_float4(x[i]);  // FAULT first
}

kernel void vector_overlap_mended(device const float* x [[buffer(0)]], device packed_float4* y [[buffer(1)]],
                                  uint i [[thread_position_in_grid]]) {
  device float* to = (device float*)y + 4 * i;
  *(device packed_float4*)to = packed_float4(x[i]);
}
