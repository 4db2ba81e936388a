// expect: std-header 5
#include <metal_stdlib>
using namespace metal;

#include <vector>

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  x[i] = 0;
}
