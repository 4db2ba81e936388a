// expect: atomic-type 5
#include <metal_stdlib>
using namespace metal;

kernel void k(device atomic<half>* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  (void)x;
  (void)i;
}
