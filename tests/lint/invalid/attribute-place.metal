// expect: attribute-place 5, attribute-place 8, attribute-place 10, attribute-place 11
#include <metal_stdlib>
using namespace metal;

[[max_total_threads_per_threadgroup(64)]] float at(const device float* x, uint i) { return x[i]; }

struct Arguments {
  uint n [[buffer(1)]];
};
typedef void kernel_t(device float* x [[host_name("x")]]);
typedef uint index_t [[thread_position_in_grid]];

kernel void k(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = at(x, i + 1);
}
