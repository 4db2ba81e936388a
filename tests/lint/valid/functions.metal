#include <metal_atomic>
#include <metal_simdgroup_matrix>
#include <metal_stdlib>

// Without `using namespace metal`, and with names that other languages have taken.
using metal::uint2;

constexpr int factorial(int n) { return n <= 1 ? 1 : n * factorial(n - 1); }
template <int N>
float power(float x) {
  return x * power<N - 1>(x);
}
template <>
float power<0>(float) {
  return 1;
}
float norm(float x) { return metal::abs(x); }
float norm(metal::float2 v) { return norm(v.x) + norm(v.y); }
metal::float4 exp(metal::float4 v) { return metal::float4(metal::exp(v.x), metal::exp(v.y), 0, 1); }
float apply(float (*f)(float), float x) { return f(x); }
float twice(float x) { return 2 * x; }

enum class Mode : uint { off, on };

namespace shape {
struct components {
  uint global, local;
  uint swizzle[2];
};
}  // namespace shape

kernel void names(device float* x [[buffer(0)]], device shape::components* join [[buffer(1)]],
                  constant Mode& mode [[buffer(2)]], device metal::atomic<float>* sum [[buffer(3)]],
                  uint i [[thread_position_in_grid]]) {
  uint local = join[i].local, global = join[i].global, generic = 3;
  generic += local + global;
  x[i] = factorial(5) + power<3>(x[i]) + norm(metal::float2(1, 2)) + exp(metal::float4(x[i])).x +
         apply(twice, 2.0f) + generic;
  if (mode == Mode::on) metal::atomic_fetch_add_explicit(sum, x[i], metal::memory_order_relaxed);
  for (uint virtual_row = 0, end = i > 3 ? 4 : 5; virtual_row < end; ++virtual_row) x[virtual_row] += 1.0h;
}

kernel void tiles(const device half* a [[buffer(0)]], device float* c [[buffer(1)]],
                  threadgroup half* s [[threadgroup(0)]], uint lane [[thread_index_in_simdgroup]]) {
  metal::simdgroup_half8x8 left, right;
  metal::simdgroup_float8x8 sum = metal::make_filled_simdgroup_matrix<float, 8>(0.0f);
  s[lane] = a[lane];
  metal::simdgroup_barrier(metal::mem_flags::mem_threadgroup);
  metal::simdgroup_load(left, a, 8);
  metal::simdgroup_load(right, s, 8, metal::ulong2(0, 0), true);
  metal::simdgroup_multiply_accumulate(sum, left, right, sum);
  metal::simdgroup_store(sum, c, 8);
  const metal::half2 h = metal::half2(a[0], 1.0h);
  c[64] = metal::simd_sum(metal::dot(metal::float2(h), metal::float2(1))) + metal::max(1, 2) +
          as_type<float>(0x3f800000u) + metal::fast::sin(c[1]) + metal::precise::exp(c[2]) +
          metal::popcount(lane) + metal::clamp(c[3], 0.0f, 1.0f);
}
