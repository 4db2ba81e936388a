// half and bfloat, vectors, swizzles, packed vectors, matrices, arrays and limits of our <metal_stdlib>.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "softmetal/msl/stdlib/softmetal_stdlib.h"

namespace {

float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
uint32_t to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
// From the bits: this file must hold under -ffast-math too, where the library's own tests fold.
bool is_nan(float x) { return (to_bits(x) & 0x7FFFFFFF) > 0x7F800000; }
bool is_negative(float x) { return to_bits(x) >> 31 != 0; }

struct Format {
  int mantissa_bits, least_exponent;
  uint16_t infinity;
};
constexpr Format kHalf{10, -14, 0x7C00}, kBfloat{7, -126, 0x7F80};

double widen(uint16_t bits, const Format& f) {
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  const int exponent = (bits & 0x7FFF) >> f.mantissa_bits, fraction = bits & ((1 << f.mantissa_bits) - 1);
  const int whole = exponent == 0 ? fraction : fraction | (1 << f.mantissa_bits);
  return sign * std::ldexp(whole, (exponent == 0 ? 1 : exponent) - 1 + f.least_exponent - f.mantissa_bits);
}
// Round to nearest even, by way of the integer multiple of the unit in the last place.
uint16_t narrow(float x, const Format& f) {
  const uint16_t sign = is_negative(x) ? 0x8000 : 0;
  const double a = std::fabs(double(x));
  const double limit = std::ldexp(1.0, 2 - f.least_exponent);
  if (a >= limit) return sign | f.infinity;
  const int e = a == 0.0 ? f.least_exponent : std::max(std::ilogb(a), f.least_exponent);
  const long n = std::lrint(std::ldexp(a, f.mantissa_bits - e));
  const long bits = n + (long(e - f.least_exponent) << f.mantissa_bits);
  return uint16_t(sign | std::min<long>(bits, f.infinity));
}

template <class T>
void check_conversions(const Format& f) {
  int wrong = 0;
  for (uint32_t b = 0; b < 0x10000; b++) {
    const T small = T::from_bits(uint16_t(b));
    const uint16_t magnitude = b & 0x7FFF;
    const float wide = small;
    if (magnitude > f.infinity) {
      wrong += !is_nan(wide) || !is_nan(float(T(wide)));
      continue;
    }
    if (magnitude == f.infinity) {
      wrong += wide != ((b & 0x8000) != 0 ? -INFINITY : INFINITY);
    } else {
      wrong += double(wide) != widen(uint16_t(b), f) || is_negative(wide) != ((b & 0x8000) != 0);
      // The tie above this number and its neighbours on both sides.
      const double next = magnitude + 1 == f.infinity ? std::ldexp(1.0, 2 - f.least_exponent)
                                                      : std::fabs(widen(uint16_t(b + 1), f));
      const float tie = std::copysign(float((std::fabs(double(wide)) + next) / 2), wide);
      for (const float x : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, wide * 4.0f)}) {
        wrong += T(x).bits != narrow(x, f);
      }
    }
    wrong += T(wide).bits != b;
  }
  CHECK(wrong == 0);

  std::mt19937 random(1);
  for (int i = 0; i < 300000; i++) {
    const uint32_t bits = uint32_t(random());
    const float x = from_bits(bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) {
      wrong += !is_nan(float(T(x))) || ((T(x).bits & 0x8000) != 0) != (bits >> 31 != 0);
    } else {
      wrong += T(x).bits != narrow(x, f);
    }
  }
  for (const uint32_t bits : {0x7F800001u, 0xFF800001u, 0x7FC00000u, 0x7FFFFFFFu, 0x7F80FFFFu}) {
    wrong += !is_nan(float(T(from_bits(bits))));
  }
  for (const uint32_t special : {0u, 1u, 0x80000000u, 0x80000001u, 0x007FFFFFu, 0x7F7FFFFFu, 0x7F800000u}) {
    const volatile uint32_t bits = special;  // a compiler may take the sign off a zero that it knows
    wrong += T(from_bits(bits)).bits != narrow(from_bits(bits), f);
  }
  CHECK(wrong == 0);
}

template <class A, class B>
constexpr bool same = metal::is_same<A, B>::value;

template <class T, int N>
bool equal(metal::vec<T, N> a, metal::vec<T, N> b) {
  return metal::all(a == b);
}

}  // namespace

TEST_CASE("half and bfloat convert exactly, round to nearest even and keep NaN") {
  check_conversions<half>(kHalf);
  check_conversions<bfloat>(kBfloat);
}

TEST_CASE("arithmetic on small floats has MSL's types and one rounding") {
  static_assert(same<decltype(half(1.0f) + half(1.0f)), half>);
  static_assert(same<decltype(half(1.0f) * 2), half>);
  static_assert(same<decltype(half(1.0f) * 2.0f), float>);
  static_assert(same<decltype(2.0f - bfloat(1.0f)), float>);
  static_assert(same<decltype(half(1.0f) + bfloat(1.0f)), float>);
  CHECK(float(half(1.0f) + half(0x1p-11f)) == 1.0f);
  CHECK(float(half(1.0f) + half(0x1.8p-11f)) == 0x1.004p0f);
  CHECK(float(bfloat(256.0f) + 1) == 256.0f);
  CHECK(float(half(60000.0f) + half(60000.0f)) == INFINITY);
  CHECK(float(-half(0.0f)) == 0.0f);
  CHECK((-half(0.0f)).bits == 0x8000);
  half h = 3;
  h += 1.5f;
  h *= 2;
  h -= half(1.0f);
  h /= 2;
  CHECK(float(h) == 4.0f);
  CHECK(float(h++) == 4.0f);
  CHECK(float(--h) == 4.0f);
  CHECK(h == 4);
  CHECK(h < 4.5f);
  CHECK(h >= half(4.0f));
  CHECK(bfloat(2.0f) != half(3.0f));
  CHECK(int(half(-2.75f)) == -2);
  CHECK((half(1.0f) ? true : false));
  CHECK(!half(0.0f));
  float f = 1.5f;
  f += h;
  f *= bfloat(2.0f);
  CHECK(f == 11.0f);
  int whole = 7;
  whole -= half(2.5f);
  CHECK(whole == 4);
  float4 v(1);
  v.y += h;
  v[2] *= h;
  CHECK(equal(v, float4(1, 5, 4, 1)));
  enum { Three = 3 };
  CHECK(float(h * Three) == 12.0f);
  // In a conditional an integer becomes the small float, as the usual conversions of MSL have it.
  const bool yes = h == 4;
  static_assert(same<decltype(yes ? h : 0), half>);
  CHECK(float(yes ? h : 0) == 4.0f);
  CHECK(float(yes ? 7 : bfloat(1.0f)) == 7.0f);
  CHECK((uint(h) == 4 && long(h) == 4 && uchar(h) == 4 && bool(h)));
  CHECK(equal(int2(h, 1), int2(4, 1)));
  CHECK(equal(uchar2(bfloat(3.0f)), uchar2(3)));
  constexpr half compile_time = half(0.1f);
  CHECK(compile_time.bits == 0x2E66);
}

TEST_CASE("vector types have the sizes and alignments of MSL") {
  CHECK(sizeof(float2) == 8);
  CHECK(alignof(float2) == 8);
  CHECK(sizeof(float3) == 16);
  CHECK(alignof(float3) == 16);
  CHECK(sizeof(float4) == 16);
  CHECK(sizeof(half3) == 8);
  CHECK(alignof(half3) == 8);
  CHECK(sizeof(bfloat4) == 8);
  CHECK(sizeof(uchar3) == 4);
  CHECK(alignof(uchar3) == 4);
  CHECK(sizeof(bool2) == 2);
  CHECK(sizeof(ulong3) == 32);
  CHECK(alignof(long4) == 32);
  CHECK(sizeof(packed_float3) == 12);
  CHECK(alignof(packed_float3) == 4);
  CHECK(sizeof(packed_half3) == 6);
  CHECK(alignof(packed_uchar4) == 1);
  CHECK(sizeof(float2x3) == 32);
  CHECK(alignof(float3x2) == 8);
  CHECK(sizeof(float4x4) == 64);
  CHECK(sizeof(half3x3) == 24);
  CHECK(sizeof(metal::atomic_uint) == 4);
  CHECK(sizeof(metal::array<float3, 2>) == 32);
  CHECK(__is_trivial(half));
  CHECK(__is_trivial(float4));
  CHECK(__is_trivial(packed_half3));
  CHECK(__is_trivial(float4x4));
  CHECK(sizeof(ulong) == 8);
  CHECK(same<uint, uint32_t>);
  CHECK(same<ulong, uint64_t>);
}

TEST_CASE("vectors are made from scalars, parts and other vectors") {
  CHECK(equal(float3(2), float3(2, 2, 2)));
  CHECK(equal(float4(float2(1, 2), 3, 4.0f), float4(1, 2, 3, 4)));
  CHECK(equal(float4(1, float2(2, 3), 4), float4(1, 2, 3, 4)));
  CHECK(equal(float4(1, 2, float2(3, 4)), float4(1, 2, 3, 4)));
  CHECK(equal(float4(float2(1, 2), float2(3, 4)), float4(1, 2, 3, 4)));
  CHECK(equal(float4(float3(1, 2, 3), 4), float4(1, 2, 3, 4)));
  CHECK(equal(float4(1, float3(2, 3, 4)), float4(1, 2, 3, 4)));
  CHECK(equal(float4(packed_float3(1, 2, 3), 4), float4(1, 2, 3, 4)));
  CHECK(equal(int3(float3(1.9f, -1.9f, 0.5f)), int3(1, -1, 0)));
  CHECK(equal(bool2(float2(0, 0.5f)), bool2(false, true)));
  CHECK(equal(half2(uint2(3, 4)), half2(3, 4)));
  CHECK(equal(uchar2(half2(3.5f, 4.0f)), uchar2(3, 4)));
  float4 implicit = 1;
  CHECK(implicit.w == 1.0f);
  constexpr float4 table[2] = {float4(1, 2, 3, 4), float4(0.5f)};
  CHECK(table[0].b + table[1].g == 3.5f);
  // What MSL refuses is refused here too.
  static_assert(!metal::is_convertible<float3, half3>::value);
  static_assert(!metal::is_convertible<float2, float3>::value);
  static_assert(metal::is_convertible<packed_float3, float3>::value);
  static_assert(metal::is_convertible<float3, packed_float3>::value);
  static_assert(!metal::is_convertible<packed_half3, float3>::value);
}

TEST_CASE("components have two names and a number") {
  float4 v(1, 2, 3, 4);
  CHECK(v.r == 1.0f);
  CHECK(v.a == 4.0f);
  v.g = 7;
  CHECK(v.y == 7.0f);
  for (uint i = 0; i < 4; i++) v[i] = float(i * i);
  CHECK(equal(v, float4(0, 1, 4, 9)));
}

TEST_CASE("swizzles read, and write where no component repeats") {
  float4 v(1, 2, 3, 4);
  CHECK(equal(v.sw_xy(), float2(1, 2)));
  CHECK(equal(v.sw_wzyx(), float4(4, 3, 2, 1)));
  CHECK(equal(v.sw_xxx(), float3(1)));
  CHECK(equal(v.sw_bgra(), float4(3, 2, 1, 4)));
  CHECK(equal(float2(5, 6).sw_yxyx(), float4(6, 5, 6, 5)));
  CHECK(equal(half3(1, 2, 3).sw_zx(), half2(3, 1)));
  CHECK(equal(v.sw_zw().sw_yx(), float2(4, 3)));
  v.sw_xy_ref() = v.sw_yx();
  CHECK(equal(v, float4(2, 1, 3, 4)));
  v.sw_xy_ref() = v.sw_yx_ref();
  CHECK(equal(v, float4(1, 2, 3, 4)));
  v.sw_wy_ref() += float2(10, 20);
  CHECK(equal(v, float4(1, 22, 3, 14)));
  v.sw_xyz_ref() *= 2;
  CHECK(equal(v, float4(2, 44, 6, 14)));
  v.sw_wzyx_ref() = float4(1, 2, 3, 4);
  CHECK(equal(v, float4(4, 3, 2, 1)));
  v.sw_rgb_ref() = 0;
  CHECK(equal(v, float4(0, 0, 0, 1)));
  v.sw_xw_ref() = packed_float2(8, 9);
  CHECK(equal(v, float4(8, 0, 0, 9)));
  CHECK(equal(v.sw_xw_ref() + 1.0f, float2(9, 10)));
  CHECK(metal::dot(v.sw_xw_ref(), float2(1)) == 17.0f);
  uint2 u(6, 4);
  u.sw_yx_ref() >>= uint2(1, 2);
  CHECK(equal(u, uint2(1, 2)));
}

TEST_CASE("operators work element by element and keep the element type") {
  static_assert(same<decltype(uchar4(1) + uchar4(2)), uchar4>);
  static_assert(same<decltype(float2(1) < float2(2)), bool2>);
  CHECK(equal(uchar2(200, 1) + uchar2(100, 1), uchar2(44, 2)));
  CHECK(equal(float3(1, 2, 3) * 2 - 1.0f, float3(1, 3, 5)));
  CHECK(equal(1.0f / float2(2, 4), float2(0.5f, 0.25f)));
  CHECK(equal(half2(1, 2) * 2.0f, half2(2, 4)));
  CHECK(equal(int2(7, -7) % int2(4, 4), int2(3, -3)));
  CHECK(equal((uint4(1) << uint4(0, 1, 2, 3)) | 16u, uint4(17, 18, 20, 24)));
  CHECK(equal(~uint2(0, 1) & 3u, uint2(3, 2)));
  CHECK(equal(int2(5, 6) ^ int2(1, 1), int2(4, 7)));
  CHECK(equal(-float2(1, -2), float2(-1, 2)));
  CHECK(equal(!bool2(true, false), bool2(false, true)));
  CHECK(equal(bool2(true, false) && bool2(true, true), bool2(true, false)));
  CHECK(equal(bool2(true, false) || bool2(false, false), bool2(true, false)));
  CHECK(equal(float3(1, 2, 3) >= float3(3, 2, 1), bool3(false, true, true)));
  float4 v(1);
  v += 2;
  v *= float4(1, 2, 3, 4);
  v -= 1.0f;
  v /= 2.0f;
  CHECK(equal(v, float4(1, 2.5f, 4, 5.5f)));
  v++;
  CHECK(equal(v--, float4(2, 3.5f, 5, 6.5f)));
  CHECK(equal(v, float4(1, 2.5f, 4, 5.5f)));
}

TEST_CASE("packed vectors take part as the vectors they hold") {
  packed_float3 p[2] = {packed_float3(1, 2, 3), packed_float3(4, 5, 6)};
  float raw[6];
  std::memcpy(raw, p, sizeof(raw));
  CHECK(raw[3] == 4.0f);
  const float3 v = p[1];
  CHECK(equal(v + p[0], float3(5, 7, 9)));
  CHECK(equal(p[0] * 2.0f, float3(2, 4, 6)));
  CHECK(equal(p[0] + p[1], float3(5, 7, 9)));
  p[0] = v * 2;
  p[1] += p[0];
  CHECK(equal(float3(p[1]), float3(12, 15, 18)));
  p[1].sw_zx_ref() = p[1].sw_xz();
  CHECK(equal(float3(p[1]), float3(18, 15, 12)));
  CHECK(p[1][2] == 12.0f);
  CHECK(equal(-p[1], float3(-18, -15, -12)));
  CHECK(metal::max(p[0], p[1]).x == 18.0f);
  CHECK(equal(half3(packed_half3(1, 2, 3)), half3(1, 2, 3)));
  CHECK(equal(int3(p[0]), int3(8, 10, 12)));
}

TEST_CASE("matrices are columns") {
  const float2x3 m(1, 2, 3, 4, 5, 6);
  CHECK(equal(m[1], float3(4, 5, 6)));
  const float3x2 t = metal::transpose(m);
  CHECK(equal(t[2], float2(3, 6)));
  const float2x2 product = t * m;
  CHECK(equal(product[0], float2(14, 32)));
  CHECK(equal(product[1], float2(32, 77)));
  CHECK(equal(m * float2(1, 10), float3(41, 52, 63)));
  CHECK(equal(float3(1, 10, 100) * m, float2(321, 654)));
  CHECK(equal((m * 2.0f - m)[0], m[0]));
  CHECK(float3x3(2.0f)[1].y == 2.0f);
  CHECK(float3x3(2.0f)[1].x == 0.0f);
  CHECK(float2x2(float2(1, 2), float2(3, 4)) == float2x2(1, 2, 3, 4));
  CHECK(metal::determinant(float2x2(1, 2, 3, 4)) == -2.0f);
  CHECK(metal::determinant(float3x3(2, 0, 1, 1, 3, 2, 1, 1, 1)) == 0.0f);
  CHECK(metal::determinant(float3x3(2, 0, 1, 1, 3, 2, 1, 1, 2)) == 6.0f);
  CHECK(metal::determinant(float4x4(1, 2, 3, 4, 2, 1, 5, 1, 3, 3, 1, 2, 4, 1, 2, 1)) == 97.0f);
  half2x2 h = half2x2(float2x2(1, 2, 3, 4));
  h *= half(2);
  CHECK(float(h[1][0]) == 6.0f);
  float4x4 identity(1.0f);
  identity *= identity;
  CHECK(identity == float4x4(1.0f));
}

TEST_CASE("array, numeric_limits and the constants") {
  metal::array<int, 3> a = {1, 2, 3};
  int sum = 0;
  for (int x : a) sum += x;
  CHECK(sum == 6);
  CHECK(a.size() == 3);
  CHECK(a.back() == 3);
  metal::array<int, 3> b = a;
  CHECK(a == b);
  b.fill(3);
  CHECK(a != b);
  CHECK(b.front() == 3);
  CHECK(metal::array<float2, 2>{float2(1), float2(2)} == metal::array<float2, 2>{float2(1), float2(2)});
  CHECK(metal::array<float2, 1>{float2(1, 2)} != metal::array<float2, 1>{float2(1, 3)});
  CHECK(metal::numeric_limits<half>::max_digits10 == 5);
  CHECK(metal::numeric_limits<float>::max_exponent10 == 38);
  CHECK(metal::numeric_limits<const uint>::is_modulo);
  CHECK(!metal::numeric_limits<int>::is_modulo);
  CHECK(metal::numeric_limits<bool>::digits == 1);
  CHECK(metal::numeric_limits<float>::max() == 0x1.fffffep127f);
  CHECK(metal::numeric_limits<float>::lowest() == -0x1.fffffep127f);
  CHECK(float(metal::numeric_limits<half>::max()) == 65504.0f);
  CHECK(float(metal::numeric_limits<half>::epsilon()) == 0x1p-10f);
  CHECK(float(metal::numeric_limits<bfloat>::denorm_min()) == 0x1p-133f);
  CHECK(metal::numeric_limits<int>::min() == -2147483647 - 1);
  CHECK(metal::numeric_limits<uchar>::max() == 255);
  CHECK(metal::numeric_limits<long>::max() == 9223372036854775807l);
  CHECK(metal::numeric_limits<uint>::digits == 32);
  CHECK(metal::numeric_limits<bool>::max());
  CHECK(M_PI_F == 3.14159274f);
  CHECK(M_PI_H.bits == 0x4248);
  CHECK(float(HALF_MAX) == 65504.0f);
  CHECK(MAXFLOAT == 0x1.fffffep127f);
}

TEST_CASE("type traits") {
  using namespace metal;
  static_assert(is_floating_point_v<half> && is_floating_point_v<bfloat>);
  static_assert(is_signed_v<half> && !is_integral_v<half>);
  static_assert(is_unsigned_v<uchar> && !is_unsigned_v<int>);
  static_assert(same<make_unsigned_t<short>, ushort> && same<make_signed_t<ulong>, long>);
  static_assert(same<conditional_t<true, int, float>, int>);
  static_assert(same<common_type_t<int, float>, float>);
  static_assert(same<remove_cv_t<remove_reference_t<const int&>>, int>);
  static_assert(integral_constant<int, 3>::value == 3 && true_type()());
  static_assert(same<decay_t<int (&)[3]>, int*> && same<decay_t<const float&>, float>);
  static_assert(same<decay_t<void(int)>, void (*)(int)> && same<add_pointer_t<int&>, int*>);
  static_assert(same<add_lvalue_reference_t<int>, int&> && same<remove_all_extents_t<int[2][3]>, int>);
  static_assert(is_rvalue_reference_v<int&&> && !is_rvalue_reference_v<int&> && is_lvalue_reference_v<int&>);
  static_assert(is_function_v<void(int)> && !is_function_v<void (*)(int)> && !is_function_v<int>);
  static_assert(is_object_v<float4> && !is_object_v<int&> && !is_object_v<void>);
  static_assert(is_fundamental_v<half> && !is_fundamental_v<float4> && is_compound_v<int*>);
  static_assert(is_trivial_v<float4> && is_standard_layout_v<packed_half3>);
  static_assert(is_constructible_v<float4, float> && !is_constructible_v<float3, float2>);
  static_assert(is_assignable_v<int&, float> && !is_assignable_v<const int&, float>);
  static_assert(is_copy_constructible_v<half> && is_trivially_copy_constructible_v<float4x4>);
  static_assert(alignment_of_v<float3> == 16 && rank_v<int[2][3]> == 2 && rank_v<int> == 0);
  static_assert(extent_v<int[2][3]> == 2 && extent_v<int[2][3], 1> == 3 && extent_v<int> == 0);
  static_assert(conjunction_v<> && conjunction_v<true_type, true_type> &&
                !conjunction_v<true_type, false_type>);
  static_assert(!disjunction_v<> && disjunction_v<false_type, true_type> && negation_v<false_type>);
  static_assert(same<invoke_result_t<float (*)(int), int>, float>);
  static_assert(same<make_index_sequence<3>, index_sequence<0, 1, 2>>);
  static_assert(make_integer_sequence<int, 4>::size() == 4);
  int a = 1, b = 2;
  metal::swap(a, b);
  CHECK(a == 2);
  CHECK(metal::exchange(b, 7) == 1);
  CHECK(b == 7);
  const uniform<int> n = make_uniform(5);
  CHECK(n + 1 == 6);
}
