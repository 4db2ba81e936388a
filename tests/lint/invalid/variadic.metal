// expect: variadic 5
#include <metal_stdlib>
using namespace metal;

float any_of(int n, ...) { return n; }

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  x[i] = any_of(1, 2);
}
