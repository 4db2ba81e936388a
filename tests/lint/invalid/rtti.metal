// expect: rtti 9
#include <metal_stdlib>
using namespace metal;

struct Base {};
kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  thread Base* b = nullptr;
  x[i] = dynamic_cast<thread Base*>(b) == nullptr;
}
