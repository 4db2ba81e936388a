// expect: matrix 7
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  float2x2 m = float2x2(1, 2, 3);
  x[i] = m[0][0];
}
