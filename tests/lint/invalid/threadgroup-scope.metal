// expect: threadgroup-scope 6
#include <metal_stdlib>
using namespace metal;

float turned(float v, uint i) {
  threadgroup float tile[32];
  tile[i] = v;
  return tile[31 - i];
}

kernel void k(device float* x [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
  x[i] = turned(x[i], i);
}
