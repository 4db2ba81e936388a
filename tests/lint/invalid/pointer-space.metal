// expect: pointer-space 5
#include <metal_stdlib>
using namespace metal;

float first(float* p) { return p[0]; }

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  float v[2] = {1, 2};
  x[i] = first(v);
}
