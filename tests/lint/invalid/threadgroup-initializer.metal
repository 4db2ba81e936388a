// expect: threadgroup-initializer 7
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  threadgroup float total = 0.0f;
  total += x[i];
}
