// expect: long-long 7
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  long long wide = i;
  x[i] = wide;
}
