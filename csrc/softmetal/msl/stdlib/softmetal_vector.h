// vec<T, N>, packed_vec<T, N>, their operators and swizzles, and the names float4, packed_half3, ...
#pragma once

#include "softmetal_half.h"

// The classes that users hold stand apart in namespace softmetal::types: unqualified calls with such
// arguments search that namespace, and must not find the library's internals there.
namespace softmetal::types {

// Storage of 2 to 4 components under both of their names.
template <class T, int N>
struct components;

template <class T>
struct components<T, 2> {
  union {
    T x, r;
  };
  union {
    T y, g;
  };
};
template <class T>
struct components<T, 3> {
  union {
    T x, r;
  };
  union {
    T y, g;
  };
  union {
    T z, b;
  };
};
template <class T>
struct components<T, 4> {
  union {
    T x, r;
  };
  union {
    T y, g;
  };
  union {
    T z, b;
  };
  union {
    T w, a;
  };
};

template <class V, int... I>
struct swizzle_ref;

}  // namespace softmetal::types

namespace metal {
template <class T, int N>
struct vec;
template <class T, int N>
struct packed_vec;
}  // namespace metal

namespace softmetal {

using types::components;
using types::swizzle_ref;

// What an argument is: its element type and how many of them. A scalar has width 1. Packed vectors and
// swizzles count as the vector that they convert to.
template <class A>
struct shape {
  using element = A;
  using vector = A;
  static constexpr int width = 1;
  static constexpr bool is_vector = false;
};
template <class T, int N>
struct shape<metal::vec<T, N>> {
  using element = T;
  using vector = metal::vec<T, N>;
  static constexpr int width = N;
  static constexpr bool is_vector = true;
};
template <class T, int N>
struct shape<metal::packed_vec<T, N>> : shape<metal::vec<T, N>> {};
template <class T, int N, int... I>
struct shape<swizzle_ref<metal::vec<T, N>, I...>> : shape<metal::vec<T, sizeof...(I)>> {};
template <class T, int N, int... I>
struct shape<swizzle_ref<metal::packed_vec<T, N>, I...>> : shape<metal::vec<T, sizeof...(I)>> {};

template <class A>
inline constexpr int width_of = shape<A>::width;
template <class A>
inline constexpr bool is_vector = shape<A>::is_vector;
// Vector-like, but not vec itself.
template <class A>
inline constexpr bool is_proxy = is_vector<A> && !metal::is_same<A, typename shape<A>::vector>::value;
template <class A>
using vector_of = typename shape<A>::vector;
template <class A>
using element_of = typename shape<A>::element;

// Component I of the concatenation of all arguments.
template <class T, int I, class A, class... R>
constexpr SOFTMETAL_INLINE T pick(const A& a, const R&... rest) {
  if constexpr (I >= width_of<A>) {
    return pick<T, I - width_of<A>>(rest...);
  } else if constexpr (is_vector<A>) {
    return T(a.template get<I>());
  } else {
    return T(a);
  }
}

template <class T, int N, class... A>
constexpr SOFTMETAL_INLINE components<T, N> join(const A&... a) {
  if constexpr (N == 2) {
    return {{pick<T, 0>(a...)}, {pick<T, 1>(a...)}};
  } else if constexpr (N == 3) {
    return {{pick<T, 0>(a...)}, {pick<T, 1>(a...)}, {pick<T, 2>(a...)}};
  } else {
    return {{pick<T, 0>(a...)}, {pick<T, 1>(a...)}, {pick<T, 2>(a...)}, {pick<T, 3>(a...)}};
  }
}
template <class T, int N>
constexpr SOFTMETAL_INLINE components<T, N> splat(T s) {
  if constexpr (N == 2) {
    return {{s}, {s}};
  } else if constexpr (N == 3) {
    return {{s}, {s}, {s}};
  } else {
    return {{s}, {s}, {s}, {s}};
  }
}

// A part of a constructor's argument list: a scalar that converts to T, or a vector of T.
template <class T, class P>
constexpr bool is_scalar_part() {
  if constexpr (metal::is_arithmetic<T>::value && metal::is_arithmetic<P>::value) {
    return true;
  } else {
    return metal::is_convertible<P, T>::value;
  }
}
template <class T, class P>
constexpr bool is_part() {
  if constexpr (is_vector<P>) {
    return metal::is_same<element_of<P>, T>::value;
  } else {
    return is_scalar_part<T, P>();
  }
}
// Short-circuits on the count, so that is_part is asked only about arguments that could fit.
template <class T, int N, class... P>
constexpr bool are_parts() {
  if constexpr (sizeof...(P) >= 2 && (0 + ... + width_of<P>) == N) {
    return (is_part<T, P>() && ...);
  } else {
    return false;
  }
}
template <class T, class S>
constexpr bool is_splat() {
  if constexpr (is_vector<S>) {
    return false;
  } else {
    return is_scalar_part<T, S>();
  }
}

// What vec and packed_vec have in common besides storage. V is the derived class.
#define SOFTMETAL_VECTOR_MEMBERS(V)                                                                       \
  using element_type = T;                                                                                 \
  V() = default;                                                                                          \
  template <class S, metal::enable_if_t<softmetal::is_splat<T, S>(), int> = 0>                            \
  constexpr SOFTMETAL_INLINE V(const S& s) : storage(softmetal::splat<T, N>(T(s))) {}                     \
  template <class A, class... P, metal::enable_if_t<softmetal::are_parts<T, N, A, P...>(), int> = 0>      \
  constexpr SOFTMETAL_INLINE V(const A& first, const P&... p)                                             \
      : storage(softmetal::join<T, N>(first, p...)) {}                                                    \
  template <class U>                                                                                      \
  constexpr SOFTMETAL_INLINE explicit V(const vec<U, N>& v) : storage(softmetal::join<T, N>(v)) {}        \
  template <class U>                                                                                      \
  constexpr SOFTMETAL_INLINE explicit V(const packed_vec<U, N>& v) : storage(softmetal::join<T, N>(v)) {} \
  SOFTMETAL_INLINE T& operator[](size_t i) { return reinterpret_cast<T*>(this)[i]; }                      \
  SOFTMETAL_INLINE const T& operator[](size_t i) const { return reinterpret_cast<const T*>(this)[i]; }    \
  template <int I>                                                                                        \
  constexpr SOFTMETAL_INLINE const T& get() const {                                                       \
    static_assert(I < N, "a swizzle reads a component that the vector does not have");                    \
    if constexpr (I == 0) {                                                                               \
      return this->x;                                                                                     \
    } else if constexpr (I == 1) {                                                                        \
      return this->y;                                                                                     \
    } else if constexpr (I == 2) {                                                                        \
      return this->z;                                                                                     \
    } else {                                                                                              \
      return this->w;                                                                                     \
    }                                                                                                     \
  }                                                                                                       \
  template <int I>                                                                                        \
  constexpr SOFTMETAL_INLINE T& get() {                                                                   \
    return const_cast<T&>(static_cast<const V&>(*this).template get<I>());                                \
  }                                                                                                       \
  template <int... I>                                                                                     \
  constexpr SOFTMETAL_INLINE vec<T, sizeof...(I)> sw() const {                                            \
    return vec<T, sizeof...(I)>(get<I>()...);                                                             \
  }                                                                                                       \
  template <int... I>                                                                                     \
  constexpr SOFTMETAL_INLINE softmetal::swizzle_ref<V, I...> sw_ref() {                                   \
    return softmetal::swizzle_ref<V, I...>(*this);                                                        \
  }

template <class T, int N>
inline constexpr size_t vector_alignment = sizeof(T) * (N == 3 ? 4 : N);

}  // namespace softmetal

namespace metal {

template <class T, int N>
struct alignas(softmetal::vector_alignment<T, N>) vec : softmetal::components<T, N> {
  using storage = softmetal::components<T, N>;
  SOFTMETAL_VECTOR_MEMBERS(vec)
  constexpr SOFTMETAL_INLINE vec(const packed_vec<T, N>& v) : storage(softmetal::join<T, N>(v)) {}
};

// Aligned like its element. It and vec of the same element type convert to each other without a cast.
template <class T, int N>
struct packed_vec : softmetal::components<T, N> {
  using storage = softmetal::components<T, N>;
  SOFTMETAL_VECTOR_MEMBERS(packed_vec)
  constexpr SOFTMETAL_INLINE packed_vec(const vec<T, N>& v) : storage(softmetal::join<T, N>(v)) {}
};

// The operators. Element-wise on two vectors of one type, or on a vector and a scalar that converts to its
// element type. The result is rounded or wrapped to the element type: no promotion of small integers.
#define SOFTMETAL_VECTOR_OPERATOR(op, R)                                                              \
  template <class T, int N>                                                                           \
  constexpr SOFTMETAL_INLINE vec<R, N> operator op(const vec<T, N>& a, const vec<T, N>& b) {          \
    if constexpr (N == 2) {                                                                           \
      return vec<R, N>(R(a.x op b.x), R(a.y op b.y));                                                 \
    } else if constexpr (N == 3) {                                                                    \
      return vec<R, N>(R(a.x op b.x), R(a.y op b.y), R(a.z op b.z));                                  \
    } else {                                                                                          \
      return vec<R, N>(R(a.x op b.x), R(a.y op b.y), R(a.z op b.z), R(a.w op b.w));                   \
    }                                                                                                 \
  }                                                                                                   \
  template <class T, int N>                                                                           \
  constexpr SOFTMETAL_INLINE vec<R, N> operator op(const vec<T, N>& a, const type_identity_t<T>& b) { \
    return a op vec<T, N>(b);                                                                         \
  }                                                                                                   \
  template <class T, int N>                                                                           \
  constexpr SOFTMETAL_INLINE vec<R, N> operator op(const type_identity_t<T>& a, const vec<T, N>& b) { \
    return vec<T, N>(a) op b;                                                                         \
  }                                                                                                   \
  template <class A, class B, enable_if_t<softmetal::is_proxy<A> || softmetal::is_proxy<B>, int> = 0> \
  constexpr SOFTMETAL_INLINE auto operator op(const A& a, const B& b)                                 \
      ->decltype(softmetal::unproxy(a) op softmetal::unproxy(b)) {                                    \
    return softmetal::unproxy(a) op softmetal::unproxy(b);                                            \
  }
#define SOFTMETAL_VECTOR_ASSIGNMENT(op)                                                             \
  template <class T, int N, class B, enable_if_t<is_convertible<B, vec<T, N>>::value, int> = 0>     \
  constexpr SOFTMETAL_INLINE vec<T, N>& operator op## = (vec<T, N> & a, const B& b) {               \
    return a = a op vec<T, N>(b);                                                                   \
  }                                                                                                 \
  template <class T, int N, class B, enable_if_t<is_convertible<B, vec<T, N>>::value, int> = 0>     \
  constexpr SOFTMETAL_INLINE packed_vec<T, N>& operator op## = (packed_vec<T, N> & a, const B& b) { \
    return a = vec<T, N>(a) op vec<T, N>(b);                                                        \
  }

}  // namespace metal

namespace softmetal {
template <class A>
constexpr SOFTMETAL_INLINE vector_of<A> unproxy(const A& a) {
  return a;
}
}  // namespace softmetal

namespace metal {

SOFTMETAL_VECTOR_OPERATOR(+, T)
SOFTMETAL_VECTOR_OPERATOR(-, T)
SOFTMETAL_VECTOR_OPERATOR(*, T)
SOFTMETAL_VECTOR_OPERATOR(/, T)
SOFTMETAL_VECTOR_OPERATOR(%, T)
SOFTMETAL_VECTOR_OPERATOR(&, T)
SOFTMETAL_VECTOR_OPERATOR(|, T)
SOFTMETAL_VECTOR_OPERATOR(^, T)
SOFTMETAL_VECTOR_OPERATOR(<<, T)
SOFTMETAL_VECTOR_OPERATOR(>>, T)
SOFTMETAL_VECTOR_OPERATOR(==, bool)
SOFTMETAL_VECTOR_OPERATOR(!=, bool)
SOFTMETAL_VECTOR_OPERATOR(<, bool)
SOFTMETAL_VECTOR_OPERATOR(<=, bool)
SOFTMETAL_VECTOR_OPERATOR(>, bool)
SOFTMETAL_VECTOR_OPERATOR(>=, bool)
SOFTMETAL_VECTOR_OPERATOR(&&, bool)
SOFTMETAL_VECTOR_OPERATOR(||, bool)
SOFTMETAL_VECTOR_ASSIGNMENT(+)
SOFTMETAL_VECTOR_ASSIGNMENT(-)
SOFTMETAL_VECTOR_ASSIGNMENT(*)
SOFTMETAL_VECTOR_ASSIGNMENT(/)
SOFTMETAL_VECTOR_ASSIGNMENT(%)
SOFTMETAL_VECTOR_ASSIGNMENT(&)
SOFTMETAL_VECTOR_ASSIGNMENT(|)
SOFTMETAL_VECTOR_ASSIGNMENT(^)
SOFTMETAL_VECTOR_ASSIGNMENT(<<)
SOFTMETAL_VECTOR_ASSIGNMENT(>>)
#undef SOFTMETAL_VECTOR_OPERATOR
#undef SOFTMETAL_VECTOR_ASSIGNMENT

#define SOFTMETAL_VECTOR_UNARY(op, R)                                                     \
  template <class A, enable_if_t<softmetal::is_vector<A>, int> = 0>                       \
  constexpr SOFTMETAL_INLINE vec<R, softmetal::width_of<A>> operator op(const A& proxy) { \
    const softmetal::vector_of<A> a = proxy;                                              \
    if constexpr (softmetal::width_of<A> == 2) {                                          \
      return {R(op a.x), R(op a.y)};                                                      \
    } else if constexpr (softmetal::width_of<A> == 3) {                                   \
      return {R(op a.x), R(op a.y), R(op a.z)};                                           \
    } else {                                                                              \
      return {R(op a.x), R(op a.y), R(op a.z), R(op a.w)};                                \
    }                                                                                     \
  }
SOFTMETAL_VECTOR_UNARY(-, softmetal::element_of<A>)
SOFTMETAL_VECTOR_UNARY(+, softmetal::element_of<A>)
SOFTMETAL_VECTOR_UNARY(~, softmetal::element_of<A>)
SOFTMETAL_VECTOR_UNARY(!, bool)
#undef SOFTMETAL_VECTOR_UNARY

template <class A, enable_if_t<softmetal::is_vector<A>, int> = 0>
constexpr SOFTMETAL_INLINE A& operator++(A& a) {
  return a += 1;
}
template <class A, enable_if_t<softmetal::is_vector<A>, int> = 0>
constexpr SOFTMETAL_INLINE A& operator--(A& a) {
  return a -= 1;
}
template <class A, enable_if_t<softmetal::is_vector<A>, int> = 0>
constexpr SOFTMETAL_INLINE A operator++(A& a, int) {
  const A old = a;
  a += 1;
  return old;
}
template <class A, enable_if_t<softmetal::is_vector<A>, int> = 0>
constexpr SOFTMETAL_INLINE A operator--(A& a, int) {
  const A old = a;
  a -= 1;
  return old;
}

}  // namespace metal

namespace softmetal::types {

// An assignable choice of components. Every value is read before the first is written, so v.xy = v.yx works.
template <class V, int... I>
struct swizzle_ref {
  using value = metal::vec<typename V::element_type, sizeof...(I)>;
  V& target;

  constexpr SOFTMETAL_INLINE explicit swizzle_ref(V& v) : target(v) {}
  swizzle_ref(const swizzle_ref&) = default;
  constexpr SOFTMETAL_INLINE operator value() const { return target.template sw<I...>(); }
  template <int K>
  constexpr SOFTMETAL_INLINE typename V::element_type get() const {
    return value(*this).template get<K>();
  }

  constexpr SOFTMETAL_INLINE const swizzle_ref& operator=(const value& v) const {
    assign(v, metal::type_identity<order<I...>>());
    return *this;
  }
  constexpr SOFTMETAL_INLINE const swizzle_ref& operator=(const swizzle_ref& v) const {
    return *this = value(v);
  }

#define SOFTMETAL_SWIZZLE_ASSIGNMENT(op)                                             \
  template <class B>                                                                 \
  constexpr SOFTMETAL_INLINE const swizzle_ref& operator op## = (const B& b) const { \
    return *this = value(*this) op b;                                                \
  }
  SOFTMETAL_SWIZZLE_ASSIGNMENT(+)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(-)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(*)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(/)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(%)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(&)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(|)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(^)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(<<)
  SOFTMETAL_SWIZZLE_ASSIGNMENT(>>)
#undef SOFTMETAL_SWIZZLE_ASSIGNMENT

 private:
  template <int...>
  struct order {};
  template <int First, int Second, int... Rest>
  constexpr SOFTMETAL_INLINE void assign(const value& v,
                                         metal::type_identity<order<First, Second, Rest...>>) const {
    const value copy = v;
    target.template get<First>() = copy.x;
    target.template get<Second>() = copy.y;
    if constexpr (sizeof...(Rest) > 0) assign_rest(copy, metal::type_identity<order<Rest...>>());
  }
  template <int Third, int... Fourth>
  constexpr SOFTMETAL_INLINE void assign_rest(const value& v,
                                              metal::type_identity<order<Third, Fourth...>>) const {
    target.template get<Third>() = v.z;
    if constexpr (sizeof...(Fourth) > 0) ((target.template get<Fourth>() = v.w), ...);
  }
};

}  // namespace softmetal::types

// The scalar names that C++ lacks. Those that the C library may declare too are the same types there.
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

#define SOFTMETAL_VECTOR_NAMES(T)                \
  typedef metal::vec<T, 2> T##2;                 \
  typedef metal::vec<T, 3> T##3;                 \
  typedef metal::vec<T, 4> T##4;                 \
  typedef metal::packed_vec<T, 2> packed_##T##2; \
  typedef metal::packed_vec<T, 3> packed_##T##3; \
  typedef metal::packed_vec<T, 4> packed_##T##4; \
  namespace metal {                              \
  using ::packed_##T##2;                         \
  using ::packed_##T##3;                         \
  using ::packed_##T##4;                         \
  using ::T##2;                                  \
  using ::T##3;                                  \
  using ::T##4;                                  \
  }
SOFTMETAL_VECTOR_NAMES(bool)
SOFTMETAL_VECTOR_NAMES(char)
SOFTMETAL_VECTOR_NAMES(uchar)
SOFTMETAL_VECTOR_NAMES(short)
SOFTMETAL_VECTOR_NAMES(ushort)
SOFTMETAL_VECTOR_NAMES(int)
SOFTMETAL_VECTOR_NAMES(uint)
SOFTMETAL_VECTOR_NAMES(long)
SOFTMETAL_VECTOR_NAMES(ulong)
SOFTMETAL_VECTOR_NAMES(half)
SOFTMETAL_VECTOR_NAMES(bfloat)
SOFTMETAL_VECTOR_NAMES(float)
#undef SOFTMETAL_VECTOR_NAMES

namespace metal {
using ::int16_t;
using ::int32_t;
using ::int64_t;
using ::int8_t;
using ::ptrdiff_t;
using ::size_t;
using ::uchar;
using ::uint;
using ::uint16_t;
using ::uint32_t;
using ::uint64_t;
using ::uint8_t;
using ::ulong;
using ::ushort;
}  // namespace metal
