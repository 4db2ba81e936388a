// expect: threadgroup-type 6
#include <metal_stdlib>
using namespace metal;

kernel void k(device float* x [[buffer(0)]],
              device float* a [[threadgroup(0)]],
              uint i [[thread_index_in_threadgroup]]) {
  a[i] = x[i];
}
