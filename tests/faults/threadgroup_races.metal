// Races in threadgroup memory.
#include <metal_stdlib>

using namespace metal;

// case scratch_reuse: the scratch of one reduction is written by the next while slot 0 is still being read.
kernel void scratch_reuse_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup float scratch[256];
  scratch[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint s = n / 2; s > 0; s /= 2) {
    if (t < s) scratch[t] += scratch[t + s];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  const float mean = scratch[0] / n;  // FAULT first
  const float d = x[t] - mean;
  scratch[t] = d * d;  // FAULT second
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint s = n / 2; s > 0; s /= 2) {
    if (t < s) scratch[t] += scratch[t + s];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  y[t] = d * rsqrt(scratch[0] / n + 1e-5f);
}

kernel void scratch_reuse_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                 uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup float scratch[256];
  scratch[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint s = n / 2; s > 0; s /= 2) {
    if (t < s) scratch[t] += scratch[t + s];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  const float mean = scratch[0] / n;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float d = x[t] - mean;
  scratch[t] = d * d;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint s = n / 2; s > 0; s /= 2) {
    if (t < s) scratch[t] += scratch[t + s];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  y[t] = d * rsqrt(scratch[0] / n + 1e-5f);
}

// case helper_scratch: the same in a helper that is inlined, with the SIMD-groups' partial sums.
inline float block_sum_faulty(float v, threadgroup float* partial, uint lane, uint simdgroup, uint simdgroups) {
  v = simd_sum(v);
  if (lane == 0) partial[simdgroup] = v;  // FAULT first
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_sum(lane < simdgroups ? partial[lane] : 0.0f);  // FAULT second
}

kernel void helper_scratch_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                  uint t [[thread_index_in_threadgroup]],
                                  uint lane [[thread_index_in_simdgroup]],
                                  uint simdgroup [[simdgroup_index_in_threadgroup]],
                                  uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  const float total = block_sum_faulty(x[t], partial, lane, simdgroup, simdgroups);
  const float squares = block_sum_faulty(x[t] * x[t], partial, lane, simdgroup, simdgroups);
  y[t] = x[t] * total + squares;
}

inline float block_sum_mended(float v, threadgroup float* partial, uint lane, uint simdgroup, uint simdgroups) {
  v = simd_sum(v);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 0) partial[simdgroup] = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_sum(lane < simdgroups ? partial[lane] : 0.0f);
}

kernel void helper_scratch_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                  uint t [[thread_index_in_threadgroup]],
                                  uint lane [[thread_index_in_simdgroup]],
                                  uint simdgroup [[simdgroup_index_in_threadgroup]],
                                  uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  const float total = block_sum_mended(x[t], partial, lane, simdgroup, simdgroups);
  const float squares = block_sum_mended(x[t] * x[t], partial, lane, simdgroup, simdgroups);
  y[t] = x[t] * total + squares;
}

// case tree_without_barrier: a tree reduction whose steps do not wait for each other.
kernel void tree_without_barrier_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                        threadgroup float* scratch [[threadgroup(0)]],
                                        uint t [[thread_index_in_threadgroup]],
                                        uint n [[threads_per_threadgroup]]) {
  scratch[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint s = n / 2; s > 0; s /= 2) {
    if (t < s) {
      const float other = scratch[t + s];  // FAULT first
      scratch[t] += other;                 // FAULT second
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t == 0) y[0] = scratch[0];
}

kernel void tree_without_barrier_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                        threadgroup float* scratch [[threadgroup(0)]],
                                        uint t [[thread_index_in_threadgroup]],
                                        uint n [[threads_per_threadgroup]]) {
  scratch[t] = x[t];
  for (uint s = n / 2; s > 0; s /= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < s) {
      const float other = scratch[t + s];
      scratch[t] += other;
    }
  }
  if (t == 0) y[0] = scratch[0];
}

// case one_buffer_one_barrier: one barrier a step is enough for two buffers that take turns, not for one.
kernel void one_buffer_one_barrier_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                          constant uint& steps [[buffer(2)]],
                                          uint t [[thread_index_in_threadgroup]],
                                          uint n [[threads_per_threadgroup]]) {
  threadgroup float tile[64];
  float sum = 0.0f;
  for (uint k = 0; k < steps; k++) {
    tile[t] = x[k * n + t];  // FAULT first
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum += tile[n - 1 - t];  // FAULT second
  }
  y[t] = sum;
}

kernel void one_buffer_one_barrier_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                          constant uint& steps [[buffer(2)]],
                                          uint t [[thread_index_in_threadgroup]],
                                          uint n [[threads_per_threadgroup]]) {
  threadgroup float tile[2][64];
  float sum = 0.0f;
  for (uint k = 0; k < steps; k++) {
    tile[k % 2][t] = x[k * n + t];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum += tile[k % 2][n - 1 - t];
  }
  y[t] = sum;
}

// case stencil_in_place: neighbours are read and the cell is written without a barrier in between.
kernel void stencil_in_place_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup float cells[128];
  cells[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float sum = cells[(t + n - 1) % n] + cells[t] + cells[(t + 1) % n];  // FAULT first
  cells[t] = sum;                                                           // FAULT second
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = cells[n - 1 - t];
}

kernel void stencil_in_place_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup float cells[128];
  cells[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float sum = cells[(t + n - 1) % n] + cells[t] + cells[(t + 1) % n];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  cells[t] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = cells[n - 1 - t];
}

// case plain_histogram: bins that are counted up without atomics.
kernel void plain_histogram_faulty(device const uchar* x [[buffer(0)]], device uint* y [[buffer(1)]],
                                   uint t [[thread_index_in_threadgroup]]) {
  threadgroup uint bins[16];
  if (t < 16) bins[t] = 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  bins[x[t] & 15]++;  // FAULT first
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 16) y[t] = bins[t];
}

kernel void plain_histogram_mended(device const uchar* x [[buffer(0)]], device uint* y [[buffer(1)]],
                                   uint t [[thread_index_in_threadgroup]]) {
  threadgroup atomic_uint bins[16];
  if (t < 16) atomic_store_explicit(&bins[t], 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&bins[x[t] & 15], 1u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 16) y[t] = atomic_load_explicit(&bins[t], memory_order_relaxed);
}

// case atomic_then_plain: a counter that others still add to is read without an atomic.
kernel void atomic_then_plain_faulty(device const float* x [[buffer(0)]], device uint* y [[buffer(1)]],
                                     uint t [[thread_index_in_threadgroup]]) {
  threadgroup uint count;
  if (t == 0) count = 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (x[t] > 0.0f) {
    atomic_fetch_add_explicit((threadgroup atomic_uint*)&count, 1u, memory_order_relaxed);  // FAULT first
  }
  if (t == 0) y[0] = count;  // FAULT second
}

kernel void atomic_then_plain_mended(device const float* x [[buffer(0)]], device uint* y [[buffer(1)]],
                                     uint t [[thread_index_in_threadgroup]]) {
  threadgroup uint count;
  if (t == 0) count = 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (x[t] > 0.0f) {
    atomic_fetch_add_explicit((threadgroup atomic_uint*)&count, 1u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t == 0) y[0] = count;
}

// case simdgroups_exchange: simdgroup_barrier does not hold the other SIMD-groups.
kernel void simdgroups_exchange_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                       uint t [[thread_index_in_threadgroup]],
                                       uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float shared[64];
  shared[t] = 0.0f;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0) shared[t] = x[t];  // FAULT first
  simdgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 1) y[t - 32] = shared[t - 32];  // FAULT second
}

kernel void simdgroups_exchange_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                       uint t [[thread_index_in_threadgroup]],
                                       uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float shared[64];
  shared[t] = 0.0f;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0) shared[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 1) y[t - 32] = shared[t - 32];
}

// case lanes_exchange: lanes of one SIMD-group talk through memory as if they ran in lockstep.
kernel void lanes_exchange_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                  uint t [[thread_index_in_threadgroup]]) {
  threadgroup float shared[32];
  shared[t] = 0.0f;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  shared[t] = x[t];      // FAULT first
  y[t] = shared[31 - t];  // FAULT second
}

kernel void lanes_exchange_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                  uint t [[thread_index_in_threadgroup]]) {
  threadgroup float shared[32];
  shared[t] = 0.0f;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  shared[t] = x[t];
  simdgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = shared[31 - t];
}

// case byte_neighbours: threads may write neighbouring bytes of one word, but not the same byte.
kernel void byte_neighbours_faulty(device const uchar* x [[buffer(0)]], device uchar* y [[buffer(1)]],
                                   uint t [[thread_index_in_threadgroup]]) {
  threadgroup uchar bytes[65];
  bytes[t + 1] = x[t];  // FAULT first
  bytes[t] = x[t];      // FAULT second
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = bytes[t];
}

kernel void byte_neighbours_mended(device const uchar* x [[buffer(0)]], device uchar* y [[buffer(1)]],
                                   uint t [[thread_index_in_threadgroup]]) {
  threadgroup uchar bytes[64];
  bytes[t] = x[t];
  bytes[t] += 1;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = bytes[63 - t];
}

// case scan_in_place: a step of a prefix scan overwrites what its neighbours have yet to read.
kernel void scan_in_place_faulty(device const uint* x [[buffer(0)]], device uint* y [[buffer(1)]],
                                 uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup uint sums[64];
  sums[t] = x[t];
  for (uint d = 1; d < n; d *= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const uint before = t >= d ? sums[t - d] : 0;  // FAULT first
    sums[t] += before;                             // FAULT second
  }
  y[t] = sums[t];
}

kernel void scan_in_place_mended(device const uint* x [[buffer(0)]], device uint* y [[buffer(1)]],
                                 uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup uint sums[64];
  sums[t] = x[t];
  for (uint d = 1; d < n; d *= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const uint before = t >= d ? sums[t - d] : 0;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sums[t] += before;
  }
  y[t] = sums[t];
}

// case shared_pivot: one thread moves on and changes what the others still look at.
kernel void shared_pivot_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                constant uint& steps [[buffer(2)]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float pivot;
  float v = x[t];
  for (uint k = 0; k < steps; k++) {
    if (t == k) pivot = v;  // FAULT first
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t > k) v -= 0.5f * pivot;  // FAULT second
  }
  y[t] = v;
}

kernel void shared_pivot_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                constant uint& steps [[buffer(2)]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float pivot;
  float v = x[t];
  for (uint k = 0; k < steps; k++) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t == k) pivot = v;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t > k) v -= 0.5f * pivot;
  }
  y[t] = v;
}

// case tile_store: a SIMD-group stores a matrix where another one still reads its operand.
#include <metal_simdgroup_matrix>

kernel void tile_store_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                              uint t [[thread_index_in_threadgroup]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float tile[64];
  tile[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 a;
  simdgroup_load(a, tile, 8);                     // FAULT first
  if (simdgroup == 0) simdgroup_store(a, tile, 8, 0, true);  // FAULT second
  if (simdgroup == 1) simdgroup_store(a, y, 8);
}

kernel void tile_store_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                              uint t [[thread_index_in_threadgroup]],
                              uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float tile[64];
  tile[t] = x[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 a;
  simdgroup_load(a, tile, 8);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0) simdgroup_store(a, tile, 8, 0, true);
  if (simdgroup == 1) simdgroup_store(a, y, 8);
}
