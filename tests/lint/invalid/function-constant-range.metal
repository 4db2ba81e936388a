// expect: function-constant-range 5
#include <metal_stdlib>
using namespace metal;

constant bool first [[function_constant(65536)]];

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  x[i] = first;
}
