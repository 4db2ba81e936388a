// expect: inline-size 8
#include <metal_stdlib>
using namespace metal;

struct Table {
  float values[2048];
};
kernel void k(device float* x [[buffer(0)]], constant Table& table [[buffer(1)]],
              uint i [[thread_position_in_grid]]) {
  x[i] = table.values[i];
}
