// expect: kernel-call 9, kernel-call 10, kernel-call 13
#include <metal_stdlib>
using namespace metal;

kernel void ones(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = 1;
}
kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  ones(x, i);
  k(x, i);
}
void helper(device float* x) {
  ones(x, 0);
}
