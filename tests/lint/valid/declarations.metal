// Declarations in the forms that libraries of kernels write them in.
#include <metal_stdlib>
using namespace metal;

typedef struct{ float scale; } Plain;
typedef union{
  float f;
  uint u;
} Either;

typedef void (im2col_t)(device float* x, uint3 g [[threadgroup_position_in_grid]]);
using other_t = void(device half* x, uint3 g [[threadgroup_position_in_grid]]);
template <typename T>
kernel void im2col(device T* x, uint3 g [[threadgroup_position_in_grid]]) {
  x[g.x] = 1;
}
template [[host_name("im2col_float")]] kernel im2col_t im2col<float>;
template [[host_name("im2col_half")]] kernel other_t im2col<half>;

// The definition says what the arguments hold.
kernel void later(device float* x, uint i);
kernel void later(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = 1; }

kernel void many [[max_total_threads_per_threadgroup(64)]] (device float* x [[buffer(0)]]) { x[0] = 1; }

#define MIN(a, b) ((a) < (b) ? (a) : (b))
kernel void unrolled(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  constexpr int N = 4;
  Plain p = {2};
  Either e;
  e.u = i;
#pragma unroll(MIN(N / 2, 4 * N))
  for (int j = 0; j < N; j++) x[i] += p.scale + e.f;
  _Pragma("clang loop unroll(full)") for (int j = 0; j < N; j++) x[i] += j;
}
