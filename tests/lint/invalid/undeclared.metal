// expect: undeclared 7, undeclared 8, undeclared 9, undeclared 10, undeclared 11, undeclared 12
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  x[i] = scale * x[i];
  event e;
  x[i] = erf(x[i]);
  x[i] = erfc(x[i]);
  x[i] = expm1(x[i]);
  x[i] = log1p(x[i]);
}
