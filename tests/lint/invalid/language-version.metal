// expect: language-version 5, language-version 6, language-version 8, language-version 9; --language-version 2.4
#include <metal_stdlib>
using namespace metal;

kernel void k(device bfloat* x [[buffer(0)]], device atomic_uint* n [[buffer(1)]],
              device coherent(device) uint* y [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  x[i] = 1;
  atomic_fetch_add_explicit(n, 1, memory_order_acq_rel);
  threadgroup_barrier(mem_flags::mem_device, thread_scope_device);
}
