// expect: recursion 6
#include <metal_stdlib>
using namespace metal;

float odd(float n);
float even(float n) { return n == 0 ? 1 : odd(n - 1); }
float odd(float n) { return n == 0 ? 0 : even(n - 1); }

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  x[i] = even(x[i]);
}
