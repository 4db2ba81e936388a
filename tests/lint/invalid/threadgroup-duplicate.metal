// expect: threadgroup-duplicate 6
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]], threadgroup float* a [[threadgroup(1)]],
              threadgroup float* b [[threadgroup(1)]],
              uint i [[thread_index_in_threadgroup]]) {
  a[i] = x[i];
  b[i] = a[i];
}
