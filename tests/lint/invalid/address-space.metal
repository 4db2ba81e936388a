// expect: address-space 13, address-space 15, address-space 16, address-space 17
#include <metal_stdlib>
using namespace metal;

struct Pair {
  float a, b;
  float sum() const { return a + b; }
  void clear() { a = b = 0; }
};
kernel void k(device float* x [[buffer(0)]], device Pair* pairs [[buffer(1)]], constant Pair& one [[buffer(2)]],
              threadgroup float* shared [[threadgroup(0)]], uint i [[thread_position_in_grid]]) {
  threadgroup Pair own[2];
  threadgroup float* p = x;
  shared[i] = p[i];
  x[i] = pairs[i].sum();
  x[i] += one.sum();
  own[0].clear();
}
