// expect: goto 7
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  if (x[i] < 0) goto end;
  x[i] = 0;
end:
  x[i] += 1;
}
