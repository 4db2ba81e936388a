// expect: call 8, call 9, call 10, call 11, call 12, call 13, call 14, call 15, call 16
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], device long* y [[buffer(1)]], device ulong2* z [[buffer(2)]],
              constant int& n [[buffer(3)]], uint i [[thread_position_in_grid]]) {

  threadgroup_barrier();
  y[i] = simd_sum(y[i]);
  z[i] = simd_shuffle(z[i], 1);
  x[i] = simd_broadcast(i > 2, 0) + simd_any(i > 2);
  x[i] = min(x[i], 1);
  x[i] = max(i, n);
  x[i] = clamp(x[i], 0, 1.0f);
  x[i] = max(half(x[i]), 1.0);
  x[i] = median3(x[i], 1, 2.0f);
}
