// expect: simdgroup-matrix 7
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  simdgroup_matrix<float, 16, 16> m;
  x[i] = sizeof(m);
}
