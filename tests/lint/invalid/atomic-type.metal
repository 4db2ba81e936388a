// expect: atomic-type 5, atomic-type 10, atomic-type 11, atomic-type 12, atomic-type 13
#include <metal_stdlib>
using namespace metal;

kernel void k(device atomic<half>* x [[buffer(0)]], device atomic_float* sums [[buffer(1)]],
              device atomic_uint* counts [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  threadgroup atomic_float shared;
  (void)x;
  atomic_fetch_add_explicit(sums, 1.0f, memory_order_relaxed);
  atomic_fetch_max_explicit(sums, 1.0f, memory_order_relaxed);
  atomic_fetch_or_explicit(sums, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&shared, 1.0f, memory_order_relaxed);
  atomic_max_explicit(counts, i, memory_order_relaxed);
}
