// expect: bfloat-conversion 7, bfloat-conversion 8, bfloat-conversion 9, bfloat-conversion 10, bfloat-conversion 11
#include <metal_stdlib>
using namespace metal;

kernel void k(device bfloat* x [[buffer(0)]], device half* y [[buffer(1)]],
              uint i [[thread_position_in_grid]]) {
  x[i] = 2 * sin(float(x[i]));
  x[i] = y[i];
  y[i] = x[i];
  x[i] = max(x[i], x[i + 1]);
  x[i] = abs(x[i]);
  x[i] = bfloat(sin(float(y[i])));
  x[i] = bfloat(max(x[i], x[i + 1]));
  y[i] = half(x[i]);
}
