// Histogram of bytes: bins in threadgroup memory, then added to those in device memory.
#include <metal_atomic>
#include <metal_stdlib>

using namespace metal;

constant uint bins [[function_constant(0)]];
constant bool weighted [[function_constant(1)]];

kernel void histogram(device const uchar4* values [[buffer(0)]], device atomic_uint* counts [[buffer(1)]],
                      constant uint& length [[buffer(2)]],
                      device atomic_float* weights [[buffer(3), function_constant(weighted)]],
                      device const float* weight_of [[buffer(4), function_constant(weighted)]],
                      threadgroup atomic_uint* local [[threadgroup(0)]],
                      uint2 position [[thread_position_in_grid]], uint2 grid [[threads_per_grid]],
                      uint t [[thread_index_in_threadgroup]], uint2 size [[threads_per_threadgroup]]) {
  const uint threads = size.x * size.y;
  for (uint b = t; b < bins; b += threads) atomic_store_explicit(local + b, 0, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const uint words = (length + 3) / 4;
  for (uint w = position.y * grid.x + position.x; w < words; w += grid.x * grid.y) {
    const uchar4 four = values[w];
    for (uint j = 0; j < 4; j++) {
      if (4 * w + j >= length) break;
      const uint b = uint(four[j]) * bins >> 8;
      atomic_fetch_add_explicit(&local[b], 1, memory_order_relaxed);
      if (weighted) atomic_fetch_add_explicit(&weights[b], weight_of[4 * w + j], memory_order_relaxed);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint b = t; b < bins; b += threads) {
    const uint n = atomic_load_explicit(local + b, memory_order_relaxed);
    if (n > 0) atomic_fetch_add_explicit(&counts[b], n, memory_order_relaxed);
  }
}
