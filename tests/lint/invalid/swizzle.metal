// expect: swizzle 8
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  float2 v = float2(x[i], 1);
  v.xx = float2(2, 3);
  x[i] = v.x;
}
