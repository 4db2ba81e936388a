// The float functions of our <metal_stdlib> against double references: units in the last place, special
// values, classification, and the forms for vectors and small floats.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "softmetal/msl/stdlib/softmetal_stdlib.h"

namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr float kInfinity = __builtin_inff();
const double kUndefined = std::nan("");

uint32_t to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
// Through memory, so that no compiler knows the value: with -ffast-math it may drop the sign of a known zero.
float from_bits(uint32_t value) {
  const volatile uint32_t hidden = value;
  const uint32_t bits = hidden;
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
bool is_nan(float x) { return (to_bits(x) & 0x7FFFFFFF) > 0x7F800000; }
bool is_nan(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return (bits & 0x7FFFFFFFFFFFFFFF) > 0x7FF0000000000000;
}

// Distance of a result from the exact one, in units of the float nearest to it; huge if one is NaN or
// infinite and the other is not, or if a zero has the wrong sign. A result and an overflow may differ by one
// unit.
double ulp_error(float got, double want) {
  const float rounded = float(want);
  if (is_nan(want) || is_nan(got)) return is_nan(want) && is_nan(got) ? 0.0 : 1e30;
  if (to_bits(got) == to_bits(rounded)) return std::fabs(want) < 0x1p127 ? std::fabs(got - want) : 0.0;
  if ((to_bits(got) & 0x7FFFFFFF) == 0 && (to_bits(rounded) & 0x7FFFFFFF) == 0) return 1e30;
  const double largest = 0x1.fffffep127;
  const double g = std::fabs(got) > largest ? std::copysign(0x1p128, got) : double(got);
  const double w = std::fabs(want) > 0x1p128 ? std::copysign(0x1p128, want) : want;
  return std::fabs(g - w);
}
double unit_of(double want) {
  const double a = std::fabs(want);
  if (!(a > 0x1p-126)) return 0x1p-149;
  return std::ldexp(1.0, std::min(std::ilogb(a), 127) - 23);
}

struct Worst {
  double ulps = 0;
  float x = 0, y = 0;
  void add(float got, double want, float a, float b = 0) {
    const double ulps_here = ulp_error(got, want) / unit_of(want);
    if (!(ulps_here <= ulps)) {
      ulps = ulps_here;
      x = a;
      y = b;
    }
  }
};

// Every class of float, both signs, special values included, that lies in [low, high].
const std::vector<float>& samples() {
  static const std::vector<float> all = [] {
    std::vector<float> v;
    for (uint64_t bits = 0; bits < 0x100000000; bits += 65537 / 3) v.push_back(from_bits(uint32_t(bits)));
    for (uint32_t bits : {0x00000000u, 0x00000001u, 0x007FFFFFu, 0x00800000u, 0x3F000000u, 0x3F800000u,
                          0x3F7FFFFFu, 0x3F800001u, 0x7F7FFFFFu, 0x7F800000u, 0x7FC00000u}) {
      v.push_back(from_bits(bits));
      v.push_back(from_bits(bits | 0x80000000u));
    }
    return v;
  }();
  return all;
}

struct Function {
  std::string name;
  float (*ours)(float);
  double (*reference)(double);
  double limit;  // ulps
  float low = -kInfinity, high = kInfinity;
};

#define OURS(f) [](float x) { return metal::f(x); }
#define REFERENCE(f) [](double x) { return double(f); }

void check(const Function& f) {
  Worst worst;
  for (float x : samples()) {
    if (is_nan(x) || (x >= f.low && x <= f.high)) worst.add(f.ours(x), f.reference(double(x)), x);
  }
  INFO(f.name << "(" << worst.x << ")");
  CHECK(worst.ulps <= f.limit);
}

// sin(pi * x) and cos(pi * x) with the argument reduced exactly.
double sin_pi(double x) {
  const double r = std::fmod(std::fabs(x), 2.0);
  double s = 0.0;
  if (r == 0.0 || r == 1.0) {
    s = 0.0;
  } else if (r <= 0.25) {
    s = std::sin(kPi * r);
  } else if (r < 0.75) {
    s = std::cos(kPi * (r - 0.5));
  } else if (r <= 1.25) {
    s = std::sin(kPi * (1.0 - r));
  } else if (r < 1.75) {
    s = -std::cos(kPi * (r - 1.5));
  } else {
    s = std::sin(kPi * (r - 2.0));
  }
  if (is_nan(r)) return kUndefined;
  return to_bits(float(x)) >> 31 != 0 ? -s : s;
}
double cos_pi(double x) {
  const double r = std::fmod(std::fabs(x), 2.0);
  if (is_nan(r)) return kUndefined;
  return r == 0.5 || r == 1.5 ? 0.0 : sin_pi(r + 0.5);
}

}  // namespace

TEST_CASE("exponentials and logarithms") {
  check({"exp", OURS(exp), REFERENCE(std::exp(x)), 1.2});
  check({"exp2", OURS(exp2), REFERENCE(std::exp2(x)), 1.2});
  check({"exp10", OURS(exp10), REFERENCE(std::pow(10.0, x)), 1.5});
  check({"log", OURS(log), REFERENCE(x < 0 ? kUndefined : std::log(x)), 1.0});
  check({"log2", OURS(log2), REFERENCE(x < 0 ? kUndefined : std::log2(x)), 2.0});
  check({"log10", OURS(log10), REFERENCE(x < 0 ? kUndefined : std::log10(x)), 2.0});
  check({"precise::exp", OURS(precise::exp), REFERENCE(std::exp(x)), 1.2});
  check({"fast::log", OURS(fast::log), REFERENCE(x < 0 ? kUndefined : std::log(x)), 1.0});
}

TEST_CASE("sine, cosine and tangent") {
  check({"sin", OURS(sin), REFERENCE(std::sin(x)), 2.0, -1e5f, 1e5f});
  check({"cos", OURS(cos), REFERENCE(std::cos(x)), 2.0, -1e5f, 1e5f});
  check({"tan", OURS(tan), REFERENCE(std::tan(x)), 4.0, -1e5f, 1e5f});
  check({"fast::sin", OURS(fast::sin), REFERENCE(std::sin(x)), 2.0, -1e5f, 1e5f});
  check({"precise::sin", OURS(precise::sin), REFERENCE(std::sin(x)), 2.0, -0x1p50f, 0x1p50f});
  check({"precise::cos", OURS(precise::cos), REFERENCE(std::cos(x)), 2.0, -0x1p50f, 0x1p50f});
  check({"precise::tan", OURS(precise::tan), REFERENCE(std::tan(x)), 4.0, -0x1p50f, 0x1p50f});
  check({"sinpi", OURS(sinpi), sin_pi, 2.5});
  check({"cospi", OURS(cospi), cos_pi, 2.5});
  check({"tanpi", OURS(tanpi), REFERENCE(sin_pi(x) / cos_pi(x)), 4.5, -0.49f, 0.49f});
}

TEST_CASE("precise sine and cosine hold next to the multiples of pi / 2") {
  Worst sine, cosine;
  for (double n = 1; n < 0x1p49; n = std::floor(n * 1.3 + 1)) {
    for (int step = -2; step <= 2; step++) {
      const float x = from_bits(to_bits(float(n * kPi / 2)) + uint32_t(step));
      sine.add(metal::precise::sin(x), std::sin(double(x)), x);
      cosine.add(metal::precise::cos(x), std::cos(double(x)), x);
    }
  }
  CHECK(sine.ulps <= 2.0);
  CHECK(cosine.ulps <= 2.0);
  float c;
  const float s = metal::precise::sincos(1e6f, c);
  CHECK(ulp_error(s, std::sin(1e6)) <= unit_of(s) * 2);
  CHECK(ulp_error(c, std::cos(1e6)) <= unit_of(c) * 2);
}

TEST_CASE("sine and cosine stay bounded however large the argument") {
  int wrong = 0;
  for (float x : samples()) {
    const bool finite = std::fabs(x) <= 0x1.fffffep127f;
    for (float y : {metal::sin(x), metal::cos(x), metal::precise::sin(x), metal::precise::cos(x)}) {
      wrong += finite ? !(std::fabs(y) <= 1.0f) : !is_nan(y);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("inverse trigonometric and hyperbolic functions") {
  check({"asin", OURS(asin), REFERENCE(std::asin(x)), 2.0});
  check({"acos", OURS(acos), REFERENCE(std::acos(x)), 2.0});
  check({"atan", OURS(atan), REFERENCE(std::atan(x)), 2.0});
  check({"sinh", OURS(sinh), REFERENCE(std::sinh(x)), 2.0});
  check({"cosh", OURS(cosh), REFERENCE(std::cosh(x)), 2.0});
  check({"tanh", OURS(tanh), REFERENCE(std::tanh(x)), 2.0});
  check({"asinh", OURS(asinh), REFERENCE(std::asinh(x)), 2.0});
  check({"acosh", OURS(acosh), REFERENCE(x < 1 ? kUndefined : std::acosh(x)), 2.0});
  check({"atanh", OURS(atanh), REFERENCE(std::atanh(x)), 2.0});
}

TEST_CASE("roots and rounding") {
  check({"sqrt", OURS(sqrt), REFERENCE(std::sqrt(x)), 0.51});
  check({"rsqrt", OURS(rsqrt), REFERENCE(1.0 / std::sqrt(x)), 2.0});
  check({"precise::rsqrt", OURS(precise::rsqrt), REFERENCE(1.0 / std::sqrt(x)), 0.51});
  check({"floor", OURS(floor), REFERENCE(std::floor(x)), 0.0});
  check({"ceil", OURS(ceil), REFERENCE(std::ceil(x)), 0.0});
  check({"trunc", OURS(trunc), REFERENCE(std::trunc(x)), 0.0});
  check({"rint", OURS(rint), REFERENCE(std::rint(x)), 0.0});
  check({"round", OURS(round), REFERENCE(std::round(x)), 0.0});
  check({"fract", OURS(fract), REFERENCE(is_nan(x) ? x : std::fmin(x - std::floor(x), 0x1.fffffep-1)), 0.5,
         -0x1p100f, 0x1p100f});
  check({"abs", OURS(abs), REFERENCE(std::fabs(x)), 0.0});
  CHECK(metal::round(2.5f) == 3.0f);
  CHECK(metal::rint(2.5f) == 2.0f);
}

TEST_CASE("functions of two arguments") {
  struct Binary {
    std::string name;
    float (*ours)(float, float);
    double (*reference)(double, double);
    double limit;
  };
  const Binary table[] = {
      {"pow", [](float a, float b) { return metal::pow(a, b); },
       [](double a, double b) { return std::pow(a, b); }, 1.5},
      {"precise::powr", [](float a, float b) { return metal::precise::powr(a, b); },
       [](double a, double b) { return a < 0 ? kUndefined : std::pow(std::fabs(a), b); }, 1.5},
      {"atan2", [](float a, float b) { return metal::atan2(a, b); },
       [](double a, double b) { return std::atan2(a, b); }, 2.0},
      {"precise::fmod", [](float a, float b) { return metal::precise::fmod(a, b); },
       [](double a, double b) { return std::fmod(a, b); }, 0.0},
      {"fmax", [](float a, float b) { return metal::fmax(a, b); },
       [](double a, double b) { return is_nan(a)   ? b
                                       : is_nan(b) ? a
                                       : a > b     ? a
                                                   : b; }, 0.0},
      {"fmin", [](float a, float b) { return metal::min(a, b); },
       [](double a, double b) { return is_nan(a)   ? b
                                       : is_nan(b) ? a
                                       : a < b     ? a
                                                   : b; }, 0.0},
      {"fdim", [](float a, float b) { return metal::fdim(a, b); },
       [](double a, double b) { return std::fdim(a, b); }, 0.51},
  };
  std::vector<float> interesting;
  for (uint32_t bits :
       {0x00000000u, 0x00000001u, 0x00400000u, 0x00800000u, 0x3EAAAAABu, 0x3F000000u, 0x3F7FFFFFu,
        0x3F800000u, 0x3F800001u, 0x40000000u, 0x40200000u, 0x40400000u, 0x42C80000u, 0x4B800001u,
        0x4C000001u, 0x7149F2CAu, 0x7F7FFFFFu, 0x7F800000u, 0x7FC00000u}) {
    interesting.push_back(from_bits(bits));
    interesting.push_back(from_bits(bits | 0x80000000u));
  }
  for (const Binary& f : table) {
    Worst worst;
    // Whether the maximum of two zeros has a sign is left open.
    const bool extreme = f.name == "fmax" || f.name == "fmin";
    for (float a : interesting) {
      for (float b : interesting) {
        if (extreme && a == b) continue;
        worst.add(f.ours(a, b), f.reference(a, b), a, b);
      }
    }
    uint32_t seed = 1;
    for (int i = 0; i < 60000; i++) {
      const uint32_t first = seed = seed * 1664525u + 1013904223u,
                     second = seed = seed * 1664525u + 1013904223u;
      // Any bits, bases near 1 with large exponents, moderate numbers.
      float a = from_bits(first), b = from_bits(second);
      if (i % 3 == 1)
        a = from_bits(0x3F600000u + first % 0x400000u), b = from_bits(0x40000000u + second % 0x4000000u);
      if (i % 3 == 2)
        a = from_bits(0x3E000000u + first % 0x4000000u), b = from_bits(0xBF000000u - second % 0x400000u);
      worst.add(f.ours(a, b), f.reference(a, b), a, b);
    }
    INFO(f.name << "(" << worst.x << ", " << worst.y << ")");
    CHECK(worst.ulps <= f.limit);
  }
  CHECK(metal::fmod(7.5f, -2.0f) == 1.5f);
  CHECK(metal::fast::pow(2.0f, 10.0f) == doctest::Approx(1024.0f));
  CHECK(metal::fast::max(2.0f, 3.0f) == 3.0f);
  CHECK(metal::fast::powr(3.0f, 2.0f) == doctest::Approx(9.0f));
  CHECK(metal::divide(1.0f, 4.0f) == 0.25f);
  CHECK(to_bits(metal::copysign(2.0f, from_bits(0x80000000u))) == 0xC0000000u);
  CHECK(metal::fma(2.0f, 3.0f, 4.0f) == 10.0f);
}

TEST_CASE("the parts of a number") {
  int bad_frexp = 0, bad_modf = 0, bad_ilogb = 0, bad_ldexp = 0, bad_nextafter = 0;
  for (float x : samples()) {
    if (is_nan(x)) continue;
    const bool finite = std::fabs(x) <= 0x1.fffffep127f;
    int exponent = 0, want_exponent = 0;
    const float mantissa = metal::frexp(x, exponent), want_mantissa = std::frexp(x, &want_exponent);
    bad_frexp += to_bits(mantissa) != to_bits(want_mantissa) || (finite && exponent != want_exponent);
    float whole = 0, want_whole = 0;
    const float fraction = metal::modf(x, whole), want_fraction = std::modf(x, &want_whole);
    bad_modf += whole != want_whole || to_bits(fraction) != to_bits(want_fraction);
    if (finite && x != 0.0f) bad_ilogb += metal::ilogb(x) != std::ilogb(x);
    for (int k : {-300, -150, -24, -1, 0, 1, 23, 130, 300}) {
      bad_ldexp += to_bits(metal::ldexp(x, k)) != to_bits(float(double(x) * std::ldexp(1.0, k)));
    }
    for (float y : {kInfinity, -kInfinity, 0.0f}) {
      if (x != y) bad_nextafter += to_bits(metal::nextafter(x, y)) != to_bits(std::nextafter(x, y));
    }
  }
  CHECK(bad_frexp == 0);
  CHECK(bad_modf == 0);
  CHECK(bad_ilogb == 0);
  CHECK(bad_ldexp == 0);
  CHECK(bad_nextafter == 0);
  CHECK(metal::ilogb(0.0f) == FP_ILOGB0);
  CHECK(float(metal::nextafter(half(1.0f), half(2.0f))) == 0x1.004p0f);
  CHECK(metal::nextafter(half(0.0f), half(-1.0f)).bits == 0x8001);
}

TEST_CASE("classification looks at the bits") {
  const float nan = from_bits(0x7FC00000), infinite = from_bits(0xFF800000), tiny = from_bits(1),
              zero = from_bits(0x80000000);
  CHECK(metal::isnan(nan));
  CHECK(!metal::isnan(infinite));
  CHECK(metal::isinf(infinite));
  CHECK(!metal::isinf(nan));
  CHECK(metal::isfinite(tiny));
  CHECK(!metal::isfinite(nan));
  CHECK(!metal::isfinite(infinite));
  CHECK(!metal::isnormal(tiny));
  CHECK(metal::isnormal(1.0f));
  CHECK(metal::signbit(zero));
  CHECK(metal::signbit(infinite));
  CHECK(metal::isunordered(nan, 1.0f));
  CHECK(metal::isordered(infinite, 1.0f));
  CHECK(metal::isnan(half::from_bits(0x7C01)));
  CHECK(metal::isinf(bfloat::from_bits(0x7F80)));
  CHECK(!metal::isnormal(half::from_bits(0x03FF)));
  CHECK(metal::isnormal(half::from_bits(0x0400)));
  CHECK(metal::all(metal::isnan(float2(nan, 1.0f)) == bool2(true, false)));
  CHECK(metal::sign(nan) == 0.0f);
  CHECK(metal::sign(-3.0f) == -1.0f);
  CHECK(to_bits(metal::sign(zero)) == 0x80000000u);
}

TEST_CASE("common functions") {
  CHECK(metal::clamp(5, 0, 3) == 3);
  CHECK(metal::clamp(-1.0f, 0.0f, 3.0f) == 0.0f);
  CHECK(metal::saturate(from_bits(0x7FC00000)) == 0.0f);
  CHECK(metal::saturate(1.5f) == 1.0f);
  CHECK(metal::mix(1.0f, 3.0f, 0.25f) == 1.5f);
  CHECK(metal::step(1.0f, 0.5f) == 0.0f);
  CHECK(metal::smoothstep(0.0f, 2.0f, 1.0f) == 0.5f);
  CHECK(metal::max3(1, 5, 3) == 5);
  CHECK(metal::min3(1.0f, -5.0f, 3.0f) == -5.0f);
  CHECK(metal::median3(4.0f, 1.0f, 3.0f) == 3.0f);
  CHECK(metal::max(3u, 4u) == 4u);
  CHECK(metal::abs(-3) == 3);
  CHECK(metal::abs(half(-2.5f)) == 2.5f);
  CHECK(metal::select(1.0f, 2.0f, true) == 2.0f);
  CHECK(metal::all(metal::select(float2(1, 2), float2(3, 4), bool2(true, false)) == float2(3, 2)));
  CHECK(metal::any(bool3(false, false, true)));
  CHECK(!metal::all(bool3(true, true, false)));
  CHECK(metal::as_type<uint>(1.0f) == 0x3F800000u);
  CHECK(metal::as_type<uchar4>(0x04030201u).z == 3);
  CHECK(metal::as_type<half2>(uint(0x3C00)).x == 1.0f);
}

TEST_CASE("vectors and small floats go through the same functions") {
  static_assert(metal::is_same<decltype(metal::exp(half(1.0f))), half>::value);
  static_assert(metal::is_same<decltype(metal::sin(half3(1.0f))), half3>::value);
  static_assert(metal::is_same<decltype(metal::max(half(1.0f), 2)), half>::value);
  static_assert(metal::is_same<decltype(metal::exp(1)), float>::value);
  const float4 x(0.5f, 1, 2, 3), e = metal::exp(x);
  for (uint i = 0; i < 4; i++) CHECK(e[i] == metal::exp(x[i]));
  CHECK(metal::all(metal::max(x, 1) == float4(1, 1, 2, 3)));
  CHECK(metal::all(metal::clamp(x, 1.0f, 2.0f) == float4(1, 1, 2, 2)));
  CHECK(metal::all(metal::fma(x, float4(2), float4(1)) == float4(2, 3, 5, 7)));
  CHECK(float(metal::exp(half(1.0f))) == float(half(2.718281828f)));
  CHECK(float(metal::exp(half(12.0f))) == kInfinity);
  float4 cosine;
  const float4 sine = metal::sincos(x, cosine);
  CHECK(sine.z == metal::sin(2.0f));
  CHECK(cosine.w == metal::cos(3.0f));
  int4 exponents;
  const float4 mantissas = metal::frexp(x, exponents);
  CHECK(metal::all(metal::ldexp(mantissas, exponents) == x));
  CHECK(metal::dot(x, float4(1, 2, 3, 4)) == 20.5f);
  CHECK(metal::length(float3(2, 3, 6)) == doctest::Approx(7.0f));
  CHECK(metal::distance(float2(1, 1), float2(4, 5)) == doctest::Approx(5.0f));
  CHECK(metal::all(metal::cross(float3(1, 0, 0), float3(0, 1, 0)) == float3(0, 0, 1)));
  CHECK(metal::length_squared(metal::normalize(float3(1, 2, 3))) == doctest::Approx(1.0f));
  CHECK(metal::all(metal::reflect(float2(1, -1), float2(0, 1)) == float2(1, 1)));
  CHECK(metal::all(metal::refract(float2(0, -1), float2(0, 1), 0.5f) == float2(0, -1)));
  CHECK(metal::all(metal::refract(float2(0.8f, -0.6f), float2(0, 1), 2.0f) == float2(0)));
  CHECK(metal::all(metal::faceforward(float2(0, 1), float2(0, 1), float2(0, 1)) == float2(0, -1)));
}
