// expect: attribute-index 5
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer]], uint i [[thread_position_in_grid]]) {
  x[i] = 1;
}
