// expect: attribute-place 5
#include <metal_stdlib>
using namespace metal;

float at(const device float* x [[buffer(0)]], uint i) { return x[i]; }
kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = at(x, i + 1);
}
