// expect: stdlib-include 2
kernel void k(device float* x [[buffer(0)]]) {
  x[0] = 1;
}
