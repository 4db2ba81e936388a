// expect: argument-attribute 5
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint n, uint i [[thread_position_in_grid]]) {
  if (i < n) x[i] = 1;
}
