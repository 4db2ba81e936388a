// The named constants of MSL, and numeric_limits.
#pragma once

#include "softmetal_vector.h"

#define SOFTMETAL_CONSTANTS(suffix, T)                              \
  static constexpr T M_E_##suffix = 2.71828182845904523536f;        \
  static constexpr T M_LOG2E_##suffix = 1.44269504088896340736f;    \
  static constexpr T M_LOG10E_##suffix = 0.434294481903251827651f;  \
  static constexpr T M_LN2_##suffix = 0.693147180559945309417f;     \
  static constexpr T M_LN10_##suffix = 2.30258509299404568402f;     \
  static constexpr T M_PI_##suffix = 3.14159265358979323846f;       \
  static constexpr T M_PI_2_##suffix = 1.57079632679489661923f;     \
  static constexpr T M_PI_4_##suffix = 0.785398163397448309616f;    \
  static constexpr T M_1_PI_##suffix = 0.318309886183790671538f;    \
  static constexpr T M_2_PI_##suffix = 0.636619772367581343076f;    \
  static constexpr T M_2_SQRTPI_##suffix = 1.12837916709551257390f; \
  static constexpr T M_SQRT2_##suffix = 1.41421356237309504880f;    \
  static constexpr T M_SQRT1_2_##suffix = 0.707106781186547524401f;
SOFTMETAL_CONSTANTS(F, float)
SOFTMETAL_CONSTANTS(H, half)
SOFTMETAL_CONSTANTS(BF, bfloat)
#undef SOFTMETAL_CONSTANTS

static constexpr half MAXHALF = half::from_bits(0x7BFF);
static constexpr half HUGE_VALH = half::from_bits(0x7C00);
static constexpr bfloat MAXBFLOAT = bfloat::from_bits(0x7F7F);
static constexpr bfloat HUGE_VALBF = bfloat::from_bits(0x7F80);

// The rest are macros, as in C: a host program may have them from <math.h>, <float.h> and <limits.h> already.
#ifndef INFINITY
#define INFINITY __builtin_inff()
#endif
#ifndef NAN
#define NAN __builtin_nanf("")
#endif
#ifndef HUGE_VALF
#define HUGE_VALF __builtin_inff()
#endif
#ifndef MAXFLOAT
#define MAXFLOAT 0x1.fffffep127f
#endif
#ifndef FP_ILOGB0
#define FP_ILOGB0 (-2147483647 - 1)
#define FP_ILOGBNAN 2147483647
#endif
#ifndef FLT_MAX
#define FLT_DECIMAL_DIG 9
#define FLT_DIG 6
#define FLT_MANT_DIG 24
#define FLT_MAX_10_EXP 38
#define FLT_MAX_EXP 128
#define FLT_MIN_10_EXP (-37)
#define FLT_MIN_EXP (-125)
#define FLT_RADIX 2
#define FLT_MAX 0x1.fffffep127f
#define FLT_MIN 0x1p-126f
#define FLT_EPSILON 0x1p-23f
#endif
#define HALF_DECIMAL_DIG 5
#define HALF_DIG 3
#define HALF_MANT_DIG 11
#define HALF_MAX_10_EXP 4
#define HALF_MAX_EXP 16
#define HALF_MIN_10_EXP (-4)
#define HALF_MIN_EXP (-13)
#define HALF_RADIX 2
#define HALF_MAX (half::from_bits(0x7BFF))
#define HALF_MIN (half::from_bits(0x0400))
#define HALF_EPSILON (half::from_bits(0x1400))
#define BFLT_DECIMAL_DIG 4
#define BFLT_DIG 2
#define BFLT_MANT_DIG 8
#define BFLT_MAX_10_EXP 38
#define BFLT_MAX_EXP 128
#define BFLT_MIN_10_EXP (-37)
#define BFLT_MIN_EXP (-125)
#define BFLT_RADIX 2
#define BFLT_MAX (bfloat::from_bits(0x7F7F))
#define BFLT_MIN (bfloat::from_bits(0x0080))
#define BFLT_EPSILON (bfloat::from_bits(0x3C00))
#ifndef CHAR_BIT
#define CHAR_BIT 8
#define CHAR_MAX SCHAR_MAX
#define CHAR_MIN SCHAR_MIN
#define SCHAR_MAX 127
#define SCHAR_MIN (-127 - 1)
#define UCHAR_MAX 255
#define SHRT_MAX 32767
#define SHRT_MIN (-32767 - 1)
#define USHRT_MAX 65535
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define LONG_MAX 9223372036854775807l
#define LONG_MIN (-9223372036854775807l - 1)
#define ULONG_MAX 18446744073709551615ul
#endif

namespace metal {

template <class T>
struct numeric_limits {
  static constexpr bool is_specialized = is_integral<T>::value;
  static constexpr bool is_integer = true, is_exact = true, is_signed = metal::is_signed<T>::value;
  static constexpr bool is_bounded = is_specialized, is_iec559 = false, traps = false;
  static constexpr bool is_modulo = is_specialized && !is_signed && !is_same<T, bool>::value;
  static constexpr bool has_infinity = false, has_quiet_NaN = false, has_signaling_NaN = false;
  static constexpr int radix = 2,
                       digits = is_same<T, bool>::value ? 1 : int(sizeof(T) * 8) - (is_signed ? 1 : 0),
                       digits10 = digits * 3 / 10, max_digits10 = 0;
  static constexpr int max_exponent = 0, min_exponent = 0, max_exponent10 = 0, min_exponent10 = 0;
  static constexpr T max() {
    if constexpr (is_same<T, bool>::value) {
      return true;
    } else {
      return T(make_unsigned_t<T>(~make_unsigned_t<T>(0)) >> (is_signed ? 1 : 0));
    }
  }
  static constexpr T min() { return is_signed ? T(-max() - 1) : T(0); }
  static constexpr T lowest() { return min(); }
  static constexpr T epsilon() { return T(0); }
  static constexpr T denorm_min() { return T(0); }
  static constexpr T round_error() { return T(0); }
  static constexpr T infinity() { return T(0); }
  static constexpr T quiet_NaN() { return T(0); }
  static constexpr T signaling_NaN() { return T(0); }
};
template <class T>
struct numeric_limits<const T> : numeric_limits<T> {};
template <class T>
struct numeric_limits<volatile T> : numeric_limits<T> {};
#define SOFTMETAL_REAL_LIMITS(T, digits_, digits10_, max_digits10_, exponent, exponent10, make, max_, min_, \
                              eps, den, inf, nan)                                                           \
  template <>                                                                                               \
  struct numeric_limits<T> {                                                                                \
    static constexpr bool is_specialized = true, is_integer = false, is_exact = false;                      \
    static constexpr bool is_signed = true, has_infinity = true, has_quiet_NaN = true;                      \
    static constexpr bool is_bounded = true, is_iec559 = true, is_modulo = false, traps = false;            \
    static constexpr bool has_signaling_NaN = true;                                                         \
    static constexpr int radix = 2, digits = digits_, digits10 = digits10_, max_digits10 = max_digits10_;   \
    static constexpr int max_exponent10 = exponent10, min_exponent10 = exponent10 == 4 ? -4 : -37;          \
    static constexpr int max_exponent = exponent, min_exponent = 3 - exponent;                              \
    static constexpr T max() { return make(max_); }                                                         \
    static constexpr T min() { return make(min_); }                                                         \
    static constexpr T lowest() { return -make(max_); }                                                     \
    static constexpr T epsilon() { return make(eps); }                                                      \
    static constexpr T denorm_min() { return make(den); }                                                   \
    static constexpr T round_error() { return T(0.5f); }                                                    \
    static constexpr T infinity() { return make(inf); }                                                     \
    static constexpr T quiet_NaN() { return make(nan); }                                                    \
    static constexpr T signaling_NaN() { return make(nan); }                                                \
  };
#define SOFTMETAL_FLOAT_BITS(b) __builtin_bit_cast(float, uint32_t(b))
SOFTMETAL_REAL_LIMITS(float, 24, 6, 9, 128, 38, SOFTMETAL_FLOAT_BITS, 0x7F7FFFFF, 0x00800000, 0x34000000, 1,
                      0x7F800000, 0x7FC00000)
SOFTMETAL_REAL_LIMITS(half, 11, 3, 5, 16, 4, half::from_bits, 0x7BFF, 0x0400, 0x1400, 1, 0x7C00, 0x7E00)
SOFTMETAL_REAL_LIMITS(bfloat, 8, 2, 4, 128, 38, bfloat::from_bits, 0x7F7F, 0x0080, 0x3C00, 1, 0x7F80, 0x7FC0)
#undef SOFTMETAL_REAL_LIMITS
#undef SOFTMETAL_FLOAT_BITS

}  // namespace metal
