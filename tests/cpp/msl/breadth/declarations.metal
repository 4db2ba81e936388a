#include <metal_stdlib>
using namespace metal;
struct Uniforms {
  uint w;
};
struct Args {
  uint n;
  float f[3];
};
kernel void add_arrays(device const float* inA, device const float* inB, device float* result,
                       uint index [[thread_position_in_grid]]) {
  result[index] = inA[index] + inB[index];
}
kernel void implicit_tg(device float* x, threadgroup float* s [[threadgroup(0)]], constant Args& a,
                        uint i [[thread_index_in_threadgroup]]) {
  s[i] = x[i] * a.f[1];
  x[i] = s[i];
}
kernel void two(device float* x [[buffer(0)]], device float* y [[buffer(1)]],
                uint i [[thread_position_in_grid]]) {
  device float* p = (i & 1) ? x : y;
  p[i] = 1;
  device float* const q = x;
  q[0] += 1;
  const device float* const r = y;
  p[0] += r[1];
  device float** pp = &p;
  **pp += 1;
}
static inline uint hash(uint x) {
  x ^= x >> 16;
  x *= 0x7feb352dU;
  return x;
}
kernel void monte(device atomic_uint& count [[buffer(0)]], constant Uniforms* u [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
  uint h = hash(i);
  if (h > u->w) atomic_fetch_add_explicit(&count, 1u, memory_order_relaxed);
  uint expected = 0;
  atomic_compare_exchange_weak_explicit(&count, &expected, 1u, memory_order_relaxed, memory_order_relaxed);
}
void kernel void_first(device float* x [[buffer(0)]]) { x[0] = 1; }
extern "C" kernel void ext(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = 1; }
extern "C" {
kernel void ext2(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = 1; }
}
inline namespace v1 {
kernel void inl(device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = 1; }
}  // namespace v1
namespace {
constant int kAnon = 2;
kernel void anon(device int* x [[buffer(0)]], uint i [[thread_position_in_grid]]) { x[i] = kAnon; }
}  // namespace
namespace a::b {
template <typename T>
kernel void nested(device T* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = T(1);
}
template [[host_name("nested_f")]] kernel void nested<float>(device float*, uint);
}  // namespace a::b
template [[host_name("nested_i")]] kernel void a::b::nested<int>(device int*, uint);
[[kernel]] [[max_total_threads_per_threadgroup(128)]] void two_groups(device int* x [[buffer(0)]],
                                                                      uint i [[thread_position_in_grid]]) {
  x[i] = 3;
}
[[host_name("renamed")]] [[kernel]] void other_name(device int* x [[buffer(0)]],
                                                    uint i [[thread_position_in_grid]]) {
  x[i] = 3;
}
kernel void no_args() {}
kernel __attribute__((unused)) void attr2(device int* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = 3;
}
kernel void ptr_restrict(device float* __restrict x [[buffer(0)]],
                         device const float* restrict_ [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  x[i] = restrict_[i];
}
kernel void arr_param(device float x[] [[buffer(0)]], constant float c[4] [[buffer(1)]],
                      uint i [[thread_position_in_grid]]) {
  x[i] = c[i & 3];
}
kernel void nested_array(device float (*x)[4] [[buffer(0)]], device float (&y)[8] [[buffer(1)]],
                         uint i [[thread_position_in_grid]]) {
  x[i][2] = y[i];
}
kernel void maybe([[maybe_unused]] device float* x [[buffer(0)]], uint i [[thread_position_in_grid]],
                  [[maybe_unused]] uint j [[threads_per_grid]]) {
  x[i] = 3;
}
