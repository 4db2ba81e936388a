#include <metal_compute>
#include <metal_stdlib>
using namespace metal;
#if defined(__METAL_MACOS__) && defined(__HAVE_BFLOAT__)
constant int kMac = 1;
#endif
kernel void consts(device float* x [[buffer(0)]], volatile device atomic_uint* c [[buffer(1)]],
                   device const packed_half4* ph [[buffer(2)]], constant float* const cc [[buffer(3)]],
                   const device uchar4* u4 [[buffer(4)]], device ulong2* ul [[buffer(5)]],
                   uint i [[thread_position_in_grid]]) {
  int ex = 0;
  float r = FLT_MAX + FLT_MIN + FLT_EPSILON + float(HALF_MAX) + INT_MAX + UINT_MAX + CHAR_BIT + LONG_MAX +
            M_PI_F + float(M_PI_H) + INFINITY + NAN + MAXFLOAT + HUGE_VALF + SHRT_MAX + UCHAR_MAX + INT_MIN +
            ULONG_MAX + FLT_DIG + M_SQRT2_F + M_LN2_F + float(MAXHALF);
  atomic_fetch_max_explicit(c, 3u, memory_order_relaxed);
  auto f4 = float4(ph[i]);
  r += f4.x + cc[0] + float4(u4[i]).w + ul[0].x;
  bool b = all(f4 == float4(1)) || !any(isnan(f4));
  ushort us = ushort(i);
  us <<= 2;
  short s = as_type<short>(us);
  uint2 pk = uint2(as_type<uint>(half2(r)), pack_float_to_snorm2x16(float2(r)));
  float2 up = unpack_snorm2x16_to_float(pk.y);
  r += up.x + s + b + kMac;
  float4x4 m(1);
  m[0] = f4;
  float3x4 m34 = float3x4(f4, f4, f4);
  r += (transpose(m34) * f4).x + (m * m)[1][1];
  half3x3 hm(1.0h);
  r += float(hm[0].x);
  const uint k = min(i, 3u) + max(1u, i) + abs(int(i)) + absdiff(i, 3u) + addsat(uchar(3), uchar(4)) +
                 hadd(i, 3u) + mad24(i, 3u, 4u) + mul24(i, 3u) + clamp(i, 0u, 3u) + insert_bits(i, 3u, 1, 2) +
                 madhi(i, i, i) + rhadd(i, 1u) + subsat(i, 1u);
  r += k + fract(r) + frexp(r, ex) + ldexp(r, 2) + modf(r, f4.x) + trunc(r) + rint(r) + round(r) + ceil(r) +
       copysign(r, -1.0f) + fdim(r, 1.0f) + fmin(r, 1.0f) + nextafter(r, 1.0f) + sincos(r, f4.y) + sinpi(r) +
       asinh(r) + atan2(r, 1.0f) + exp10(r) + log10(r) + median3(r, 1.f, 2.f) + reflect(f4, f4).x +
       refract(f4, f4, .5).x + faceforward(f4, f4, f4).x + length_squared(f4) + fast::normalize(f4).x +
       precise::divide(r, 2.0) + fast::divide(r, 2.f) + select(f4, f4, f4 > 0).x + ilogb(r) + isfinite(r) +
       isnormal(r) + signbit(r) + isordered(r, r);
  x[i] = r;
  // lanes
  x[i] += simd_shuffle(r, us) + simd_shuffle_up(r, 1) + simd_shuffle_down(f4, 1).x +
          simd_prefix_exclusive_sum(r) + simd_prefix_inclusive_product(r) + quad_shuffle(r, 1) +
          quad_broadcast(r, 0) + simd_product(r) + simd_and(i) + simd_or(i) + simd_xor(i) + simd_min(r) +
          simd_max(r) + simd_all(b) + simd_any(b) + simd_broadcast(r, 3) + ulong(simd_active_threads_mask()) +
          simd_shuffle_rotate_down(r, 3) + simd_shuffle_and_fill_up(r, 0.f, 1);
}
