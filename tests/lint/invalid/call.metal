// expect: call 8, call 9, call 10, call 11
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], device long* y [[buffer(1)]], device ulong2* z [[buffer(2)]],
              uint i [[thread_position_in_grid]]) {

  threadgroup_barrier();
  y[i] = simd_sum(y[i]);
  z[i] = simd_shuffle(z[i], 1);
  x[i] = simd_broadcast(i > 2, 0) + simd_any(i > 2);
}
