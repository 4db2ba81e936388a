// expect: kernel-name 5
#include <metal_stdlib>
using namespace metal;

kernel void main(device float* x [[buffer(0)]]) {
  x[0] = 1;
}
