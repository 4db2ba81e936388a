// The functions of metal_stdlib: declarations alone, permissive about scalars and strict about address
// spaces.
#pragma once

#include "lint_types.h"

namespace metal {

// The type that arguments of these types are computed in: the vector among them, else what arithmetic gives.
template <class A>
struct lint_is_number : bool_constant<is_arithmetic<lint_element_of<A>>::value> {};
template <class A, class B, bool = is_arithmetic<A>::value && is_arithmetic<B>::value>
struct lint_common_scalar {};
template <class T>
struct lint_common_scalar<T, T, true> : type_identity<T> {};
template <class A, class B>
struct lint_common_scalar<A, B, true> : type_identity<decltype(A() + B())> {};
template <>
struct lint_common_scalar<half, bfloat, true> : type_identity<float> {};
template <>
struct lint_common_scalar<bfloat, half, true> : type_identity<float> {};
template <class A, class B, int = (lint_is_vector<A> ? 2 : 0) + (lint_is_vector<B> ? 1 : 0)>
struct lint_common_pair : lint_common_scalar<A, B> {};
template <class A, class B>
struct lint_common_pair<A, B, 2> : enable_if<is_arithmetic<B>::value, A> {};
template <class A, class B>
struct lint_common_pair<A, B, 1> : enable_if<is_arithmetic<A>::value, B> {};
template <class A, class B>
struct lint_common_pair<A, B, 3> : enable_if<is_same<A, B>::value, A> {};
template <class... A>
struct lint_common;
template <class A>
struct lint_common<A> : enable_if<lint_is_number<A>::value, lint_vector_of<A>> {};
template <class A, class B>
struct lint_common<A, B> : lint_common_pair<typename lint_common<A>::type, typename lint_common<B>::type> {};
template <class A, class B, class C>
struct lint_common<A, B, C> : lint_common<typename lint_common<A, B>::type, C> {};
template <class... A>
using lint_common_t = typename lint_common<A...>::type;

template <class V, class T>
struct lint_with_element : type_identity<T> {};
template <class E, int N, class T>
struct lint_with_element<vec<E, N>, T> : type_identity<vec<T, N>> {};
template <class V, class T>
using lint_with_element_t = typename lint_with_element<lint_vector_of<V>, T>::type;
// What functions give for it: they know no bfloat, and take one as float.
template <class V, class E = lint_element_of<V>>
using lint_result = lint_with_element_t<V, conditional_t<is_same<E, bfloat>::value, float, E>>;
template <class... A>
using lint_result_t = lint_result<lint_common_t<A...>>;
// The same, computed in floating point.
template <class V, class E = lint_element_of<V>>
using lint_real = lint_with_element_t<V, conditional_t<is_integral<E>::value, float, E>>;
template <class... A>
using lint_real_t = lint_real<lint_result_t<A...>>;
template <class... A>
using lint_flag_t = lint_with_element_t<lint_common_t<A...>, bool>;
template <class A>
using lint_integer_t = enable_if_t<is_integral<lint_element_of<lint_common_t<A>>>::value, lint_vector_of<A>>;

#define LINT_F1(name, R) \
  template <class A>     \
  constexpr R<A> name(A);
#define LINT_F2(name, R)      \
  template <class A, class B> \
  constexpr R<A, B> name(A, B);
#define LINT_F3(name, R)               \
  template <class A, class B, class C> \
  constexpr R<A, B, C> name(A, B, C);
#define LINT_OUT(name, space) \
  template <class A>          \
  lint_real_t<A> name(A, space lint_real_t<A>&);

#define LINT_MATH                                                  \
  LINT_F1(acos, lint_real_t)                                       \
  LINT_F1(acosh, lint_real_t)                                      \
  LINT_F1(asin, lint_real_t)                                       \
  LINT_F1(asinh, lint_real_t)                                      \
  LINT_F1(atan, lint_real_t)                                       \
  LINT_F2(atan2, lint_real_t)                                      \
  LINT_F1(atanh, lint_real_t)                                      \
  LINT_F1(ceil, lint_real_t)                                       \
  LINT_F2(copysign, lint_real_t)                                   \
  LINT_F1(cos, lint_real_t)                                        \
  LINT_F1(cosh, lint_real_t)                                       \
  LINT_F1(cospi, lint_real_t)                                      \
  LINT_F2(divide, lint_real_t)                                     \
  LINT_F1(exp, lint_real_t)                                        \
  LINT_F1(exp2, lint_real_t)                                       \
  LINT_F1(exp10, lint_real_t)                                      \
  LINT_F1(fabs, lint_real_t)                                       \
  LINT_F1(abs, lint_result_t)                                      \
  LINT_F2(fdim, lint_real_t)                                       \
  LINT_F1(floor, lint_real_t)                                      \
  LINT_F3(fma, lint_real_t)                                        \
  LINT_F2(fmax, lint_real_t)                                       \
  LINT_F3(fmax3, lint_real_t)                                      \
  LINT_F3(fmedian3, lint_real_t)                                   \
  LINT_F2(fmin, lint_real_t)                                       \
  LINT_F3(fmin3, lint_real_t)                                      \
  LINT_F2(fmod, lint_real_t)                                       \
  LINT_F1(fract, lint_real_t)                                      \
  LINT_F1(log, lint_real_t)                                        \
  LINT_F1(log2, lint_real_t)                                       \
  LINT_F1(log10, lint_real_t)                                      \
  LINT_F2(nextafter, lint_real_t)                                  \
  LINT_F2(pow, lint_real_t)                                        \
  LINT_F2(powr, lint_real_t)                                       \
  LINT_F1(rint, lint_real_t)                                       \
  LINT_F1(round, lint_real_t)                                      \
  LINT_F1(rsqrt, lint_real_t)                                      \
  LINT_F1(sin, lint_real_t)                                        \
  LINT_F1(sinh, lint_real_t)                                       \
  LINT_F1(sinpi, lint_real_t)                                      \
  LINT_F1(sqrt, lint_real_t)                                       \
  LINT_F1(tan, lint_real_t)                                        \
  LINT_F1(tanh, lint_real_t)                                       \
  LINT_F1(tanpi, lint_real_t)                                      \
  LINT_F1(trunc, lint_real_t)                                      \
  LINT_F3(mix, lint_real_t)                                        \
  LINT_F1(saturate, lint_real_t)                                   \
  LINT_F1(sign, lint_real_t)                                       \
  LINT_F3(smoothstep, lint_real_t)                                 \
  LINT_F2(step, lint_real_t)                                       \
  LINT_OUT(sincos, __private)                                      \
  LINT_OUT(modf, __private)                                        \
  LINT_OUT(sincos, __local)                                        \
  LINT_OUT(sincos, __global)                                       \
  template <class A>                                               \
  lint_real_t<A> frexp(A, __private lint_with_element_t<A, int>&); \
  template <class A, class B>                                      \
  lint_real_t<A> ldexp(A, B);                                      \
  template <class A>                                               \
  lint_with_element_t<lint_common_t<A>, int> ilogb(A);             \
  template <class A, class B>                                      \
  lint_element_of<lint_common_t<A, B>> dot(A, B);                  \
  template <class A>                                               \
  lint_element_of<lint_real_t<A>> length(A);                       \
  template <class A>                                               \
  lint_element_of<lint_real_t<A>> length_squared(A);               \
  template <class A, class B>                                      \
  lint_element_of<lint_real_t<A, B>> distance(A, B);               \
  template <class A, class B>                                      \
  lint_element_of<lint_real_t<A, B>> distance_squared(A, B);       \
  LINT_F1(normalize, lint_real_t)                                  \
  LINT_F2(cross, lint_real_t)                                      \
  LINT_F3(faceforward, lint_real_t)                                \
  LINT_F2(reflect, lint_real_t)                                    \
  template <class A, class B, class C>                             \
  lint_real_t<A, B> refract(A, B, C);
#define LINT_EXTREMES(R) \
  LINT_F2(max, R)        \
  LINT_F2(min, R)        \
  LINT_F3(max3, R)       \
  LINT_F3(median3, R)    \
  LINT_F3(min3, R)       \
  LINT_F3(clamp, R)
LINT_MATH
namespace fast {
LINT_MATH
LINT_EXTREMES(lint_result_t)
}  // namespace fast
namespace precise {
LINT_MATH
LINT_EXTREMES(lint_result_t)
}  // namespace precise
#undef LINT_MATH
// These are there for each type of number: a mixture of two has more than one meaning.
template <bool, class... A>
struct lint_overloaded {};
template <class... A>
struct lint_overloaded<true, A...> : type_identity<lint_result_t<A...>> {};
template <class... A>
using lint_overloaded_t =
    typename lint_overloaded<(lint_is_vector<A> || ...) || (is_same<A, bfloat>::value && ...), A...>::type;
LINT_EXTREMES(lint_overloaded_t)
#undef LINT_EXTREMES
#define LINT_NUMBER(T)          \
  constexpr T max(T, T);        \
  constexpr T min(T, T);        \
  constexpr T max3(T, T, T);    \
  constexpr T median3(T, T, T); \
  constexpr T min3(T, T, T);    \
  constexpr T clamp(T, T, T);
LINT_NUMBER(char)
LINT_NUMBER(uchar)
LINT_NUMBER(short)
LINT_NUMBER(ushort)
LINT_NUMBER(int)
LINT_NUMBER(uint)
LINT_NUMBER(long)
LINT_NUMBER(ulong)
LINT_NUMBER(half)
LINT_NUMBER(float)
#undef LINT_NUMBER

#define LINT_FLAG(name) LINT_F1(name, lint_flag_t)
LINT_FLAG(isfinite)
LINT_FLAG(isinf)
LINT_FLAG(isnan)
LINT_FLAG(isnormal)
LINT_FLAG(signbit)
#undef LINT_FLAG
LINT_F2(isordered, lint_flag_t)
LINT_F2(isunordered, lint_flag_t)
// `not` is a word of C++.
template <class A>
constexpr bool any(A);
template <class A>
constexpr bool all(A);
template <class A, class B, class C>
constexpr lint_common_t<A, B> select(A, B, C);

LINT_F1(clz, lint_integer_t)
LINT_F1(ctz, lint_integer_t)
LINT_F1(popcount, lint_integer_t)
LINT_F1(reverse_bits, lint_integer_t)
LINT_F2(absdiff, lint_common_t)
LINT_F2(addsat, lint_common_t)
LINT_F2(subsat, lint_common_t)
LINT_F2(hadd, lint_common_t)
LINT_F2(rhadd, lint_common_t)
LINT_F2(mulhi, lint_common_t)
LINT_F2(rotate, lint_common_t)
LINT_F3(madhi, lint_common_t)
LINT_F3(madsat, lint_common_t)
LINT_F3(mad24, lint_common_t)
LINT_F2(mul24, lint_common_t)
template <class A>
constexpr lint_integer_t<A> extract_bits(A, uint, uint);
template <class A>
constexpr lint_integer_t<A> insert_bits(A, type_identity_t<lint_vector_of<A>>, uint, uint);

#define LINT_PACK(T)                      \
  T##4 unpack_unorm4x8_to_##T(uint);      \
  T##4 unpack_snorm4x8_to_##T(uint);      \
  T##4 unpack_unorm4x8_srgb_to_##T(uint); \
  T##2 unpack_unorm2x16_to_##T(uint);     \
  T##2 unpack_snorm2x16_to_##T(uint);     \
  T##4 unpack_unorm10a2_to_##T(uint);     \
  T##3 unpack_unorm565_to_##T(ushort);    \
  uint pack_##T##_to_unorm4x8(T##4);      \
  uint pack_##T##_to_snorm4x8(T##4);      \
  uint pack_##T##_to_srgb_unorm4x8(T##4); \
  uint pack_##T##_to_unorm2x16(T##2);     \
  uint pack_##T##_to_snorm2x16(T##2);     \
  uint pack_##T##_to_unorm10a2(T##4);     \
  ushort pack_##T##_to_unorm565(T##3);
LINT_PACK(float)
LINT_PACK(half)
#undef LINT_PACK

template <class T>
struct numeric_limits {
#define LINT_LIMIT(T, name) inline static constexpr __constant T name = T();
  LINT_LIMIT(bool, is_specialized)
  LINT_LIMIT(bool, is_integer)
  LINT_LIMIT(bool, is_exact)
  LINT_LIMIT(bool, is_signed)
  LINT_LIMIT(bool, is_bounded)
  LINT_LIMIT(bool, is_iec559)
  LINT_LIMIT(bool, is_modulo)
  LINT_LIMIT(bool, traps)
  LINT_LIMIT(bool, has_infinity)
  LINT_LIMIT(bool, has_quiet_NaN)
  LINT_LIMIT(bool, has_signaling_NaN)
  LINT_LIMIT(int, radix)
  LINT_LIMIT(int, digits)
  LINT_LIMIT(int, digits10)
  LINT_LIMIT(int, max_digits10)
  LINT_LIMIT(int, max_exponent)
  LINT_LIMIT(int, min_exponent)
  LINT_LIMIT(int, max_exponent10)
  LINT_LIMIT(int, min_exponent10)
#undef LINT_LIMIT
  static constexpr T max() { return T(1); }
  static constexpr T min() { return T(1); }
  static constexpr T lowest() { return T(1); }
  static constexpr T epsilon() { return T(1); }
  static constexpr T denorm_min() { return T(1); }
  static constexpr T round_error() { return T(1); }
  static constexpr T infinity() { return T(1); }
  static constexpr T quiet_NaN() { return T(1); }
  static constexpr T signaling_NaN() { return T(1); }
};

// --- matrices --------------------------------------------------------------------------------------

// Columns in braces, as `{{1, 0}, {0, 1}}`, have no type that a template could take them by.
#define LINT_MADE(space)                                                                                    \
  template <class S, enable_if_t<__is_convertible_to(S, T), int> = 0>                                       \
  constexpr explicit matrix(S) space : columns() {}                                                         \
  constexpr matrix(column, column) space : columns() { static_assert(C == 2, LINT_PARTS); }                 \
  constexpr matrix(column, column, column) space : columns() { static_assert(C == 3, LINT_PARTS); }         \
  constexpr matrix(column, column, column, column) space : columns() { static_assert(C == 4, LINT_PARTS); } \
  template <class A, class B, class... P>                                                                   \
  constexpr matrix(A, B, P...) space : columns() {                                                          \
    static_assert(lint_width_of<A> + lint_width_of<B> + (0 + ... + lint_width_of<P>) == C * R, LINT_PARTS); \
  }                                                                                                         \
  template <class U>                                                                                        \
  constexpr explicit matrix(matrix<U, C, R>) space : columns() {}
#define LINT_PARTS "[matrix] needs its columns or all of its elements"
template <class T, int C, int R>
struct matrix {
  using column = vec<T, R>;
  column columns[C];

  LINT_COPIES(matrix)
  LINT_MADE()
  LINT_MADE(__constant)
  LINT_ELEMENTS(column)
};
#undef LINT_MADE
#undef LINT_PARTS
template <class T, int C, int R>
matrix<T, C, R> operator+(matrix<T, C, R>, matrix<T, C, R>);
template <class T, int C, int R>
matrix<T, C, R> operator-(matrix<T, C, R>, matrix<T, C, R>);
template <class T, int C, int R>
matrix<T, C, R> operator-(matrix<T, C, R>);
template <class T, int C, int R>
matrix<T, C, R> operator*(matrix<T, C, R>, type_identity_t<T>);
template <class T, int C, int R>
matrix<T, C, R> operator*(type_identity_t<T>, matrix<T, C, R>);
template <class T, int C, int R>
matrix<T, C, R> operator/(matrix<T, C, R>, type_identity_t<T>);
template <class T, int C, int R>
vec<T, R> operator*(matrix<T, C, R>, type_identity_t<vec<T, C>>);
template <class T, int C, int R>
vec<T, C> operator*(type_identity_t<vec<T, R>>, matrix<T, C, R>);
template <class T, int C, int R, int K>
matrix<T, C, R> operator*(matrix<T, K, R>, matrix<T, C, K>);
template <class T, int C, int R>
bool operator==(matrix<T, C, R>, matrix<T, C, R>);
template <class T, int C, int R>
bool operator!=(matrix<T, C, R>, matrix<T, C, R>);
#define LINT_SPACE(space)                                       \
  template <class T, int C, int R, class B>                     \
  space matrix<T, C, R>& operator+=(space matrix<T, C, R>&, B); \
  template <class T, int C, int R, class B>                     \
  space matrix<T, C, R>& operator-=(space matrix<T, C, R>&, B); \
  template <class T, int C, int R, class B>                     \
  space matrix<T, C, R>& operator*=(space matrix<T, C, R>&, B); \
  template <class T, int C, int R, class B>                     \
  space matrix<T, C, R>& operator/=(space matrix<T, C, R>&, B);
LINT_WRITABLE(LINT_SPACE)
#undef LINT_SPACE
template <class T, int C, int R>
matrix<T, R, C> transpose(matrix<T, C, R>);
template <class T, int N>
T determinant(matrix<T, N, N>);
#define LINT_MATRIX(T, C)           \
  typedef matrix<T, C, 2> T##C##x2; \
  typedef matrix<T, C, 3> T##C##x3; \
  typedef matrix<T, C, 4> T##C##x4;
#define LINT_MATRICES(T) LINT_MATRIX(T, 2) LINT_MATRIX(T, 3) LINT_MATRIX(T, 4)
LINT_MATRICES(float)
LINT_MATRICES(half)
#undef LINT_MATRICES
#undef LINT_MATRIX

template <class T, size_t N>
struct array {
  T elements[N];

  LINT_COPIES(array)
  LINT_ELEMENTS(T)
#define LINT_SPACE(space)              \
  const space T& front() const space&; \
  const space T& back() const space&;  \
  const space T* data() const space&;  \
  const space T* begin() const space&; \
  const space T* end() const space&;
  LINT_READABLE(LINT_SPACE)
#undef LINT_SPACE
#define LINT_SPACE(space)  \
  space T& front() space&; \
  space T& back() space&;  \
  space T* data() space&;  \
  space T* begin() space&; \
  space T* end() space&;   \
  void fill(T) space&;
  LINT_WRITABLE(LINT_SPACE)
#undef LINT_SPACE
  static constexpr size_t size() { return N; }
  static constexpr bool empty() { return N == 0; }
};

template <class T>
struct uniform {
  T held;
  uniform() = default;
  constexpr uniform(T v) : held(v) {}
  constexpr operator T() const { return held; }
};
template <class T>
constexpr uniform<T> make_uniform(T v) {
  return v;
}

// --- threads, memory and atomics -------------------------------------------------------------------

enum class mem_flags : uint {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16,
};
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
constexpr mem_flags operator&(mem_flags a, mem_flags b) { return mem_flags(uint(a) & uint(b)); }
__private mem_flags& operator|=(__private mem_flags&, mem_flags);
enum thread_scope {
  thread_scope_thread = 0,
  thread_scope_simdgroup = 1,
  thread_scope_threadgroup = 2,
  thread_scope_device = 3,
  thread_scope_system = 4,
};
enum memory_order {
  memory_order_relaxed = 0,
  memory_order_acquire = 1,
  memory_order_release = 2,
  memory_order_acq_rel = 3,
  memory_order_seq_cst = 4,
};
void threadgroup_barrier(mem_flags, thread_scope = thread_scope_threadgroup);
void simdgroup_barrier(mem_flags, thread_scope = thread_scope_simdgroup);
void atomic_thread_fence(mem_flags, memory_order = memory_order_seq_cst, thread_scope = thread_scope_device);

template <class T>
struct atomic {
  static_assert(is_same<T, int>::value || is_same<T, uint>::value || is_same<T, bool>::value ||
                    is_same<T, ulong>::value || is_same<T, float>::value,
                "[atomic-type] atomic<T> needs int, uint, bool, ulong or float");
  static_assert(
      LINT_ATOMICS_64 || !is_same<T, ulong>::value,
      "[atomic-type] atomic_ulong needs a GPU of family apple8 or newer; --gpu-family apple8 lints for one");
  T held;
};
// OpenCL has the names without lint_ for itself.
typedef atomic<int> lint_atomic_int;
typedef atomic<uint> lint_atomic_uint;
typedef atomic<bool> lint_atomic_bool;
typedef atomic<float> lint_atomic_float;
typedef atomic<ulong> lint_atomic_ulong;

// Atomic functions reach device and threadgroup memory; what is expected lies in the thread's own.
#define LINT_ATOMICS(space, floats)                                                                    \
  template <class T>                                                                                   \
  void atomic_store_explicit(volatile space atomic<T>*, type_identity_t<T>, memory_order);             \
  template <class T>                                                                                   \
  T atomic_load_explicit(const volatile space atomic<T>*, memory_order);                               \
  template <class T>                                                                                   \
  T atomic_exchange_explicit(volatile space atomic<T>*, type_identity_t<T>, memory_order);             \
  template <class T>                                                                                   \
  bool atomic_compare_exchange_weak_explicit(volatile space atomic<T>*, __private type_identity_t<T>*, \
                                             type_identity_t<T>, memory_order, memory_order);          \
  LINT_FETCH(space, add, floats, "atomic_int, atomic_uint or, in device memory, atomic_float")         \
  LINT_FETCH(space, sub, floats, "atomic_int, atomic_uint or, in device memory, atomic_float")         \
  LINT_FETCH(space, and, false, "atomic_int or atomic_uint")                                           \
  LINT_FETCH(space, or, false, "atomic_int or atomic_uint")                                            \
  LINT_FETCH(space, xor, false, "atomic_int or atomic_uint")                                           \
  LINT_FETCH(space, min, false, "atomic_int or atomic_uint")                                           \
  LINT_FETCH(space, max, false, "atomic_int or atomic_uint")                                           \
  LINT_EXTREME(space, min)                                                                             \
  LINT_EXTREME(space, max)
#define LINT_FETCH(space, name, floats, types)                                                               \
  template <class T>                                                                                         \
  T atomic_fetch_##name##_explicit(volatile space atomic<T>*, type_identity_t<T>, memory_order) {            \
    static_assert(is_same<T, int>::value || is_same<T, uint>::value || (floats && is_same<T, float>::value), \
                  "[atomic-type] atomic_fetch_" #name "_explicit needs " types);                             \
    return T();                                                                                              \
  }
// Nothing but these for the atomics of 64 bits, and they for nothing else.
#define LINT_EXTREME(space, name)                                                              \
  template <class T>                                                                           \
  void atomic_##name##_explicit(volatile space atomic<T>*, type_identity_t<T>, memory_order) { \
    static_assert(is_same<T, ulong>::value && sizeof(atomic<T>),                               \
                  "[atomic-type] atomic_" #name "_explicit needs atomic_ulong");               \
  }
LINT_ATOMICS(__global, true)
LINT_ATOMICS(__local, false)
#undef LINT_ATOMICS
#undef LINT_FETCH
#undef LINT_EXTREME

template <class V>
struct lint_vote {
  using vote_t = V;
  lint_vote() = default;
  explicit constexpr lint_vote(V) {}
  explicit constexpr operator V() const { return V(); }
  bool all() const;
  bool any() const;
};
typedef lint_vote<ulong> simd_vote;
typedef lint_vote<uint> quad_vote;

// What lanes exchange has at most 32 bits by element, and is no bool.
template <class A, class E = lint_element_of<A>>
using lint_lane_t = enable_if_t<(sizeof(E) <= 4) && !is_same<E, bool>::value, lint_common_t<A>>;
#define LINT_OWN(name) LINT_F1(name, lint_lane_t)
#define LINT_FROM(name) \
  template <class A>    \
  lint_lane_t<A> name(A, ushort);
#define LINT_FILL(name)                                               \
  template <class A>                                                  \
  lint_lane_t<A> name(A, type_identity_t<lint_vector_of<A>>, ushort); \
  template <class A>                                                  \
  lint_lane_t<A> name(A, type_identity_t<lint_vector_of<A>>, ushort, ushort);
#define LINT_LANES(group)                    \
  LINT_OWN(group##_sum)                      \
  LINT_OWN(group##_product)                  \
  LINT_OWN(group##_min)                      \
  LINT_OWN(group##_max)                      \
  LINT_OWN(group##_and)                      \
  LINT_OWN(group##_or)                       \
  LINT_OWN(group##_xor)                      \
  LINT_OWN(group##_prefix_inclusive_sum)     \
  LINT_OWN(group##_prefix_inclusive_product) \
  LINT_OWN(group##_prefix_exclusive_sum)     \
  LINT_OWN(group##_prefix_exclusive_product) \
  LINT_OWN(group##_broadcast_first)          \
  LINT_FROM(group##_broadcast)               \
  LINT_FROM(group##_shuffle)                 \
  LINT_FROM(group##_shuffle_up)              \
  LINT_FROM(group##_shuffle_down)            \
  LINT_FROM(group##_shuffle_xor)             \
  LINT_FROM(group##_shuffle_rotate_up)       \
  LINT_FROM(group##_shuffle_rotate_down)     \
  LINT_FILL(group##_shuffle_and_fill_up)     \
  LINT_FILL(group##_shuffle_and_fill_down)   \
  bool group##_all(bool);                    \
  bool group##_any(bool);                    \
  bool group##_is_first();                   \
  bool group##_is_helper_thread();           \
  group##_vote group##_ballot(bool);         \
  group##_vote group##_active_threads_mask();
LINT_LANES(simd)
LINT_LANES(quad)
#undef LINT_LANES
#undef LINT_OWN
#undef LINT_FROM
#undef LINT_FILL

template <class T, int Cols, int Rows>
struct simdgroup_matrix {
  static_assert(Cols == 8 && Rows == 8, "[simdgroup-matrix] a simdgroup_matrix has 8 x 8 elements");
  static_assert(is_floating_point<T>::value,
                "[simdgroup-matrix] the elements of a simdgroup_matrix are half, bfloat or float");
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T);
  __private vec<T, 2>& thread_elements();
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;
template <class T, int Cols, int Rows = Cols>
simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T);
template <class T, int Cols, int Rows = Cols>
simdgroup_matrix<T, Cols, Rows> make_diagonal_simdgroup_matrix(T);
#define LINT_SPACE(space)                                                                               \
  template <class T>                                                                                    \
  void simdgroup_load(__private simdgroup_matrix<T, 8, 8>&, const space type_identity_t<T>*, ulong = 8, \
                      ulong2 = 0, bool = false);
LINT_READABLE(LINT_SPACE)
#undef LINT_SPACE
#define LINT_SPACE(space)                                                                           \
  template <class T>                                                                                \
  void simdgroup_store(simdgroup_matrix<T, 8, 8>, space type_identity_t<T>*, ulong = 8, ulong2 = 0, \
                       bool = false);
LINT_WRITABLE(LINT_SPACE)
#undef LINT_SPACE
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(__private simdgroup_matrix<D, 8, 8>&, simdgroup_matrix<A, 8, 8>,
                                   simdgroup_matrix<B, 8, 8>, simdgroup_matrix<C, 8, 8>);
template <class D, class A, class B>
void simdgroup_multiply(__private simdgroup_matrix<D, 8, 8>&, simdgroup_matrix<A, 8, 8>,
                        simdgroup_matrix<B, 8, 8>);
template <class T>
simdgroup_matrix<T, 8, 8> operator*(simdgroup_matrix<T, 8, 8>, simdgroup_matrix<T, 8, 8>);

enum class simdgroup_async_copy_clamp_mode { clamp_to_zero = 0, clamp_to_edge = 1 };
struct simdgroup_event {
#define LINT_COPY(to, from)                                                                            \
  template <class T>                                                                                   \
  void async_copy(to T*, const from type_identity_t<T>*, ulong);                                       \
  template <class T>                                                                                   \
  void async_copy(to T*, ulong, ushort2, const from type_identity_t<T>*, ulong, ushort2, bool = false, \
                  simdgroup_async_copy_clamp_mode = simdgroup_async_copy_clamp_mode::clamp_to_zero);
  LINT_COPY(__local, __global)
  LINT_COPY(__global, __local)
#undef LINT_COPY
  static void wait(int, __private simdgroup_event*);
};

struct os_log {
  constexpr os_log(const __constant char*, const __constant char*) {}
  constexpr os_log(const __constant char*, const __constant char*) __constant {}
#define LINT_LOG(name)                           \
  template <class... A>                          \
  void name(const __constant char*, A...) const; \
  template <class... A>                          \
  void name(const __constant char*, A...) const __constant;
  LINT_LOG(log)
  LINT_LOG(log_debug)
  LINT_LOG(log_info)
  LINT_LOG(log_default)
  LINT_LOG(log_error)
  LINT_LOG(log_fault)
#undef LINT_LOG
};
inline constexpr __constant os_log os_log_default("", "");

}  // namespace metal

// A keyword of MSL, so known without its namespace.
template <class To, class From>
constexpr To as_type(From) {
  static_assert(sizeof(To) == sizeof(From), "[as-type] the types of as_type differ in size");
  return To();
}
namespace metal {
using ::as_type;
template <class T>
constexpr bool is_function_constant_defined(T) {
  return true;
}
}  // namespace metal

#define LINT_CONSTANTS(suffix, T)                                              \
  inline constexpr __constant T M_E_##suffix = 2.71828182845904523536f;        \
  inline constexpr __constant T M_LOG2E_##suffix = 1.44269504088896340736f;    \
  inline constexpr __constant T M_LOG10E_##suffix = 0.43429448190325182765f;   \
  inline constexpr __constant T M_LN2_##suffix = 0.69314718055994530942f;      \
  inline constexpr __constant T M_LN10_##suffix = 2.30258509299404568402f;     \
  inline constexpr __constant T M_PI_##suffix = 3.14159265358979323846f;       \
  inline constexpr __constant T M_PI_2_##suffix = 1.57079632679489661923f;     \
  inline constexpr __constant T M_PI_4_##suffix = 0.78539816339744830962f;     \
  inline constexpr __constant T M_1_PI_##suffix = 0.31830988618379067154f;     \
  inline constexpr __constant T M_2_PI_##suffix = 0.63661977236758134308f;     \
  inline constexpr __constant T M_2_SQRTPI_##suffix = 1.12837916709551257390f; \
  inline constexpr __constant T M_SQRT2_##suffix = 1.41421356237309504880f;    \
  inline constexpr __constant T M_SQRT1_2_##suffix = 0.70710678118654752440f;
LINT_CONSTANTS(F, float)
LINT_CONSTANTS(H, half)
LINT_CONSTANTS(BF, bfloat)
#undef LINT_CONSTANTS
inline constexpr __constant half MAXHALF = 65504.0f;
inline constexpr __constant half HUGE_VALH = __builtin_inff();
inline constexpr __constant bfloat MAXBFLOAT = 3.38953139e38f;
inline constexpr __constant bfloat HUGE_VALBF = __builtin_inff();

#pragma clang diagnostic pop
