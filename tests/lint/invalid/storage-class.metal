// expect: storage-class 7
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  static float calls = 0;
  x[i] = calls;
}
