// half and bfloat: 2-byte storage, every operation in float, each result rounded to nearest even.
#pragma once

#include "softmetal_traits.h"

namespace softmetal::types {

struct half_format {
  static constexpr uint16_t exponent = 0x7C00;

// Compilers that do not vectorise the conversions of _Float16 (gcc 12 neither way, clang 16 not the
// narrowing) get them spelt in integers.
#if defined(__clang__)
  static constexpr SOFTMETAL_INLINE float widen(uint16_t bits) {
    return float(__builtin_bit_cast(_Float16, bits));
  }
#else
  static constexpr SOFTMETAL_INLINE float widen(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000) << 16;
    const uint32_t magnitude = uint32_t(bits & 0x7FFF) << 13;
    // A denormal is its integer value times 2^-24, which float represents exactly.
    const float denormal = float(int32_t(bits & 0x7FFF)) * 0x1p-24f;
    const uint32_t normal = magnitude + (112u << 23);
    const uint32_t special =
        magnitude + (224u << 23) + (magnitude > (0x7C00u << 13) ? 0x00400000u & ~magnitude : 0u);
    uint32_t result = magnitude < (0x0400u << 13) ? __builtin_bit_cast(uint32_t, denormal) : normal;
    result = magnitude >= (0x7C00u << 13) ? special : result;
    return __builtin_bit_cast(float, result | sign);
  }
#endif

#if defined(__clang__) && __clang_major__ >= 20
  static constexpr SOFTMETAL_INLINE uint16_t narrow(float value) {
    return __builtin_bit_cast(uint16_t, static_cast<_Float16>(value));
  }
#else
  static constexpr SOFTMETAL_INLINE uint16_t narrow(float value) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, value);
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    const uint32_t odd = (magnitude >> 13) & 1;
    const uint32_t normal = (magnitude + 0xFFFu + odd - (112u << 23)) >> 13;
    // Adding 0.5 leaves the value in units of 2^-24, rounded by the addition itself, in the low bits.
    const float aligned = __builtin_bit_cast(float, magnitude) + 0.5f;
    const uint32_t denormal = __builtin_bit_cast(uint32_t, aligned) - 0x3F000000u;
    const uint32_t nan = 0x7E00u | ((magnitude >> 13) & 0x3FFu);
    uint32_t result = magnitude < 0x38800000u ? denormal : normal;
    result = magnitude >= 0x477FF000u ? 0x7C00u : result;
    result = magnitude > 0x7F800000u ? nan : result;
    return uint16_t(result | ((bits >> 16) & 0x8000u));
  }
#endif
};

struct bfloat_format {
  static constexpr uint16_t exponent = 0x7F80;

  static constexpr SOFTMETAL_INLINE float widen(uint16_t bits) {
    return __builtin_bit_cast(float, uint32_t(bits) << 16);
  }
  static constexpr SOFTMETAL_INLINE uint16_t narrow(float value) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, value);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40u;
    return uint16_t((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
  }
};

template <class Format>
struct small_float {
  uint16_t bits;

  small_float() = default;
  constexpr SOFTMETAL_INLINE small_float(float value) : bits(Format::narrow(value)) {}
  // To float alone without a cast, so that an integer and a small float meet in the small float.
  template <class T, metal::enable_if_t<metal::is_same<T, float>::value, int> = 0>
  constexpr SOFTMETAL_INLINE operator T() const {
    return Format::widen(bits);
  }
  template <class T, metal::enable_if_t<metal::is_arithmetic<T>::value && !metal::is_same<T, float>::value &&
                                            !metal::is_same<T, small_float>::value,
                                        int> = 0>
  constexpr SOFTMETAL_INLINE explicit operator T() const {
    return T(Format::widen(bits));
  }

  static constexpr SOFTMETAL_INLINE small_float from_bits(uint16_t b) {
    small_float r(b, 0);
    return r;
  }

  constexpr SOFTMETAL_INLINE small_float operator-() const { return from_bits(bits ^ 0x8000); }
  constexpr SOFTMETAL_INLINE small_float operator+() const { return *this; }
  constexpr SOFTMETAL_INLINE bool operator!() const { return (bits & 0x7FFF) == 0; }

  constexpr SOFTMETAL_INLINE small_float& operator++() { return *this += 1.0f; }
  constexpr SOFTMETAL_INLINE small_float& operator--() { return *this -= 1.0f; }
  constexpr SOFTMETAL_INLINE small_float operator++(int) {
    const small_float old = *this;
    *this += 1.0f;
    return old;
  }
  constexpr SOFTMETAL_INLINE small_float operator--(int) {
    const small_float old = *this;
    *this -= 1.0f;
    return old;
  }

  // With another small_float of the same kind or an integer the result stays small; with a float it is float.
#define SOFTMETAL_SMALL_ARITHMETIC(op)                                                                  \
  friend constexpr SOFTMETAL_INLINE small_float operator op(small_float a, small_float b) {             \
    return float(a) op float(b);                                                                        \
  }                                                                                                     \
  friend constexpr SOFTMETAL_INLINE float operator op(small_float a, float b) { return float(a) op b; } \
  friend constexpr SOFTMETAL_INLINE float operator op(float a, small_float b) { return a op float(b); } \
  template <class I, class = metal::enable_if_t<metal::is_integral<I>::value || __is_enum(I)>>          \
  friend constexpr SOFTMETAL_INLINE small_float operator op(small_float a, I b) {                       \
    return float(a) op float(small_float(float(b)));                                                    \
  }                                                                                                     \
  template <class I, class = metal::enable_if_t<metal::is_integral<I>::value || __is_enum(I)>>          \
  friend constexpr SOFTMETAL_INLINE small_float operator op(I a, small_float b) {                       \
    return float(small_float(float(a))) op float(b);                                                    \
  }                                                                                                     \
  template <class S>                                                                                    \
  constexpr SOFTMETAL_INLINE small_float& operator op## = (S b) {                                       \
    return *this = small_float(float(*this op b));                                                      \
  }                                                                                                     \
  template <class T, class = metal::enable_if_t<metal::is_arithmetic<T>::value && !__is_class(T)>>      \
  friend constexpr SOFTMETAL_INLINE T& operator op## = (T & a, small_float b) {                         \
    return a = T(a op b);                                                                               \
  }
  SOFTMETAL_SMALL_ARITHMETIC(+)
  SOFTMETAL_SMALL_ARITHMETIC(-)
  SOFTMETAL_SMALL_ARITHMETIC(*)
  SOFTMETAL_SMALL_ARITHMETIC(/)
#undef SOFTMETAL_SMALL_ARITHMETIC

#define SOFTMETAL_SMALL_COMPARE(op)                                                                    \
  friend constexpr SOFTMETAL_INLINE bool operator op(small_float a, small_float b) {                   \
    return float(a) op float(b);                                                                       \
  }                                                                                                    \
  friend constexpr SOFTMETAL_INLINE bool operator op(small_float a, float b) { return float(a) op b; } \
  friend constexpr SOFTMETAL_INLINE bool operator op(float a, small_float b) { return a op float(b); } \
  template <class I, class = metal::enable_if_t<metal::is_integral<I>::value || __is_enum(I)>>         \
  friend constexpr SOFTMETAL_INLINE bool operator op(small_float a, I b) {                             \
    return float(a) op float(b);                                                                       \
  }                                                                                                    \
  template <class I, class = metal::enable_if_t<metal::is_integral<I>::value || __is_enum(I)>>         \
  friend constexpr SOFTMETAL_INLINE bool operator op(I a, small_float b) {                             \
    return float(a) op float(b);                                                                       \
  }
  SOFTMETAL_SMALL_COMPARE(==)
  SOFTMETAL_SMALL_COMPARE(!=)
  SOFTMETAL_SMALL_COMPARE(<)
  SOFTMETAL_SMALL_COMPARE(<=)
  SOFTMETAL_SMALL_COMPARE(>)
  SOFTMETAL_SMALL_COMPARE(>=)
#undef SOFTMETAL_SMALL_COMPARE

 private:
  constexpr SOFTMETAL_INLINE small_float(uint16_t b, int) : bits(b) {}
};

// half with bfloat meets in float.
#define SOFTMETAL_MIXED(op, R)                                                          \
  template <class F, class G, class = metal::enable_if_t<!metal::is_same<F, G>::value>> \
  constexpr SOFTMETAL_INLINE R operator op(small_float<F> a, small_float<G> b) {        \
    return float(a) op float(b);                                                        \
  }
SOFTMETAL_MIXED(+, float)
SOFTMETAL_MIXED(-, float)
SOFTMETAL_MIXED(*, float)
SOFTMETAL_MIXED(/, float)
SOFTMETAL_MIXED(==, bool)
SOFTMETAL_MIXED(!=, bool)
SOFTMETAL_MIXED(<, bool)
SOFTMETAL_MIXED(<=, bool)
SOFTMETAL_MIXED(>, bool)
SOFTMETAL_MIXED(>=, bool)
#undef SOFTMETAL_MIXED

}  // namespace softmetal::types

namespace softmetal {
using types::small_float;
}

typedef softmetal::small_float<softmetal::types::half_format> half;
typedef softmetal::small_float<softmetal::types::bfloat_format> bfloat;

namespace metal {
template <class F>
struct is_floating_point_base<softmetal::small_float<F>> : true_type {};
using ::bfloat;
using ::half;
}  // namespace metal
