// <metal_math>, <metal_common>, <metal_relational> and as_type over scalars and vectors: every function takes
// any mix of floats, small floats, integers and vectors, computes in the type that MSL would, element by
// element.
#pragma once

#include "softmetal_float.h"
#include "softmetal_vector.h"

namespace softmetal {

// The type in which an operation on two scalars happens. A class type counts as the float it converts to.
template <class A, class B>
constexpr auto common_scalar() {
  constexpr bool a_real = !metal::is_integral<A>::value, b_real = !metal::is_integral<B>::value;
  if constexpr (metal::is_same<A, B>::value) {
    return metal::type_identity<A>();
  } else if constexpr (a_real && b_real) {
    return metal::type_identity<float>();
  } else if constexpr (a_real) {
    return metal::type_identity<A>();
  } else if constexpr (b_real) {
    return metal::type_identity<B>();
  } else {
    return metal::type_identity<decltype(A() + B())>();
  }
}
template <class A>
constexpr auto scalar_value() {
  if constexpr (metal::is_same<A, double>::value) {
    return metal::type_identity<float>();
  } else if constexpr (metal::is_arithmetic<A>::value) {
    return metal::type_identity<A>();
  } else if constexpr (__is_enum(A)) {
    return metal::type_identity<int>();
  } else {
    static_assert(metal::is_convertible<A, float>::value,
                  "a math function takes numbers and vectors of numbers");
    return metal::type_identity<float>();
  }
}
// The vector type among the arguments decides; without one, the usual conversions of the scalars.
template <class A, class... R>
constexpr auto common_value() {
  if constexpr (is_vector<A>) {
    return metal::type_identity<vector_of<A>>();
  } else if constexpr (sizeof...(R) == 0) {
    return scalar_value<A>();
  } else {
    using rest = typename decltype(common_value<R...>())::type;
    if constexpr (is_vector<rest>) {
      return metal::type_identity<rest>();
    } else {
      return common_scalar<typename decltype(scalar_value<A>())::type, rest>();
    }
  }
}
template <class... A>
using value_type = typename decltype(common_value<A...>())::type;

// An argument as the type in which the operation happens. A vector of another type does not convert.
template <class V, class A>
constexpr SOFTMETAL_INLINE V as_value(const A& a) {
  if constexpr (is_vector<A>) {
    const vector_of<A> v = a;
    return v;
  } else if constexpr (is_vector<V>) {
    return V(element_of<V>(a));
  } else {
    return V(a);
  }
}

// F::call on each element.
template <class F, int I, class... V>
constexpr SOFTMETAL_INLINE auto call_element(const V&... v) {
  return F::call(v.template get<I>()...);
}
template <class F, class V, class... A>
constexpr SOFTMETAL_INLINE auto map_values(const A&... a) {
  if constexpr (!is_vector<V>) {
    return F::call(a...);
  } else {
    using R = decltype(call_element<F, 0>(a...));
    if constexpr (metal::is_same<R, void>::value) {
      call_element<F, 0>(a...), call_element<F, 1>(a...);
    } else if constexpr (width_of<V> == 2) {
      return metal::vec<R, 2>(call_element<F, 0>(a...), call_element<F, 1>(a...));
    } else if constexpr (width_of<V> == 3) {
      return metal::vec<R, 3>(call_element<F, 0>(a...), call_element<F, 1>(a...), call_element<F, 2>(a...));
    } else {
      return metal::vec<R, 4>(call_element<F, 0>(a...), call_element<F, 1>(a...), call_element<F, 2>(a...),
                              call_element<F, 3>(a...));
    }
  }
}
template <class F, class... A>
constexpr SOFTMETAL_INLINE auto map(const A&... a) {
  using V = value_type<A...>;
  return map_values<F, V>(as_value<V>(a)...);
}

// A function of floats, given its address. Small floats are computed as floats and rounded; integers become
// floats.
template <auto F>
struct real {
  template <class... T>
  static constexpr SOFTMETAL_INLINE auto call(T... x) {
    using E = value_type<T...>;
    using R = decltype(F(float(x)...));
    if constexpr (metal::is_same<R, float>::value && metal::is_floating_point<E>::value) {
      return E(F(float(x)...));
    } else {
      return F(float(x)...);
    }
  }
};

}  // namespace softmetal

// NAME(a), NAME(a, b), NAME(a, b, c) through a functor with `call`.
#define SOFTMETAL_MAP1(name, ...)                    \
  template <class A>                                 \
  constexpr SOFTMETAL_INLINE auto name(const A& a) { \
    return softmetal::map<__VA_ARGS__>(a);           \
  }
#define SOFTMETAL_MAP2(name, ...)                                \
  template <class A, class B>                                    \
  constexpr SOFTMETAL_INLINE auto name(const A& a, const B& b) { \
    return softmetal::map<__VA_ARGS__>(a, b);                    \
  }
#define SOFTMETAL_MAP3(name, ...)                                            \
  template <class A, class B, class C>                                       \
  constexpr SOFTMETAL_INLINE auto name(const A& a, const B& b, const C& c) { \
    return softmetal::map<__VA_ARGS__>(a, b, c);                             \
  }
#define SOFTMETAL_REAL1(name, f) SOFTMETAL_MAP1(name, softmetal::real<&softmetal::f>)
#define SOFTMETAL_REAL2(name, f) SOFTMETAL_MAP2(name, softmetal::real<&softmetal::f>)
#define SOFTMETAL_REAL3(name, f) SOFTMETAL_MAP3(name, softmetal::real<&softmetal::f>)

namespace softmetal {

// fmin and fmax return the number when one argument is NaN.
struct max_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T a, T b) {
    if constexpr (metal::is_same<T, float>::value) {
#if defined(__clang__)
      return __builtin_fmaxf(a, b);
#else
      const float larger = a > b ? a : b;
      return b == b ? larger : a;
#endif
    } else if constexpr (metal::is_floating_point<T>::value) {
      return call(float(a), float(b));
    } else {
      return a > b ? a : b;
    }
  }
};
struct min_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T a, T b) {
    if constexpr (metal::is_same<T, float>::value) {
#if defined(__clang__)
      return __builtin_fminf(a, b);
#else
      const float smaller = a < b ? a : b;
      return b == b ? smaller : a;
#endif
    } else if constexpr (metal::is_floating_point<T>::value) {
      return call(float(a), float(b));
    } else {
      return a < b ? a : b;
    }
  }
};
// The forms without that promise, which reductions can vectorise. gcc folds the comparison to its own maximum
// operation while it parses, if NaNs are declared absent there.
#if defined(__clang__)
SOFTMETAL_INLINE float fast_max(float a, float b) { return __builtin_fmaxf(a, b); }
SOFTMETAL_INLINE float fast_min(float a, float b) { return __builtin_fminf(a, b); }
#else
#define SOFTMETAL_NO_NANS __attribute__((optimize("finite-math-only", "no-signed-zeros")))
SOFTMETAL_NO_NANS SOFTMETAL_INLINE float fast_max(float a, float b) { return a > b ? a : b; }
SOFTMETAL_NO_NANS SOFTMETAL_INLINE float fast_min(float a, float b) { return a < b ? a : b; }
#undef SOFTMETAL_NO_NANS
#endif
struct fast_max_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T a, T b) {
    if constexpr (metal::is_floating_point<T>::value) {
      return T(fast_max(float(a), float(b)));
    } else {
      return a > b ? a : b;
    }
  }
};
struct fast_min_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T a, T b) {
    if constexpr (metal::is_floating_point<T>::value) {
      return T(fast_min(float(a), float(b)));
    } else {
      return a < b ? a : b;
    }
  }
};
struct max3_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T a, T b, T c) {
    return max_op::call(max_op::call(a, b), c);
  }
};
struct min3_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T a, T b, T c) {
    return min_op::call(min_op::call(a, b), c);
  }
};
struct median3_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T a, T b, T c) {
    return max_op::call(min_op::call(a, b), min_op::call(max_op::call(a, b), c));
  }
};
// NaN goes to the lower bound, as fmin(fmax(x, low), high) has it.
struct clamp_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T x, T low, T high) {
    return min_op::call(max_op::call(x, low), high);
  }
};
struct abs_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE T call(T x) {
    if constexpr (metal::is_same<T, float>::value) {
      return absolute(x);
    } else if constexpr (metal::is_floating_point<T>::value) {
      return T::from_bits(x.bits & 0x7FFF);
    } else if constexpr (metal::is_unsigned<T>::value) {
      return x;
    } else {
      return T(x < 0 ? metal::make_unsigned_t<T>(0) - metal::make_unsigned_t<T>(x)
                     : metal::make_unsigned_t<T>(x));
    }
  }
};

SOFTMETAL_INLINE float saturate(float x) { return clamp_op::call(x, 0.0f, 1.0f); }
SOFTMETAL_INLINE float mix(float x, float y, float a) { return x + (y - x) * a; }
SOFTMETAL_INLINE float step(float edge, float x) { return x < edge ? 0.0f : 1.0f; }
SOFTMETAL_INLINE float smoothstep(float low, float high, float x) {
  const float t = saturate((x - low) / (high - low));
  return t * t * (3.0f - 2.0f * t);
}
SOFTMETAL_INLINE float sign(float x) {  // +-1, a zero itself, 0 for NaN
  const uint32_t m = magnitude_of(x);
  const uint32_t one = m > 0x7F800000u ? 0u : 0x3F800000u | sign_of(x);
  return float_of(m == 0 ? bits_of(x) : one);
}

// Classes of values, from the bits: a comparison would be folded away in fast-math code.
template <class T>
constexpr SOFTMETAL_INLINE uint32_t wide_bits(T x) {
  if constexpr (metal::is_floating_point<T>::value && sizeof(T) == 2) {
    return x.bits;
  } else {
    return bits_of(float(x));
  }
}
template <class T>
struct number_format {
  static constexpr uint32_t sign = 0x80000000u, infinite = 0x7F800000u, least_normal = 0x00800000u;
};
template <class F>
struct number_format<small_float<F>> {
  static constexpr uint32_t sign = 0x8000u, infinite = F::exponent;
  static constexpr uint32_t least_normal = F::exponent & (~uint32_t(F::exponent) + 1);
};
#define SOFTMETAL_CLASS(name, test)                           \
  struct name##_op {                                          \
    template <class T>                                        \
    static constexpr SOFTMETAL_INLINE bool call(T x) {        \
      using format = number_format<T>;                        \
      const uint32_t b = wide_bits(x), m = b & ~format::sign; \
      (void)m;                                                \
      return test;                                            \
    }                                                         \
  };
SOFTMETAL_CLASS(isnan, m > format::infinite)
SOFTMETAL_CLASS(isinf, m == format::infinite)
SOFTMETAL_CLASS(isfinite, m < format::infinite)
SOFTMETAL_CLASS(isnormal, m >= format::least_normal && m < format::infinite)
SOFTMETAL_CLASS(signbit, (b & format::sign) != 0)
#undef SOFTMETAL_CLASS
struct isunordered_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE bool call(T a, T b) {
    return isnan_op::call(a) || isnan_op::call(b);
  }
};
struct isordered_op {
  template <class T>
  static constexpr SOFTMETAL_INLINE bool call(T a, T b) {
    return !isunordered_op::call(a, b);
  }
};
struct not_op {
  static constexpr SOFTMETAL_INLINE bool call(bool a) { return !a; }
};

}  // namespace softmetal

namespace metal {

SOFTMETAL_MAP1(abs, softmetal::abs_op)
SOFTMETAL_MAP1(fabs, softmetal::abs_op)
SOFTMETAL_MAP2(max, softmetal::max_op)
SOFTMETAL_MAP2(min, softmetal::min_op)
SOFTMETAL_MAP2(fmax, softmetal::max_op)
SOFTMETAL_MAP2(fmin, softmetal::min_op)
SOFTMETAL_MAP3(max3, softmetal::max3_op)
SOFTMETAL_MAP3(min3, softmetal::min3_op)
SOFTMETAL_MAP3(median3, softmetal::median3_op)
SOFTMETAL_MAP3(fmax3, softmetal::max3_op)
SOFTMETAL_MAP3(fmin3, softmetal::min3_op)
SOFTMETAL_MAP3(fmedian3, softmetal::median3_op)
SOFTMETAL_MAP3(clamp, softmetal::clamp_op)
SOFTMETAL_REAL1(saturate, saturate)
SOFTMETAL_REAL3(mix, mix)
SOFTMETAL_REAL2(step, step)
SOFTMETAL_REAL3(smoothstep, smoothstep)
SOFTMETAL_REAL1(sign, sign)
SOFTMETAL_MAP1(isnan, softmetal::isnan_op)
SOFTMETAL_MAP1(isinf, softmetal::isinf_op)
SOFTMETAL_MAP1(isfinite, softmetal::isfinite_op)
SOFTMETAL_MAP1(isnormal, softmetal::isnormal_op)
SOFTMETAL_MAP1(signbit, softmetal::signbit_op)
SOFTMETAL_MAP2(isordered, softmetal::isordered_op)
SOFTMETAL_MAP2(isunordered, softmetal::isunordered_op)

SOFTMETAL_REAL1(acosh, acosh)
SOFTMETAL_REAL1(asinh, asinh)
SOFTMETAL_REAL1(atanh, atanh)
SOFTMETAL_REAL1(ceil, ceil)
SOFTMETAL_REAL2(copysign, copysign)
SOFTMETAL_REAL2(fdim, fdim)
SOFTMETAL_REAL1(floor, floor)
SOFTMETAL_REAL3(fma, fma)
SOFTMETAL_REAL1(fract, fract)
SOFTMETAL_REAL1(ilogb, ilogb)
SOFTMETAL_REAL1(rint, rint)
SOFTMETAL_REAL1(round, round)
SOFTMETAL_REAL1(trunc, trunc)

// The functions that exist in a default, a fast:: and a precise:: form. All three are the same code
// where a faster form would save little.
#define SOFTMETAL_SHARED_FORMS    \
  SOFTMETAL_REAL1(acos, acos)     \
  SOFTMETAL_REAL1(asin, asin)     \
  SOFTMETAL_REAL1(atan, atan)     \
  SOFTMETAL_REAL2(atan2, atan2)   \
  SOFTMETAL_REAL1(cosh, cosh)     \
  SOFTMETAL_REAL1(cospi, cospi)   \
  SOFTMETAL_REAL2(divide, divide) \
  SOFTMETAL_REAL1(exp, exp)       \
  SOFTMETAL_REAL1(exp2, exp2)     \
  SOFTMETAL_REAL1(exp10, exp10)   \
  SOFTMETAL_REAL1(log, log)       \
  SOFTMETAL_REAL1(log2, log2)     \
  SOFTMETAL_REAL1(log10, log10)   \
  SOFTMETAL_REAL1(sinh, sinh)     \
  SOFTMETAL_REAL1(sinpi, sinpi)   \
  SOFTMETAL_REAL1(sqrt, sqrt)     \
  SOFTMETAL_REAL1(tanh, tanh)     \
  SOFTMETAL_REAL1(tanpi, tanpi)
#define SOFTMETAL_OWN_FORMS(prefix, fmod_f, pow_f, powr_f, rsqrt_f)      \
  SOFTMETAL_REAL1(sin, prefix##sin)                                      \
  SOFTMETAL_REAL1(cos, prefix##cos)                                      \
  SOFTMETAL_REAL1(tan, prefix##tan)                                      \
  SOFTMETAL_REAL2(fmod, fmod_f)                                          \
  SOFTMETAL_REAL2(pow, pow_f)                                            \
  SOFTMETAL_REAL2(powr, powr_f)                                          \
  SOFTMETAL_REAL1(rsqrt, rsqrt_f)                                        \
  template <class A, class B>                                            \
  SOFTMETAL_INLINE auto sincos(const A& a, B& cosine) {                  \
    using V = softmetal::value_type<A>;                                  \
    V c;                                                                 \
    const V s = softmetal::map_out<&softmetal::prefix##sincos>(V(a), c); \
    cosine = c;                                                          \
    return s;                                                            \
  }
}  // namespace metal

namespace softmetal {
// F(x, out) on each element.
template <auto F, class T, class O>
SOFTMETAL_INLINE T call_out(T x, O& out) {
  if constexpr (metal::is_floating_point<O>::value) {
    float wide;
    const T r = F(float(x), wide);
    out = wide;
    return r;
  } else {
    int32_t wide;
    const T r = F(float(x), wide);
    out = O(wide);
    return r;
  }
}
template <auto F, class V, class O>
SOFTMETAL_INLINE V map_out(const V& x, O& out) {
  if constexpr (is_vector<V>) {
    V r;
    r.x = call_out<F>(x.x, out.x);
    r.y = call_out<F>(x.y, out.y);
    if constexpr (width_of<V> > 2) r.z = call_out<F>(x.z, out.z);
    if constexpr (width_of<V> > 3) r.w = call_out<F>(x.w, out.w);
    return r;
  } else {
    return call_out<F>(x, out);
  }
}
}  // namespace softmetal

namespace metal {

SOFTMETAL_SHARED_FORMS
SOFTMETAL_OWN_FORMS(fast_, fmod, pow, powr, rsqrt)
namespace fast {
SOFTMETAL_SHARED_FORMS
SOFTMETAL_OWN_FORMS(fast_, fmod, fast_pow, fast_powr, rsqrt)
SOFTMETAL_MAP1(abs, softmetal::abs_op)
SOFTMETAL_MAP1(fabs, softmetal::abs_op)
SOFTMETAL_MAP2(max, softmetal::fast_max_op)
SOFTMETAL_MAP2(min, softmetal::fast_min_op)
SOFTMETAL_MAP2(fmax, softmetal::fast_max_op)
SOFTMETAL_MAP2(fmin, softmetal::fast_min_op)
using metal::acosh;
using metal::asinh;
using metal::atanh;
using metal::ceil;
using metal::clamp;
using metal::copysign;
using metal::fdim;
using metal::floor;
using metal::fma;
using metal::fmax3;
using metal::fmedian3;
using metal::fmin3;
using metal::fract;
using metal::max3;
using metal::median3;
using metal::min3;
using metal::mix;
using metal::rint;
using metal::round;
using metal::saturate;
using metal::sign;
using metal::smoothstep;
using metal::step;
using metal::trunc;
}  // namespace fast
namespace precise {
SOFTMETAL_SHARED_FORMS
SOFTMETAL_OWN_FORMS(precise_, precise_fmod, pow, powr, precise_rsqrt)
using metal::abs;
using metal::acosh;
using metal::asinh;
using metal::atanh;
using metal::ceil;
using metal::clamp;
using metal::copysign;
using metal::fabs;
using metal::fdim;
using metal::floor;
using metal::fma;
using metal::fmax;
using metal::fmax3;
using metal::fmedian3;
using metal::fmin;
using metal::fmin3;
using metal::fract;
using metal::max;
using metal::max3;
using metal::median3;
using metal::min;
using metal::min3;
using metal::mix;
using metal::rint;
using metal::round;
using metal::saturate;
using metal::sign;
using metal::smoothstep;
using metal::step;
using metal::trunc;
}  // namespace precise
#undef SOFTMETAL_SHARED_FORMS
#undef SOFTMETAL_OWN_FORMS

// ---- reinterpretation and selection ----

template <class To, class From>
constexpr SOFTMETAL_INLINE To as_type(const From& from) {
  if constexpr (softmetal::is_proxy<From>) {
    return as_type<To>(softmetal::unproxy(from));
  } else {
    static_assert(sizeof(To) == sizeof(From), "as_type needs two types of the same size");
    return __builtin_bit_cast(To, from);
  }
}

// c ? b : a, element by element if c is a vector.
template <class A, class B, class C>
constexpr SOFTMETAL_INLINE auto select(const A& a, const B& b, const C& c) {
  using V = softmetal::value_type<A, B>;
  const V x = softmetal::as_value<V>(a), y = softmetal::as_value<V>(b);
  if constexpr (!softmetal::is_vector<C>) {
    return c ? y : x;
  } else if constexpr (softmetal::width_of<V> == 2) {
    const softmetal::vector_of<C> m = c;
    return V(m.x ? y.x : x.x, m.y ? y.y : x.y);
  } else if constexpr (softmetal::width_of<V> == 3) {
    const softmetal::vector_of<C> m = c;
    return V(m.x ? y.x : x.x, m.y ? y.y : x.y, m.z ? y.z : x.z);
  } else {
    const softmetal::vector_of<C> m = c;
    return V(m.x ? y.x : x.x, m.y ? y.y : x.y, m.z ? y.z : x.z, m.w ? y.w : x.w);
  }
}

template <class A>
constexpr SOFTMETAL_INLINE bool any(const A& a) {
  if constexpr (softmetal::is_vector<A>) {
    const softmetal::vector_of<A> v = a;
    bool r = v.x || v.y;
    if constexpr (softmetal::width_of<A> > 2) r = r || v.z;
    if constexpr (softmetal::width_of<A> > 3) r = r || v.w;
    return r;
  } else {
    return bool(a);
  }
}
template <class A>
constexpr SOFTMETAL_INLINE bool all(const A& a) {
  if constexpr (softmetal::is_vector<A>) {
    const softmetal::vector_of<A> v = a;
    bool r = v.x && v.y;
    if constexpr (softmetal::width_of<A> > 2) r = r && v.z;
    if constexpr (softmetal::width_of<A> > 3) r = r && v.w;
    return r;
  } else {
    return bool(a);
  }
}

// ---- numbers and their parts ----

template <class A, class B>
SOFTMETAL_INLINE auto modf(const A& a, B& integral) {
  using V = softmetal::value_type<A>;
  V whole;
  const V f = softmetal::map_out<&softmetal::modf>(V(a), whole);
  integral = whole;
  return f;
}
template <class A, class B>
SOFTMETAL_INLINE auto frexp(const A& a, B& exponent) {
  using V = softmetal::value_type<A>;
  return softmetal::map_out<&softmetal::frexp>(V(a), exponent);
}
template <class A, class K>
SOFTMETAL_INLINE auto ldexp(const A& a, const K& k) {
  using V = softmetal::value_type<A>;
  if constexpr (softmetal::is_vector<A>) {
    const V v = a;
    const vec<int, softmetal::width_of<A>> e = softmetal::as_value<vec<int, softmetal::width_of<A>>>(k);
    V r;
    for (int i = 0; i < softmetal::width_of<A>; i++) r[i] = softmetal::ldexp(float(v[i]), e[i]);
    return r;
  } else {
    return V(softmetal::ldexp(float(a), int(k)));
  }
}

}  // namespace metal

namespace softmetal {
struct nextafter_op {
  template <class T>
  static SOFTMETAL_INLINE T call(T x, T y) {
    if constexpr (sizeof(T) == 4) {
      return nextafter(float(x), float(y));
    } else {
      // The neighbouring pattern of 16 bits, by the same rules as the neighbouring pattern of 32.
      if (isnan_op::call(x) || isnan_op::call(y)) return isnan_op::call(x) ? x : y;
      if (x == y) return y;
      if ((x.bits & 0x7FFF) == 0) return T::from_bits(uint16_t((y.bits & 0x8000) | 1));
      const bool away = (float(y) > float(x)) == ((x.bits & 0x8000) == 0);
      return T::from_bits(uint16_t(away ? x.bits + 1 : x.bits - 1));
    }
  }
};
}  // namespace softmetal

namespace metal {
SOFTMETAL_MAP2(nextafter, softmetal::nextafter_op)
}

// A keyword of MSL, so known without its namespace.
using metal::as_type;
