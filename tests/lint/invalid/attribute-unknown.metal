// expect: attribute-unknown 5
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_gird]]) {
  x[i] = 1;
}
