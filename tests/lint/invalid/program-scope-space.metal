// expect: program-scope-space 5
#include <metal_stdlib>
using namespace metal;

float scale = 2.0f;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] *= scale;
}
