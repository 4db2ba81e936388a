// expect: builtin-type 6, builtin-type 7
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]],
              int i [[thread_position_in_grid]],
              uint2 lane [[thread_index_in_simdgroup]]) {
  x[i] = lane.x;
}
