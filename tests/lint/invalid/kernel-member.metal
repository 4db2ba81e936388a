// expect: kernel-member 6
#include <metal_stdlib>
using namespace metal;

struct Holder {
  kernel void k(device float* x [[buffer(0)]]) {
    x[0] = 1;
  }
};
