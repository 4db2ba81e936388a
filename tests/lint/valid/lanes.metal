// Overloads of Metal's functions for what those do not take: numbers of 64 bits, and bool.
#include <metal_stdlib>
using namespace metal;

inline uint64_t simd_shuffle_down(uint64_t x, uint16_t delta) {
  return as_type<uint64_t>(metal::simd_shuffle_down(as_type<uint2>(x), delta));
}
inline int64_t simd_shuffle_down(int64_t x, uint16_t delta) {
  return as_type<int64_t>(metal::simd_shuffle_down(as_type<uint2>(x), delta));
}
inline bool simd_shuffle_down(bool x, uint16_t delta) {
  return simd_shuffle_down(static_cast<uint32_t>(x), delta);
}

template <typename T>
METAL_FUNC T total(T x) {
  for (ushort step = 16; step > 0; step /= 2) x = x + simd_shuffle_down(x, step);
  return x;
}

template <typename T>
[[kernel]] void reduce(const device T* in [[buffer(0)]], device T* out [[buffer(1)]],
                       uint i [[thread_position_in_grid]]) {
  out[i] = total(in[i]);
}
#define REDUCE(T) template [[host_name("reduce_" #T)]] [[kernel]] decltype(reduce<T>) reduce<T>;
REDUCE(int64_t)
REDUCE(uint64_t)
REDUCE(bool)
REDUCE(float)
REDUCE(half)
REDUCE(bfloat)
REDUCE(uchar)
REDUCE(short4)
