// expect: argument-pointer 5
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* device* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i][0] = 1;
}
