#include <metal_stdlib>
using namespace metal;

#define TEAM uint lane [[thread_index_in_simdgroup]], ushort group [[simdgroup_index_in_threadgroup]]

struct Table {
  float values[1024];
};
constant constexpr uint rows [[function_constant(7)]];
typedef uint3 Position;

constant bool has_bias [[function_constant(0)]];
constant uint2 shape [[function_constant(65535)]];
constant constexpr float doubled = has_bias ? 2.0f : 1.0f;

// The first and last indices, a typedef as a position, and the most that setBytes takes.
[[kernel, max_total_threads_per_threadgroup(1024)]] void edges(
    const device float* x [[buffer(0)]], device float* y [[buffer(30)]], constant Table& table [[buffer(2)]],
    device const float* bias [[buffer(3), function_constant(has_bias)]],
    threadgroup float* a [[threadgroup(0)]], threadgroup float* b [[threadgroup(30)]],
    Position at [[thread_position_in_grid]], ushort2 inside [[thread_position_in_threadgroup]], TEAM) {
  a[lane] = x[at.x] * table.values[inside.x] * doubled;
  b[group] = a[lane] + shape.x + rows;
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  y[at.x] = b[group] + (has_bias ? bias[0] : 0.0f);
}

// One name for a function and a kernel of another name.
template <typename T, int N>
[[kernel]] void filled(device T* x [[buffer(0)]], device T (&y)[N] [[buffer(1)]],
                       uint i [[thread_position_in_grid]]) {
  threadgroup T tile[N][N + 1];
  tile[i % N][0] = x[i];
  y[i % N] = tile[i % N][0];
}
template [[host_name("filled_32")]] [[kernel]] decltype(filled<float, 32>) filled<float, 32>;
template [[host_name("filled"
                     "_64")]] [[kernel]] void filled<half, 64>(device half*, device half (&)[64], uint);

// What a kernel hands its arguments on to may repeat their attributes; a nested block may have shared memory.
template <int N>
float sum(float values[N], const device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  float all = x[i];
  for (int j = 0; j < N; ++j) all += values[j];
  return all;
}
kernel void nested(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  float values[2] = {1, 2};
  if (x[0] > 0) {
    threadgroup float shared[32];
    shared[i % 32] = x[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    x[i] = shared[31 - i % 32] + sum<2>(values, x, i);
  }
}

kernel void with_defaults(device float* x, constant uint& n, threadgroup float4* s,
                          uint i [[thread_position_in_grid]], uint whole [[threads_per_grid]]) {
  if (i < n && i < whole) x[i] = s[0].x;
}
