// expect: threadgroup-range 6
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]],
              threadgroup float* a [[threadgroup(31)]],
              uint i [[thread_index_in_threadgroup]]) {
  a[i] = x[i];
}
