// expect: address-space 7
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], threadgroup float* shared [[threadgroup(0)]], uint i [[thread_position_in_grid]]) {

  threadgroup float* p = x;
  shared[i] = p[i];
}
