// <metal_pack>: normalised integers in one word to and from floats. The first component is in the lowest
// bits.
#pragma once

#include "softmetal_math.h"

namespace softmetal {

SOFTMETAL_INLINE float from_unorm(uint32_t word, int shift, int bits) {
  const uint32_t limit = (1u << bits) - 1;
  return float(int32_t((word >> shift) & limit)) / float(int32_t(limit));
}
SOFTMETAL_INLINE float from_snorm(uint32_t word, int shift, int bits) {
  const int32_t value = int32_t(word << (32 - bits - shift)) >> (32 - bits);
  return max_op::call(float(value) / float((1 << (bits - 1)) - 1), -1.0f);
}
// NaN gives 0.
SOFTMETAL_INLINE uint32_t to_unorm(float x, int shift, int bits) {
  return uint32_t(int32_t(rint(saturate(x) * float((1 << bits) - 1)))) << shift;
}
SOFTMETAL_INLINE uint32_t to_snorm(float x, int shift, int bits) {
  const float limit = float((1 << (bits - 1)) - 1);
  const float bounded_x = isnan_op::call(x) ? 0.0f : clamp_op::call(x, -1.0f, 1.0f);
  return (uint32_t(int32_t(rint(bounded_x * limit))) & ((1u << bits) - 1)) << shift;
}
SOFTMETAL_INLINE float from_srgb(float x) {
  return x <= 0.04045f ? x / 12.92f : powr((x + 0.055f) / 1.055f, 2.4f);
}
SOFTMETAL_INLINE float to_srgb(float x) {
  x = saturate(x);
  return x < 0.0031308f ? 12.92f * x : 1.055f * powr(x, 1.0f / 2.4f) - 0.055f;
}

}  // namespace softmetal

namespace metal {

#define SOFTMETAL_UNPACK(T)                                                                       \
  SOFTMETAL_INLINE T##4 unpack_unorm4x8_to_##T(uint x) {                                          \
    return T##4(float4(softmetal::from_unorm(x, 0, 8), softmetal::from_unorm(x, 8, 8),            \
                       softmetal::from_unorm(x, 16, 8), softmetal::from_unorm(x, 24, 8)));        \
  }                                                                                               \
  SOFTMETAL_INLINE T##4 unpack_snorm4x8_to_##T(uint x) {                                          \
    return T##4(float4(softmetal::from_snorm(x, 0, 8), softmetal::from_snorm(x, 8, 8),            \
                       softmetal::from_snorm(x, 16, 8), softmetal::from_snorm(x, 24, 8)));        \
  }                                                                                               \
  SOFTMETAL_INLINE T##4 unpack_unorm4x8_srgb_to_##T(uint x) {                                     \
    return T##4(float4(softmetal::from_srgb(softmetal::from_unorm(x, 0, 8)),                      \
                       softmetal::from_srgb(softmetal::from_unorm(x, 8, 8)),                      \
                       softmetal::from_srgb(softmetal::from_unorm(x, 16, 8)),                     \
                       softmetal::from_unorm(x, 24, 8)));                                         \
  }                                                                                               \
  SOFTMETAL_INLINE T##2 unpack_unorm2x16_to_##T(uint x) {                                         \
    return T##2(float2(softmetal::from_unorm(x, 0, 16), softmetal::from_unorm(x, 16, 16)));       \
  }                                                                                               \
  SOFTMETAL_INLINE T##2 unpack_snorm2x16_to_##T(uint x) {                                         \
    return T##2(float2(softmetal::from_snorm(x, 0, 16), softmetal::from_snorm(x, 16, 16)));       \
  }                                                                                               \
  SOFTMETAL_INLINE T##4 unpack_unorm10a2_to_##T(uint x) {                                         \
    return T##4(float4(softmetal::from_unorm(x, 0, 10), softmetal::from_unorm(x, 10, 10),         \
                       softmetal::from_unorm(x, 20, 10), softmetal::from_unorm(x, 30, 2)));       \
  }                                                                                               \
  SOFTMETAL_INLINE T##3 unpack_unorm565_to_##T(ushort x) {                                        \
    return T##3(float3(softmetal::from_unorm(x, 11, 5), softmetal::from_unorm(x, 5, 6),           \
                       softmetal::from_unorm(x, 0, 5)));                                          \
  }                                                                                               \
  SOFTMETAL_INLINE uint pack_##T##_to_unorm4x8(T##4 v) {                                          \
    return softmetal::to_unorm(v.x, 0, 8) | softmetal::to_unorm(v.y, 8, 8) |                      \
           softmetal::to_unorm(v.z, 16, 8) | softmetal::to_unorm(v.w, 24, 8);                     \
  }                                                                                               \
  SOFTMETAL_INLINE uint pack_##T##_to_snorm4x8(T##4 v) {                                          \
    return softmetal::to_snorm(v.x, 0, 8) | softmetal::to_snorm(v.y, 8, 8) |                      \
           softmetal::to_snorm(v.z, 16, 8) | softmetal::to_snorm(v.w, 24, 8);                     \
  }                                                                                               \
  SOFTMETAL_INLINE uint pack_##T##_to_srgb_unorm4x8(T##4 v) {                                     \
    return softmetal::to_unorm(softmetal::to_srgb(v.x), 0, 8) |                                   \
           softmetal::to_unorm(softmetal::to_srgb(v.y), 8, 8) |                                   \
           softmetal::to_unorm(softmetal::to_srgb(v.z), 16, 8) | softmetal::to_unorm(v.w, 24, 8); \
  }                                                                                               \
  SOFTMETAL_INLINE uint pack_##T##_to_unorm2x16(T##2 v) {                                         \
    return softmetal::to_unorm(v.x, 0, 16) | softmetal::to_unorm(v.y, 16, 16);                    \
  }                                                                                               \
  SOFTMETAL_INLINE uint pack_##T##_to_snorm2x16(T##2 v) {                                         \
    return softmetal::to_snorm(v.x, 0, 16) | softmetal::to_snorm(v.y, 16, 16);                    \
  }                                                                                               \
  SOFTMETAL_INLINE uint pack_##T##_to_unorm10a2(T##4 v) {                                         \
    return softmetal::to_unorm(v.x, 0, 10) | softmetal::to_unorm(v.y, 10, 10) |                   \
           softmetal::to_unorm(v.z, 20, 10) | softmetal::to_unorm(v.w, 30, 2);                    \
  }                                                                                               \
  SOFTMETAL_INLINE ushort pack_##T##_to_unorm565(T##3 v) {                                        \
    return ushort(softmetal::to_unorm(v.x, 11, 5) | softmetal::to_unorm(v.y, 5, 6) |              \
                  softmetal::to_unorm(v.z, 0, 5));                                                \
  }
SOFTMETAL_UNPACK(float)
SOFTMETAL_UNPACK(half)
#undef SOFTMETAL_UNPACK

}  // namespace metal
