// expect: virtual 6
#include <metal_stdlib>
using namespace metal;

struct Base {
  virtual float get() const { return 1; }
};

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  Base b;
  x[i] = b.get();
}
