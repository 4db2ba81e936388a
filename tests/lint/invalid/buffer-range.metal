// expect: buffer-range 5
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(31)]], uint i [[thread_position_in_grid]]) {
  x[i] = 1;
}
