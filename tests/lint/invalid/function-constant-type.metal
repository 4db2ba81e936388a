// expect: function-constant-type 8
#include <metal_stdlib>
using namespace metal;

struct Shape {
  uint rows, columns;
};
constant Shape shape [[function_constant(0)]];

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {

  x[i] = shape.rows;
}
