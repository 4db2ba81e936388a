// Reads of what nobody wrote.
#include <metal_stdlib>

using namespace metal;

// case fresh_scratch: threadgroup memory is not zero at first.
kernel void fresh_scratch_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 constant uint& steps [[buffer(2)]], uint t [[thread_index_in_threadgroup]],
                                 uint n [[threads_per_threadgroup]]) {
  threadgroup float sums[64];
  for (uint k = 0; k < steps; k++) {
    sums[t] += x[k * n + t];  // FAULT first
  }
  y[t] = sums[t];
}

kernel void fresh_scratch_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 constant uint& steps [[buffer(2)]], uint t [[thread_index_in_threadgroup]],
                                 uint n [[threads_per_threadgroup]]) {
  threadgroup float sums[64];
  sums[t] = 0.0f;
  for (uint k = 0; k < steps; k++) {
    sums[t] += x[k * n + t];
  }
  y[t] = sums[t];
}

// case fresh_output: the kernel adds to an output that was only allocated.
kernel void fresh_output_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                uint i [[thread_position_in_grid]]) {
  y[i] += x[i];  // FAULT first
}

kernel void fresh_output_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                uint i [[thread_position_in_grid]]) {
  y[i] = x[i];
}

// case few_partials: there are fewer SIMD-groups than lanes that read their partial sums.
kernel void few_partials_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                uint t [[thread_index_in_threadgroup]],
                                uint lane [[thread_index_in_simdgroup]],
                                uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float partial[32];
  const float sum = simd_sum(x[t]);
  if (lane == 0) partial[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float total = simd_sum(partial[lane]);  // FAULT first
  if (t == 0) y[0] = total;
}

kernel void few_partials_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                uint t [[thread_index_in_threadgroup]],
                                uint lane [[thread_index_in_simdgroup]],
                                uint simdgroup [[simdgroup_index_in_threadgroup]],
                                uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  const float sum = simd_sum(x[t]);
  if (lane == 0) partial[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float total = simd_sum(lane < simdgroups ? partial[lane] : 0.0f);
  if (t == 0) y[0] = total;
}

// case ragged_tile: what lies past the edge of the matrix is left as it was.
kernel void ragged_tile_faulty(device const half* x [[buffer(0)]], device float* y [[buffer(1)]],
                               constant uint2& shape [[buffer(2)]], uint2 t [[thread_position_in_threadgroup]]) {
  threadgroup half tile[8][8];
  if (t.x < shape.x && t.y < shape.y) tile[t.y][t.x] = x[t.y * shape.x + t.x];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0f;
  for (uint k = 0; k < 8; k++) sum += float(tile[t.y][k]) * float(tile[k][t.x]);  // FAULT first
  if (t.x < shape.x && t.y < shape.y) y[t.y * shape.x + t.x] = sum;
}

kernel void ragged_tile_mended(device const half* x [[buffer(0)]], device float* y [[buffer(1)]],
                               constant uint2& shape [[buffer(2)]], uint2 t [[thread_position_in_threadgroup]]) {
  threadgroup half tile[8][8];
  tile[t.y][t.x] = t.x < shape.x && t.y < shape.y ? x[t.y * shape.x + t.x] : 0.0h;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0f;
  for (uint k = 0; k < 8; k++) sum += float(tile[t.y][k]) * float(tile[k][t.x]);
  if (t.x < shape.x && t.y < shape.y) y[t.y * shape.x + t.x] = sum;
}

// case left_by_another: threadgroup memory holds nothing that another threadgroup wrote.
kernel void left_by_another_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   threadgroup float* table [[threadgroup(0)]],
                                   uint t [[thread_index_in_threadgroup]],
                                   uint g [[threadgroup_position_in_grid]],
                                   uint n [[threads_per_threadgroup]]) {
  if (g == 0) table[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[g * n + t] = table[n - 1 - t];  // FAULT first
}

kernel void left_by_another_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   threadgroup float* table [[threadgroup(0)]],
                                   uint t [[thread_index_in_threadgroup]],
                                   uint g [[threadgroup_position_in_grid]],
                                   uint n [[threads_per_threadgroup]]) {
  table[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[g * n + t] = table[n - 1 - t];
}

// case forgotten_member: a member of a structure is not set; the padding of one never is, and may be copied.
struct Entry {
  uchar tag;
  float weight;
  ushort index;
};

kernel void forgotten_member_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint t [[thread_index_in_threadgroup]]) {
  threadgroup Entry entries[32];
  entries[t].tag = uchar(t);
  entries[t].weight = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const Entry e = entries[31 - t];
  y[t] = e.weight * e.tag + entries[31 - t].index;  // FAULT first
}

kernel void forgotten_member_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint t [[thread_index_in_threadgroup]]) {
  threadgroup Entry entries[32];
  entries[t].tag = uchar(t);
  entries[t].weight = x[t];
  entries[t].index = ushort(t);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const Entry e = entries[31 - t];
  y[t] = e.weight * e.tag + e.index;
}

// case skipped_vectors: vectors of three have a fourth place that is never written.
kernel void skipped_vectors_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint t [[thread_index_in_threadgroup]]) {
  threadgroup float3 points[32];
  if (t % 4 != 3) points[t] = float3(x[t], 1.0f, 2.0f);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float3 p = points[31 - t];  // FAULT first
  y[t] = p.x + p.y + p.z;
}

kernel void skipped_vectors_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint t [[thread_index_in_threadgroup]]) {
  threadgroup float3 points[32];
  points[t] = float3(x[t], 1.0f, 2.0f);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float3 p = points[31 - t];
  y[t] = p.x + p.y + p.z;
}
