// Floating literals without a suffix are float, beside the parameter of a template too.
#include <metal_stdlib>
using namespace metal;

template <typename T>
T gelu(T v) {
  return exp(v * 0.5) + tanh(0.79 * (v + 0.04 * v)) + sqrt(v * .5) + log(1e-3 + v) + rsqrt(v + 5.);
}
template <typename T>
float least(T x) {
  return fmin(x, 0x1p-3) + min(float(x), 1'0.5);
}

kernel void literals(device float* x [[buffer(0)]], device half* h [[buffer(1)]],
                     uint i [[thread_position_in_grid]]) {
  h[i] = h[i] * 0.25 + 1;
  x[i] = gelu(x[i]) + gelu(h[i]) + gelu(float2(x[i])).x + least(h[i]) + least(1) + 1.0f + 2.5h + 1e3;
}
