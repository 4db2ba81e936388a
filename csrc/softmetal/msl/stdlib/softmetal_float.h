// The scalar float functions, free of branches and of library calls so that loops over them vectorise.
// Polynomials are minimax fits made for this file. Signs and special values are set by integer operations
// or by selects, which -ffast-math without finite-math leaves alone.
#pragma once

#include "softmetal_config.h"

namespace softmetal {

constexpr float infinity = __builtin_inff();
constexpr float quiet_nan = __builtin_nanf("");
constexpr float max_float = 0x1.fffffep127f;

constexpr SOFTMETAL_INLINE uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
constexpr SOFTMETAL_INLINE float float_of(uint32_t b) { return __builtin_bit_cast(float, b); }
constexpr SOFTMETAL_INLINE uint32_t magnitude_of(float x) { return bits_of(x) & 0x7FFFFFFFu; }
constexpr SOFTMETAL_INLINE uint32_t sign_of(float x) { return bits_of(x) & 0x80000000u; }
constexpr SOFTMETAL_INLINE float absolute(float x) { return float_of(magnitude_of(x)); }
constexpr SOFTMETAL_INLINE float flip_sign(float x, uint32_t sign) { return float_of(bits_of(x) ^ sign); }
// Magnitude and sign from different numbers; the magnitude must not be negative.
constexpr SOFTMETAL_INLINE float with_sign(float x, uint32_t sign) { return float_of(bits_of(x) | sign); }
SOFTMETAL_INLINE float fma1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SOFTMETAL_INLINE double fma1(double a, double b, double c) { return __builtin_fma(a, b, c); }

// c0 + x*(c1 + x*(...))
template <class T>
SOFTMETAL_INLINE T polynomial(T, T c) {
  return c;
}
template <class T, class... C>
SOFTMETAL_INLINE T polynomial(T x, T c, C... rest) {
  return fma1(x, polynomial(x, rest...), c);
}

// The whole number n as an integer, |n| < 2^22 (2^51). Any other value gives some integer, unlike a
// conversion, which would be undefined for NaN.
SOFTMETAL_INLINE int32_t whole(float n) { return int32_t(bits_of(n + 0x1.8p23f) - 0x4B400000u); }
SOFTMETAL_INLINE int32_t whole(double n) { return int32_t(__builtin_bit_cast(uint64_t, n + 0x1.8p52)); }

// p * 2^i, rounded once; |i| < 252. Two factors, because 2^i alone may not be a normal float.
SOFTMETAL_INLINE float scale(float p, int32_t i) {
  SOFTMETAL_STRICT
  const int32_t half_i = i >> 1;
  const float first = float_of(uint32_t(half_i + 127) << 23);
  const float second = float_of(uint32_t(i - half_i + 127) << 23);
  return SOFTMETAL_FENCE(p * first) * second;
}

// ---- exponentials ----

SOFTMETAL_INLINE float bounded(float x, float low, float high) {  // NaN passes
  x = x < low ? low : x;
  return x > high ? high : x;
}

// e^r for |r| <= ln(2)/2
SOFTMETAL_INLINE float exp_core(float r) {
  const float p = polynomial(r, 0x1p-1f, 0x1.555554p-3f, 0x1.55548cp-5f, 0x1.111272p-7f, 0x1.6d8ddcp-10f,
                             0x1.9f07cap-13f);
  return fma1(r * r, p, r) + 1.0f;
}
// e^x * 2^bias, which may be finite where e^x is not
SOFTMETAL_INLINE float exp_biased(float x, int32_t bias) {
  SOFTMETAL_STRICT
  x = bounded(x, -105.0f, 91.0f);
  const float n = __builtin_rintf(x * 0x1.715476p0f);
  float r = fma1(n, -0x1.62e430p-1f, x);
  r = fma1(n, 0x1.05c610p-29f, r);
  return scale(exp_core(r), whole(n) + bias);
}
SOFTMETAL_INLINE float exp(float x) { return exp_biased(x, 0); }
// 2^f for |f| <= 1/2
SOFTMETAL_INLINE float exp2_core(float f) {
  return fma1(f,
              polynomial(f, 0x1.62e430p-1f, 0x1.ebfbe0p-3f, 0x1.c6b08ap-5f, 0x1.3b29f4p-7f, 0x1.5d8a86p-10f,
                         0x1.445c84p-13f, 0x1.fde5eep-17f),
              1.0f);
}
SOFTMETAL_INLINE float exp2(float x) {
  SOFTMETAL_STRICT
  x = bounded(x, -151.0f, 129.0f);
  const float n = __builtin_rintf(x);
  return scale(exp2_core(x - n), whole(n));
}
SOFTMETAL_INLINE float exp10(float x) {
  SOFTMETAL_STRICT
  x = bounded(x, -46.0f, 39.0f);
  const float n = __builtin_rintf(x * 0x1.a934f0p1f);
  float r = fma1(n, -0x1.344136p-2f, x);
  r = fma1(n, 0x1.ec10c0p-27f, r);
  return scale(exp_core(fma1(r, 0x1.26bb1cp1f, r * -0x1.12aabap-25f)), whole(n));
}

// ---- logarithms ----

// x = 2^exponent * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), for x > 0; log(1 + f) = f + tail.
struct log_parts {
  float exponent, f, tail;
};
SOFTMETAL_INLINE log_parts split_log(float x) {
  SOFTMETAL_STRICT
  const bool tiny = x < 0x1p-126f;
  x = tiny ? x * 0x1p23f : x;
  const uint32_t b = bits_of(x);
  const int32_t e = int32_t(b - 0x3F3504F3u) >> 23;
  log_parts parts;
  parts.f = float_of(b - (uint32_t(e) << 23)) - 1.0f;
  parts.exponent = float(tiny ? e - 23 : e);
  const float f = parts.f, square = f * f;
  const float p =
      polynomial(f, 0x1.555548p-2f, -0x1.000006p-2f, 0x1.99a4b6p-3f, -0x1.555c4ep-3f, 0x1.23376ap-3f,
                 -0x1.fc220ap-4f, 0x1.e6f052p-4f, -0x1.de3bdep-4f, 0x1.145780p-4f);
  parts.tail = fma1(square * f, p, -0.5f * square);
  return parts;
}
// What a logarithm gives outside the positive finite numbers.
SOFTMETAL_INLINE float log_special(float x, float result) {
  result = x > 0.0f ? result : quiet_nan;
  result = x == 0.0f ? -infinity : result;
  return x > max_float ? x : result;
}
SOFTMETAL_INLINE float log(float x) {
  SOFTMETAL_STRICT
  const log_parts parts = split_log(x);
  const float low = SOFTMETAL_FENCE(parts.f + fma1(parts.exponent, -0x1.bd0106p-13f, parts.tail));
  return log_special(x, fma1(parts.exponent, 0x1.63p-1f, low));
}
SOFTMETAL_INLINE float log2(float x) {
  SOFTMETAL_STRICT
  const log_parts parts = split_log(x);
  return log_special(x, fma1(SOFTMETAL_FENCE(parts.f + parts.tail), 0x1.715476p0f, parts.exponent));
}
SOFTMETAL_INLINE float log10(float x) {
  SOFTMETAL_STRICT
  const log_parts parts = split_log(x);
  const float low = SOFTMETAL_FENCE(parts.f + parts.tail) * 0x1.bcb7b2p-2f;
  return log_special(x, fma1(parts.exponent, 0x1.344136p-2f, fma1(parts.exponent, -0x1.ec10c0p-27f, low)));
}

// ---- powers ----

// log2 of a finite positive x to about 2^-37 relative
SOFTMETAL_INLINE double log2_wide(float x) {
  SOFTMETAL_STRICT
  const bool tiny = x < 0x1p-126f;
  x = tiny ? x * 0x1p23f : x;
  const uint32_t b = bits_of(x);
  const int32_t e = int32_t(b - 0x3F3504F3u) >> 23;
  const double m = double(float_of(b - (uint32_t(e) << 23)));
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  const double q = polynomial(z, 0x1.71547652bef0ep+1, 0x1.ec709d1157eaep-1, 0x1.277781134b203p-1,
                              0x1.a58cf4ec1afb8p-2, 0x1.5cf3879c09447p-2);
  return fma1(s, q, double(tiny ? e - 23 : e));
}
SOFTMETAL_INLINE float exp2_wide(double x) {
  SOFTMETAL_STRICT
  x = x < -151.0 ? -151.0 : x;
  x = x > 129.0 ? 129.0 : x;
  const double n = __builtin_rint(x);
  return scale(exp2_core(float(x - n)), whole(n));
}
// |x|^y, with the values that C gives at 0, infinity and NaN
SOFTMETAL_INLINE float pow_magnitude(float x, float y) {
  const float a = absolute(x);
  double l = log2_wide(a);
  l = a == 0.0f ? double(-infinity) : l;
  l = a <= max_float ? l : double(a);
  float r = exp2_wide(double(y) * l);
  r = a == 1.0f ? 1.0f : r;
  return y == 0.0f ? 1.0f : r;
}
SOFTMETAL_INLINE float pow(float x, float y) {
  const float r = pow_magnitude(x, y);
  const float whole_y = __builtin_truncf(y), half_y = 0.5f * y;
  const bool odd = whole_y == y && __builtin_truncf(half_y) != half_y;
  const bool negative = sign_of(x) != 0;
  const bool undefined = x < 0.0f && x >= -max_float && whole_y != y;
  return undefined ? quiet_nan : flip_sign(r, negative && odd ? 0x80000000u : 0u);
}
SOFTMETAL_INLINE float powr(float x, float y) {
  const float r = pow_magnitude(x, y);
  return x < 0.0f ? quiet_nan : r;
}
SOFTMETAL_INLINE float fast_powr(float x, float y) { return exp2(y * log2(x)); }
SOFTMETAL_INLINE float fast_pow(float x, float y) {
  const float r = exp2(y * log2(absolute(x)));
  const float half_y = 0.5f * y;
  const bool odd = __builtin_truncf(y) == y && __builtin_truncf(half_y) != half_y;
  return flip_sign(r, x < 0.0f && odd ? 0x80000000u : 0u);
}

// ---- sine, cosine, tangent ----

SOFTMETAL_INLINE float sin_core(float r) {  // |r| <= pi/4
  const float z = r * r;
  return fma1(r * z, polynomial(z, -0x1.555556p-3f, 0x1.111108p-7f, -0x1.a00f72p-13f, 0x1.6cceaap-19f), r);
}
SOFTMETAL_INLINE float cos_core(float r) {
  const float z = r * r;
  return fma1(z * z, polynomial(z, 0x1.555556p-5f, -0x1.6c16b8p-10f, 0x1.a010d2p-16f, -0x1.241c20p-22f),
              fma1(z, -0.5f, 1.0f));
}
// a = quadrant * pi/2 + r, for a >= 0
struct quarter_turn {
  float r;
  uint32_t quadrant;
};
// The last bits of a large quotient are lost, so r may pass pi/4 a little, which the polynomials bear.
// Beyond the reach of a reduction r is bounded, so that the results stay near [-1, 1] and NaN stays NaN.
// Three floats hold pi/2: good to a few units in the last place up to about 1e5.
SOFTMETAL_INLINE quarter_turn reduce_fast(float a) {
  const float n = __builtin_rintf(a * 0x1.45f306p-1f);
  float r = fma1(n, -0x1.921fb6p0f, a);
  r = fma1(n, 0x1.777a5cp-25f, r);
  r = fma1(n, 0x1.ee59dap-50f, r);
  return {bounded(r, -1.0f, 1.0f), uint32_t(whole(n))};
}
// Two doubles hold it: right for every |a| < 2^50.
SOFTMETAL_INLINE quarter_turn reduce_precise(float a) {
  const double wide = double(a);
  const double n = __builtin_rint(wide * 0x1.45f306dc9c883p-1);
  double r = fma1(n, -0x1.921fb54442d18p0, wide);
  r = fma1(n, -0x1.1a62633145c07p-54, r);
  return {bounded(float(r), -1.0f, 1.0f), uint32_t(whole(n))};
}
SOFTMETAL_INLINE float sin_of(quarter_turn t, float s, float c) {
  return flip_sign((t.quadrant & 1) != 0 ? c : s, (t.quadrant & 2) << 30);
}
SOFTMETAL_INLINE float cos_of(quarter_turn t, float s, float c) {
  return flip_sign((t.quadrant & 1) != 0 ? s : c, ((t.quadrant + 1) & 2) << 30);
}
SOFTMETAL_INLINE float tan_of(quarter_turn t, float s, float c) {
  const bool odd = (t.quadrant & 1) != 0;
  return flip_sign((odd ? c : s) / (odd ? s : c), odd ? 0x80000000u : 0u);
}
// Odd functions work on |x| and put the sign back, which keeps sin(-0) = -0.
#define SOFTMETAL_TRIGONOMETRY(prefix, reduce)                    \
  SOFTMETAL_INLINE float prefix##sin(float x) {                   \
    const quarter_turn t = reduce(absolute(x));                   \
    const float s = sin_core(t.r), c = cos_core(t.r);             \
    return flip_sign(sin_of(t, s, c), sign_of(x));                \
  }                                                               \
  SOFTMETAL_INLINE float prefix##cos(float x) {                   \
    const quarter_turn t = reduce(absolute(x));                   \
    return cos_of(t, sin_core(t.r), cos_core(t.r));               \
  }                                                               \
  SOFTMETAL_INLINE float prefix##tan(float x) {                   \
    const quarter_turn t = reduce(absolute(x));                   \
    const float s = sin_core(t.r), c = cos_core(t.r);             \
    return flip_sign(tan_of(t, s, c), sign_of(x));                \
  }                                                               \
  SOFTMETAL_INLINE float prefix##sincos(float x, float& cosine) { \
    const quarter_turn t = reduce(absolute(x));                   \
    const float s = sin_core(t.r), c = cos_core(t.r);             \
    cosine = cos_of(t, s, c);                                     \
    return flip_sign(sin_of(t, s, c), sign_of(x));                \
  }
SOFTMETAL_TRIGONOMETRY(fast_, reduce_fast)
SOFTMETAL_TRIGONOMETRY(precise_, reduce_precise)
#undef SOFTMETAL_TRIGONOMETRY

// The same of x * pi. The reduction is exact, and so are the zeros: their sign is x's for the odd functions
// and plus for cospi.
SOFTMETAL_INLINE float unsigned_zero(float x) { return float_of((bits_of(x) << 1) == 0 ? 0u : bits_of(x)); }
SOFTMETAL_INLINE quarter_turn reduce_pi(float a) {
  SOFTMETAL_STRICT
  a = a > 0x1p24f && a <= max_float ? 0x1p24f : a;  // all even
  const float n = __builtin_rintf(a * 2.0f);
  const float r = fma1(n, -0.5f, a);
  const float quadrant = fma1(__builtin_floorf(n * 0.25f), -4.0f, n);
  return {r * 0x1.921fb6p1f, uint32_t(whole(quadrant))};
}
SOFTMETAL_INLINE float sinpi(float x) {
  const quarter_turn t = reduce_pi(absolute(x));
  const float r = sin_of(t, sin_core(t.r), cos_core(t.r));
  return flip_sign(unsigned_zero(r), sign_of(x));
}
SOFTMETAL_INLINE float cospi(float x) {
  const quarter_turn t = reduce_pi(absolute(x));
  return unsigned_zero(cos_of(t, sin_core(t.r), cos_core(t.r)));
}
SOFTMETAL_INLINE float tanpi(float x) {
  const quarter_turn t = reduce_pi(absolute(x));
  const float r = tan_of(t, sin_core(t.r), cos_core(t.r));
  return flip_sign(r, sign_of(x));
}

// ---- inverse trigonometric functions ----

SOFTMETAL_INLINE float atan2(float y, float x) {
  SOFTMETAL_STRICT
  const float ay = absolute(y), ax = absolute(x);
  const bool steep = ay > ax;
  const float small = steep ? ax : ay, large = steep ? ay : ax;
  float t = small / large;
  t = ax == ay ? 1.0f : t;  // infinity / infinity
  t = (bits_of(ax) | bits_of(ay)) == 0 ? 0.0f : t;
  const float z = t * t;
  const float p =
      fma1(t * z,
           polynomial(z, -0x1.55553ep-2f, 0x1.9991fep-3f, -0x1.2421b8p-3f, 0x1.c09a10p-4f, -0x1.5834bep-4f,
                      0x1.daca6ep-5f, -0x1.fed25ap-6f, 0x1.65a750p-7f, -0x1.d63182p-10f),
           t);
  float r = steep ? SOFTMETAL_FENCE(0x1.921fb6p0f - p) - 0x1.777a5cp-25f : p;
  r = sign_of(x) != 0 ? SOFTMETAL_FENCE(0x1.921fb6p1f - r) - 0x1.777a5cp-24f : r;
  return flip_sign(r, sign_of(y));
}
SOFTMETAL_INLINE float atan(float x) { return atan2(x, 1.0f); }

// asin(t) for t <= 1/2 from t and z = t * t
SOFTMETAL_INLINE float asin_core(float t, float z) {
  return fma1(t * z,
              polynomial(z, 0x1.55554cp-3f, 0x1.33387cp-4f, 0x1.6caed4p-5f, 0x1.049196p-5f, 0x1.d92028p-7f,
                         0x1.3355a0p-5f),
              t);
}
SOFTMETAL_INLINE float asin(float x) {
  SOFTMETAL_STRICT
  const float a = absolute(x);
  const bool large = a > 0.5f;
  const float z = large ? (1.0f - a) * 0.5f : a * a;
  const float p = asin_core(large ? __builtin_sqrtf(z) : a, z);
  const float r = large ? SOFTMETAL_FENCE(fma1(p, -2.0f, 0x1.921fb6p0f)) - 0x1.777a5cp-25f : p;
  return flip_sign(r, sign_of(x));
}
SOFTMETAL_INLINE float acos(float x) {
  SOFTMETAL_STRICT
  const float a = absolute(x);
  const bool large = a > 0.5f, negative = sign_of(x) != 0;
  const float z = large ? (1.0f - a) * 0.5f : a * a;
  const float p = asin_core(large ? __builtin_sqrtf(z) : a, z);
  const float near_zero =
      negative ? SOFTMETAL_FENCE(fma1(p, -2.0f, 0x1.921fb6p1f)) - 0x1.777a5cp-24f : 2.0f * p;
  const float middle = SOFTMETAL_FENCE(0x1.921fb6p0f - flip_sign(p, sign_of(x))) - 0x1.777a5cp-25f;
  return large ? near_zero : middle;
}

// ---- hyperbolic functions ----

SOFTMETAL_INLINE float sinh(float x) {
  SOFTMETAL_STRICT
  const float a = absolute(x), z = a * a;
  const float small =
      fma1(a * z, polynomial(z, 0x1.555556p-3f, 0x1.111134p-7f, 0x1.9ffe92p-13f, 0x1.7a15bap-19f), a);
  const float e = exp_biased(a, -1);
  return flip_sign(a < 1.0f ? small : e - 0.25f / e, sign_of(x));
}
SOFTMETAL_INLINE float cosh(float x) {
  const float e = exp_biased(absolute(x), -1);
  return e + 0.25f / e;
}
SOFTMETAL_INLINE float tanh(float x) {
  SOFTMETAL_STRICT
  const float a = absolute(x), z = a * a;
  const float small = fma1(a * z,
                           polynomial(z, -0x1.555554p-2f, 0x1.111066p-3f, -0x1.b9ee90p-5f, 0x1.638b54p-6f,
                                      -0x1.0bf4e2p-7f, 0x1.18e182p-9f),
                           a);
  const float large = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
  return flip_sign(a < 0.625f ? small : large, sign_of(x));
}

// The logarithm of a double, to float precision: its rest beyond a float enters to first order.
SOFTMETAL_INLINE float log_wide(double w) {
  SOFTMETAL_STRICT
  const double halved = 0.5 * w;  // stays below the largest float for every float argument of asinh
  const float high = float(halved), rest = float(halved - double(high)) / high;
  const log_parts parts = split_log(high);
  const float e = parts.exponent + 1.0f;
  const float low = SOFTMETAL_FENCE(parts.f + (fma1(e, -0x1.bd0106p-13f, parts.tail) + rest));
  return log_special(high, fma1(e, 0x1.63p-1f, low));
}
SOFTMETAL_INLINE float asinh(float x) {
  const float a = absolute(x), z = a * a;
  const double wide = double(a);
  const float large = log_wide(wide + __builtin_sqrt(fma1(wide, wide, 1.0)));
  return flip_sign(a < 0x1p-10f ? fma1(a * z, -0x1.555556p-3f, a) : large, sign_of(x));
}
SOFTMETAL_INLINE float acosh(float x) {
  const double wide = double(x);
  const float r = log_wide(wide + __builtin_sqrt(fma1(wide, wide, -1.0)));
  return x < 1.0f ? quiet_nan : r;
}
SOFTMETAL_INLINE float atanh(float x) {
  const float a = absolute(x), z = a * a;
  const double wide = double(a);
  const float large = 0.5f * log_wide((1.0 + wide) / (1.0 - wide));
  return flip_sign(a < 0x1p-10f ? fma1(a * z, 0x1.555556p-2f, a) : large, sign_of(x));
}

// ---- roots, quotients, rounding ----

SOFTMETAL_INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
SOFTMETAL_INLINE float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
SOFTMETAL_INLINE float precise_rsqrt(float x) { return float(1.0 / __builtin_sqrt(double(x))); }
SOFTMETAL_INLINE float divide(float x, float y) { return x / y; }
SOFTMETAL_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

SOFTMETAL_INLINE float floor(float x) { return __builtin_floorf(x); }
SOFTMETAL_INLINE float ceil(float x) { return __builtin_ceilf(x); }
SOFTMETAL_INLINE float trunc(float x) { return __builtin_truncf(x); }
SOFTMETAL_INLINE float rint(float x) { return __builtin_rintf(x); }
// Halves away from zero.
SOFTMETAL_INLINE float round(float x) {
  SOFTMETAL_STRICT
  const float a = absolute(x), t = __builtin_truncf(a);
  return flip_sign(SOFTMETAL_FENCE(a - t) >= 0.5f ? t + 1.0f : t, sign_of(x));
}
SOFTMETAL_INLINE float fract(float x) {
  SOFTMETAL_STRICT
  const float f = x - __builtin_floorf(x);
  return f >= 1.0f ? 0x1.fffffep-1f : f;  // a tiny negative x
}
SOFTMETAL_INLINE float modf(float x, float& integral) {
  SOFTMETAL_STRICT
  integral = __builtin_truncf(x);
  const float f = absolute(x) > max_float ? 0.0f : absolute(x - integral);
  return x == x ? with_sign(f, sign_of(x)) : x;
}

// One step of long division: right while the quotient has fewer than 29 bits.
SOFTMETAL_INLINE double remainder_step(double r, double y) {
  SOFTMETAL_STRICT
  const double next = fma1(-__builtin_trunc(r / y), y, r);
  return next < 0.0 ? next + y : next;
}
SOFTMETAL_INLINE float fmod(float x, float y) {
  const float a = absolute(x), b = absolute(y);
  double r = remainder_step(double(a), double(b));
  r = b > max_float ? double(a) : r;
  const float result = float(r);
  return b > max_float && a > max_float ? quiet_nan : flip_sign(result, sign_of(x));
}
// Exact for every quotient: divides by multiples of y first, 2^28 apart.
inline float precise_fmod(float x, float y) {
  const float a = absolute(x), b = absolute(y);
  if (!(a <= max_float) || !(b > 0.0f)) return quiet_nan;
  if (b > max_float) return x;
  double r = double(a);
  const double step = double(b);
  for (int k = 252; k >= 0; k -= 28) {
    const double factor = __builtin_bit_cast(double, uint64_t(k + 1023) << 52);
    if (r >= step * factor) r = remainder_step(r, step * factor);
  }
  return flip_sign(float(r), sign_of(x));
}

// ---- parts of a number ----

SOFTMETAL_INLINE float ldexp(float x, int32_t k) {
  k = k < -400 ? -400 : k;
  k = k > 400 ? 400 : k;
  return float(double(x) * __builtin_bit_cast(double, uint64_t(k + 1023) << 52));
}
SOFTMETAL_INLINE int32_t unbiased_exponent(float x) {  // x finite, not 0
  const bool tiny = magnitude_of(x) < 0x00800000u;
  const int32_t e = int32_t(magnitude_of(tiny ? x * 0x1p24f : x) >> 23);
  return tiny ? e - 151 : e - 127;
}
constexpr int32_t ilogb_zero = -2147483647 - 1, ilogb_nan = 2147483647;
SOFTMETAL_INLINE int32_t ilogb(float x) {
  const int32_t e = magnitude_of(x) >= 0x7F800000u ? ilogb_nan : unbiased_exponent(x);
  return magnitude_of(x) == 0 ? ilogb_zero : e;
}
SOFTMETAL_INLINE float frexp(float x, int32_t& exponent) {
  const uint32_t m = magnitude_of(x);
  const bool special = m == 0 || m >= 0x7F800000u;
  const float normal = m < 0x00800000u ? x * 0x1p24f : x;
  exponent = special ? 0 : unbiased_exponent(x) + 1;
  return special ? x : float_of((bits_of(normal) & 0x807FFFFFu) | 0x3F000000u);
}
SOFTMETAL_INLINE float nextafter(float x, float y) {
  const uint32_t b = bits_of(x);
  const bool away = (y > x) == (sign_of(x) == 0);
  float r = float_of(away ? b + 1 : b - 1);
  r = magnitude_of(x) == 0 ? with_sign(float_of(1), sign_of(y)) : r;
  r = x == y ? y : r;
  return magnitude_of(x) > 0x7F800000u ? x : magnitude_of(y) > 0x7F800000u ? y : r;
}
SOFTMETAL_INLINE float copysign(float x, float y) { return with_sign(absolute(x), sign_of(y)); }
SOFTMETAL_INLINE float fdim(float x, float y) {
  const float d = x - y;
  return x <= y ? 0.0f : d;
}

}  // namespace softmetal
