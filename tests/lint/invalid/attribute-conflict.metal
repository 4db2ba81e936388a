// expect: attribute-conflict 6
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]],
              uint i [[thread_position_in_grid]] [[thread_index_in_threadgroup]]) {
  x[i] = 1;
}
