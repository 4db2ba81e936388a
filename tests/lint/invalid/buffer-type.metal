// expect: buffer-type 5
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], float a [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  x[i] = a;
}
