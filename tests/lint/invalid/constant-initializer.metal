// expect: constant-initializer 5
#include <metal_stdlib>
using namespace metal;

constant float scale;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] *= scale;
}
