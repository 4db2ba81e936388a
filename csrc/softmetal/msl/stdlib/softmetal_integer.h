// <metal_integer>: exact at every width, without undefined overflow.
#pragma once

#include "softmetal_math.h"

namespace softmetal {

template <class T>
using unsigned_of = metal::make_unsigned_t<T>;
// The next wider type, which holds every sum and product of two T. There is none above 64 bits but __int128.
template <class T>
struct wider {
  using type = metal::conditional_t<metal::is_signed<T>::value, long, unsigned long>;
};
template <>
struct wider<long> {
  using type = __int128;
};
template <>
struct wider<unsigned long> {
  using type = unsigned __int128;
};
template <class T>
using wider_t = typename wider<T>::type;
template <class T>
constexpr T lowest_of = metal::is_signed<T>::value ? T(unsigned_of<T>(1) << (sizeof(T) * 8 - 1)) : T(0);
template <class T>
constexpr T highest_of = T(~lowest_of<T>);
template <class T>
constexpr SOFTMETAL_INLINE T saturated(wider_t<T> x) {
  x = x < wider_t<T>(lowest_of<T>) ? wider_t<T>(lowest_of<T>) : x;
  return T(x > wider_t<T>(highest_of<T>) ? wider_t<T>(highest_of<T>) : x);
}

#define SOFTMETAL_OP1(name, ...)                       \
  struct name##_op {                                   \
    template <class T>                                 \
    static constexpr SOFTMETAL_INLINE auto call(T a) { \
      __VA_ARGS__                                      \
    }                                                  \
  };
#define SOFTMETAL_OP2(name, ...)                            \
  struct name##_op {                                        \
    template <class T>                                      \
    static constexpr SOFTMETAL_INLINE auto call(T a, T b) { \
      __VA_ARGS__                                           \
    }                                                       \
  };
#define SOFTMETAL_OP3(name, ...)                                 \
  struct name##_op {                                             \
    template <class T>                                           \
    static constexpr SOFTMETAL_INLINE auto call(T a, T b, T c) { \
      __VA_ARGS__                                                \
    }                                                            \
  };

SOFTMETAL_OP2(absdiff, using U = unsigned_of<T>; return a > b ? U(U(a) - U(b)) : U(U(b) - U(a));)
// (a + b) >> 1 and (a + b + 1) >> 1 without overflow: the bits both share, and half of those that differ.
SOFTMETAL_OP2(hadd, return T((a & b) + ((a ^ b) >> 1));)
SOFTMETAL_OP2(rhadd, return T((a | b) - ((a ^ b) >> 1));)
SOFTMETAL_OP2(mulhi, return T((wider_t<T>(a) * wider_t<T>(b)) >> (sizeof(T) * 8));)
SOFTMETAL_OP3(madhi, return T(unsigned_of<T>(mulhi_op::call(a, b)) + unsigned_of<T>(c));)
SOFTMETAL_OP2(mul24, using U = unsigned_of<T>; constexpr int s = int(sizeof(T) * 8) - 24;
              return T(U(T(U(a) << s) >> s) * U(T(U(b) << s) >> s));)
SOFTMETAL_OP3(mad24, return T(unsigned_of<T>(mul24_op::call(a, b)) + unsigned_of<T>(c));)
SOFTMETAL_OP1(popcount, return T(__builtin_popcountll(unsigned_of<T>(a)));)
// Of zero: the width of the type.
SOFTMETAL_OP1(clz, using U = unsigned_of<T>; constexpr int w = int(sizeof(T) * 8);
              return T(a == 0 ? w : __builtin_clzll(U(a)) - (64 - w));)
SOFTMETAL_OP1(ctz, using U = unsigned_of<T>; constexpr int w = int(sizeof(T) * 8);
              return T(a == 0 ? w : __builtin_ctzll(U(a)));)
SOFTMETAL_OP2(rotate, using U = unsigned_of<T>; constexpr unsigned mask = sizeof(T) * 8 - 1;
              return T(U(U(a) << (unsigned(b) & mask)) | U(U(a) >> (-unsigned(b) & mask)));)
SOFTMETAL_OP1(reverse_bits, using U = unsigned_of<T>; uint64_t v = uint64_t(U(a)) << (64 - sizeof(T) * 8);
              v = ((v >> 1) & 0x5555555555555555u) | ((v & 0x5555555555555555u) << 1);
              v = ((v >> 2) & 0x3333333333333333u) | ((v & 0x3333333333333333u) << 2);
              v = ((v >> 4) & 0x0F0F0F0F0F0F0F0Fu) | ((v & 0x0F0F0F0F0F0F0F0Fu) << 4);
              return T(__builtin_bswap64(v));)
SOFTMETAL_OP2(addsat, return saturated<T>(wider_t<T>(a) + wider_t<T>(b));)
SOFTMETAL_OP3(madsat, return saturated<T>(wider_t<T>(a) * wider_t<T>(b) + wider_t<T>(c));)
// The wide difference of unsigned numbers would wrap.
SOFTMETAL_OP2(
    subsat, if constexpr (metal::is_unsigned<T>::value) { return T(a > b ? a - b : 0); } else {
      return saturated<T>(wider_t<T>(a) - wider_t<T>(b));
    })
#undef SOFTMETAL_OP1
#undef SOFTMETAL_OP2
#undef SOFTMETAL_OP3

template <class T>
constexpr SOFTMETAL_INLINE T low_bits(unsigned count) {
  return T(count >= sizeof(T) * 8 ? ~unsigned_of<T>(0) : unsigned_of<T>((unsigned_of<T>(1) << count) - 1));
}
template <class T>
constexpr SOFTMETAL_INLINE T extract_bits(T x, unsigned offset, unsigned bits) {
  constexpr unsigned width = sizeof(T) * 8;
  if (bits == 0) return T(0);
  // Up to the top, then down: the last shift extends the sign of a signed type.
  const unsigned_of<T> top = unsigned_of<T>(unsigned_of<T>(x) << (width - bits - offset));
  return T(T(top) >> (width - bits));
}
template <class T>
constexpr SOFTMETAL_INLINE T insert_bits(T base, T insert, unsigned offset, unsigned bits) {
  const unsigned_of<T> mask =
      unsigned_of<T>(unsigned_of<T>(low_bits<T>(bits)) << (offset & (sizeof(T) * 8 - 1)));
  const unsigned_of<T> field = unsigned_of<T>(unsigned_of<T>(insert) << (offset & (sizeof(T) * 8 - 1)));
  return T((unsigned_of<T>(base) & ~mask) | (field & mask));
}
// F(x) on each element of an integer or a vector of integers.
template <class A, class F>
constexpr SOFTMETAL_INLINE vector_of<A> for_each_element(const A& a, F f) {
  if constexpr (is_vector<A>) {
    vector_of<A> r = a;
    r.x = f(r.x, 0);
    r.y = f(r.y, 1);
    if constexpr (width_of<A> > 2) r.z = f(r.z, 2);
    if constexpr (width_of<A> > 3) r.w = f(r.w, 3);
    return r;
  } else {
    return f(a, 0);
  }
}

}  // namespace softmetal

namespace metal {

SOFTMETAL_MAP2(absdiff, softmetal::absdiff_op)
SOFTMETAL_MAP2(addsat, softmetal::addsat_op)
SOFTMETAL_MAP2(subsat, softmetal::subsat_op)
SOFTMETAL_MAP2(hadd, softmetal::hadd_op)
SOFTMETAL_MAP2(rhadd, softmetal::rhadd_op)
SOFTMETAL_MAP2(mulhi, softmetal::mulhi_op)
SOFTMETAL_MAP3(madhi, softmetal::madhi_op)
SOFTMETAL_MAP3(madsat, softmetal::madsat_op)
SOFTMETAL_MAP2(mul24, softmetal::mul24_op)
SOFTMETAL_MAP3(mad24, softmetal::mad24_op)
SOFTMETAL_MAP1(popcount, softmetal::popcount_op)
SOFTMETAL_MAP1(clz, softmetal::clz_op)
SOFTMETAL_MAP1(ctz, softmetal::ctz_op)
SOFTMETAL_MAP1(reverse_bits, softmetal::reverse_bits_op)
SOFTMETAL_MAP2(rotate, softmetal::rotate_op)

template <class A>
constexpr SOFTMETAL_INLINE auto extract_bits(const A& a, uint offset, uint bits) {
  return softmetal::for_each_element(a,
                                     [=](auto x, int) { return softmetal::extract_bits(x, offset, bits); });
}
template <class A>
constexpr SOFTMETAL_INLINE auto insert_bits(const A& a,
                                            const type_identity_t<softmetal::vector_of<A>>& insert,
                                            uint offset, uint bits) {
  return softmetal::for_each_element(a, [&](auto x, int i) {
    if constexpr (softmetal::is_vector<A>) {
      return softmetal::insert_bits(x, insert[i], offset, bits);
    } else {
      return (void)i, softmetal::insert_bits(x, insert, offset, bits);
    }
  });
}

}  // namespace metal
