// Accesses outside of what is bound, and misaligned ones.
#include <metal_simdgroup_matrix>
#include <metal_stdlib>

using namespace metal;

// case past_the_end: the last thread reads one element too far.
kernel void past_the_end_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                uint i [[thread_position_in_grid]]) {
  y[i] = x[i + 1] - x[i];  // FAULT first
}

kernel void past_the_end_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                uint i [[thread_position_in_grid]], uint n [[threads_per_grid]]) {
  y[i] = i + 1 < n ? x[i + 1] - x[i] : 0.0f;
}

// case rounded_grid: a grid of whole threadgroups, and no test for those past the end.
kernel void rounded_grid_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = i < n ? x[i] : 0.0f;  // FAULT first
}

kernel void rounded_grid_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i < n) y[i] = x[i];
}

// case before_the_start: the first thread reads before the buffer.
kernel void before_the_start_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint i [[thread_position_in_grid]]) {
  const int previous = int(i) - 1;
  y[i] = x[i] - x[previous];  // FAULT first
}

kernel void before_the_start_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint i [[thread_position_in_grid]]) {
  const int previous = max(int(i) - 1, 0);
  y[i] = x[i] - x[previous];
}

// case wrapped_index: the same with an unsigned index, which lands 16 GiB further.
kernel void wrapped_index_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  y[i] = x[i] - x[i - 1];  // FAULT first
}

kernel void wrapped_index_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 uint i [[thread_position_in_grid]]) {
  y[i] = i > 0 ? x[i] - x[i - 1] : 0.0f;
}

// case wrapped_product: row * stride does not fit in 32 bits, and for some rows comes out inside all the same.
kernel void wrapped_product_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   constant uint& stride [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const uint offset = i * stride;
  y[i] = x[offset];  // FAULT first
}

kernel void wrapped_product_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   constant uint& stride [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  const ulong offset = ulong(i) * stride % 64;  // a ring of 64
  y[i] = x[offset];
}

// case past_the_view: the buffer goes on, but what was bound of it does not.
kernel void past_the_view_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  float sum = 0.0f;
  for (uint j = 0; j <= n; j++) sum += x[j];  // FAULT first
  y[i] = sum;
}

kernel void past_the_view_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  float sum = 0.0f;
  for (uint j = 0; j < n; j++) sum += x[j];
  y[i] = sum;
}

// case before_the_view: what lies before it in the buffer was not bound either.
kernel void before_the_view_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint i [[thread_position_in_grid]]) {
  y[int(i) - 4] = x[i];  // FAULT first
}

kernel void before_the_view_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint i [[thread_position_in_grid]]) {
  if (i >= 4) y[int(i) - 4] = x[i];
}

// case small_threadgroup_argument: the host gave less threadgroup memory than the kernel uses.
kernel void small_threadgroup_argument_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                              threadgroup float* scratch [[threadgroup(0)]],
                                              uint t [[thread_index_in_threadgroup]],
                                              uint n [[threads_per_threadgroup]]) {
  scratch[2 * t] = x[t];  // FAULT first
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = scratch[2 * (n - 1 - t)];
}

kernel void small_threadgroup_argument_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                              threadgroup float* scratch [[threadgroup(0)]],
                                              uint t [[thread_index_in_threadgroup]],
                                              uint n [[threads_per_threadgroup]]) {
  scratch[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = scratch[n - 1 - t];
}

// case two_arguments: one threadgroup argument runs into the next.
kernel void two_arguments_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 threadgroup float* keys [[threadgroup(0)]],
                                 threadgroup float* values [[threadgroup(1)]],
                                 uint t [[thread_index_in_threadgroup]]) {
  values[t] = x[t];
  keys[t + 1] = x[t];  // FAULT first
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = values[31 - t] + keys[32 - t];
}

kernel void two_arguments_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 threadgroup float* keys [[threadgroup(0)]],
                                 threadgroup float* values [[threadgroup(1)]],
                                 uint t [[thread_index_in_threadgroup]]) {
  values[t] = x[t];
  keys[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = values[31 - t] + keys[31 - t];
}

// case array_into_neighbour: an index past one array of the kernel lands in the next.
kernel void array_into_neighbour_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                        uint t [[thread_index_in_threadgroup]]) {
  threadgroup float rows[4][8];
  threadgroup float others[4][8];
  others[t / 8][t % 8] = x[t];
  rows[t / 8 + 1][t % 8] = x[t];  // FAULT first
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = others[t % 4][t / 4];
}

kernel void array_into_neighbour_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                        uint t [[thread_index_in_threadgroup]]) {
  threadgroup float rows[4][8];
  threadgroup float others[4][8];
  others[t / 8][t % 8] = x[t];
  rows[t / 8][t % 8] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = others[t % 4][t / 4];
}

// case before_the_array: threadgroup memory before its start.
kernel void before_the_array_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint t [[thread_index_in_threadgroup]]) {
  threadgroup float cells[64];
  cells[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = cells[int(t) - 1];  // FAULT first
}

kernel void before_the_array_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint t [[thread_index_in_threadgroup]]) {
  threadgroup float cells[64];
  cells[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = cells[max(int(t) - 1, 0)];
}

// case struct_array: an array of structures, one too far.
struct Particle {
  float3 position;
  float mass;
  packed_float3 velocity;
};

kernel void struct_array_faulty(device Particle* particles [[buffer(0)]], constant uint& n [[buffer(1)]],
                                uint i [[thread_position_in_grid]]) {
  if (i > n) return;
  particles[i].mass *= 2.0f;  // FAULT first
}

kernel void struct_array_mended(device Particle* particles [[buffer(0)]], constant uint& n [[buffer(1)]],
                                uint i [[thread_position_in_grid]]) {
  if (i >= n) return;
  particles[i].mass *= 2.0f;
}

// case straddling_vector: a vector of four begins inside the buffer and ends outside.
kernel void straddling_vector_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                     constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (4 * i >= n) return;
  const float4 v = *(device const float4*)(x + 4 * i);  // FAULT first
  y[i] = v.x + v.y + v.z + v.w;
}

kernel void straddling_vector_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                     constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (4 * i >= n) return;
  float sum = 0.0f;
  for (uint j = 4 * i; j < min(4 * i + 4, n); j++) sum += x[j];
  y[i] = sum;
}

// case constant_table: a table in constant memory is too short.
kernel void constant_table_faulty(constant float* table [[buffer(0)]], device const uchar* x [[buffer(1)]],
                                  device float* y [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = table[x[i]];  // FAULT first
}

kernel void constant_table_mended(constant float* table [[buffer(0)]], device const uchar* x [[buffer(1)]],
                                  device float* y [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = table[x[i] & 15];
}

// case past_inline_bytes: what follows a parameter that was given as bytes.
kernel void past_inline_bytes_faulty(constant uint4& shape [[buffer(0)]], device uint* y [[buffer(1)]],
                                     uint i [[thread_position_in_grid]]) {
  constant uint* sizes = (constant uint*)&shape;
  y[i] = sizes[i];  // FAULT first
}

kernel void past_inline_bytes_mended(constant uint4& shape [[buffer(0)]], device uint* y [[buffer(1)]],
                                     uint i [[thread_position_in_grid]]) {
  constant uint* sizes = (constant uint*)&shape;
  y[i] = sizes[i % 4];
}

// case matrix_edge: a tile of eight rows where fewer are left.
kernel void matrix_edge_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]]) {
  simdgroup_float8x8 tile;
  simdgroup_load(tile, x, 8);  // FAULT first
  simdgroup_store(tile, y, 8, 0, true);
}

kernel void matrix_edge_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                               uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float rows[64];
  for (uint j = lane; j < 64; j += 32) rows[j] = j < 48 ? x[j] : 0.0f;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 tile;
  simdgroup_load(tile, rows, 8);
  simdgroup_store(tile, y, 8, 0, true);
}

// case atomic_bin: an atomic outside of its buffer.
kernel void atomic_bin_faulty(device const uint* x [[buffer(0)]], device atomic_uint* bins [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(&bins[x[i]], 1u, memory_order_relaxed);  // FAULT first
}

kernel void atomic_bin_mended(device const uint* x [[buffer(0)]], device atomic_uint* bins [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
  atomic_fetch_add_explicit(&bins[min(x[i], 7u)], 1u, memory_order_relaxed);
}

// case misaligned_vector: a vector of four at any float.
kernel void misaligned_vector_faulty(device const float* x [[buffer(0)]], device float4* y [[buffer(1)]],
                                     uint i [[thread_position_in_grid]]) {
  y[i] = *(device const float4*)(x + 4 * i + 1);  // FAULT first
}

kernel void misaligned_vector_mended(device const float* x [[buffer(0)]], device float4* y [[buffer(1)]],
                                     uint i [[thread_position_in_grid]]) {
  y[i] = float4(*(device const packed_float4*)(x + 4 * i + 1));
}

// case misaligned_word: a 32-bit word at any 16-bit one, as in a block with a 2-byte scale in front.
kernel void misaligned_word_faulty(device const uchar* x [[buffer(0)]], device uint* y [[buffer(1)]],
                                   uint i [[thread_position_in_grid]]) {
  device const uchar* block = x + 18 * i;
  y[i] = *(device const uint*)(block + 2);  // FAULT first
}

kernel void misaligned_word_mended(device const uchar* x [[buffer(0)]], device uint* y [[buffer(1)]],
                                   uint i [[thread_position_in_grid]]) {
  device const uchar* block = x + 18 * i;
  device const ushort* words = (device const ushort*)(block + 2);
  y[i] = uint(words[0]) | uint(words[1]) << 16;
}
