// Scalars, traits and vectors as clang's C++ for OpenCL sees them. Only what the type checker needs has a
// body. Nothing converts from one of MSL's address spaces to another here, so a pointer without one is the
// only way to lose it: `__generic`, which has no name in MSL and a rule of its own.
#pragma once

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable
#pragma OPENCL EXTENSION __cl_clang_bitfields : enable

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef long intptr_t;
typedef unsigned long uintptr_t;
typedef __bf16 bfloat;

// What the shader converts is looked at, not what this does.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wimplicit-float-conversion"

// `M(space)` for each space that can be written, and for each that can be read.
#define LINT_WRITABLE(M) M(__private) M(__global) M(__local)
#define LINT_READABLE(M) M(__private) M(__global) M(__local) M(__constant)

// Copies out of `constant`, which MSL has for every class. All other spaces are `__generic` to `this` and to
// references, and the copies that C++ makes take those.
#define LINT_COPY_CONSTRUCTORS(C)   \
  C(const C&) = default;            \
  C(const __constant C&) = default; \
  C(const __constant C&) __constant = default;
// A template, so that `x = {...}` has one meaning.
#define LINT_ASSIGNMENTS(C)                                                              \
  C& operator=(const C&) = default;                                                      \
  template <class Lint, ::metal::enable_if_t<::metal::is_same<Lint, C>::value, int> = 0> \
  C& operator=(const __constant Lint&);
// Classes in functions can have no templates.
#define LINT_LOCAL_ASSIGNMENTS(C)   \
  C& operator=(const C&) = default; \
  C& operator=(const __constant C&);
// The same for a class that has a union without a name, which defaulted copies fail for.
#define LINT_OPAQUE_CONSTRUCTORS(C) \
  C(const C&) = default;            \
  C(const __constant C&);
#define LINT_COPIES(C)      \
  C() = default;            \
  LINT_COPY_CONSTRUCTORS(C) \
  LINT_ASSIGNMENTS(C)

namespace metal {

using ::bfloat;
using ::int16_t;
using ::int32_t;
using ::int64_t;
using ::int8_t;
using ::intptr_t;
using ::ptrdiff_t;
using ::size_t;
using ::uchar;
using ::uint;
using ::uint16_t;
using ::uint32_t;
using ::uint64_t;
using ::uint8_t;
using ::uintptr_t;
using ::ulong;
using ::ushort;

// --- <metal_type_traits> ---------------------------------------------------------------------------

template <class T, T V>
struct integral_constant {
  inline static constexpr __constant T value = V;
  using value_type = T;
  using type = integral_constant;
  constexpr operator T() const { return V; }
  constexpr T operator()() const { return V; }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
using true_type = bool_constant<true>;
using false_type = bool_constant<false>;

template <bool B, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  using type = T;
};
template <bool B, class T = void>
using enable_if_t = typename enable_if<B, T>::type;
template <bool B, class T, class F>
struct conditional {
  using type = T;
};
template <class T, class F>
struct conditional<false, T, F> {
  using type = F;
};
template <bool B, class T, class F>
using conditional_t = typename conditional<B, T, F>::type;
template <class T>
struct type_identity {
  using type = T;
};
template <class T>
using type_identity_t = typename type_identity<T>::type;

// `RESULT` for the pattern, T for all else.
#define LINT_TRANSFORM(name, pattern, ...) \
  template <class T>                       \
  struct name : type_identity<T> {};       \
  template <class T>                       \
  struct name<pattern> {                   \
    using type = __VA_ARGS__;              \
  };                                       \
  template <class T>                       \
  using name##_t = typename name<T>::type;
LINT_TRANSFORM(remove_const, const T, T)
LINT_TRANSFORM(remove_volatile, volatile T, T)
LINT_TRANSFORM(remove_pointer, T*, T)
LINT_TRANSFORM(remove_extent, T[], T)
#undef LINT_TRANSFORM
template <class T, size_t N>
struct remove_extent<T[N]> {
  using type = T;
};
template <class T>
struct remove_reference : type_identity<T> {};
template <class T>
struct remove_addrspace : type_identity<T> {};
#define LINT_SPACE(space)                                         \
  template <class T>                                              \
  struct remove_reference<space T&> : type_identity<space T> {};  \
  template <class T>                                              \
  struct remove_reference<space T&&> : type_identity<space T> {}; \
  template <class T>                                              \
  struct remove_addrspace<space T> : type_identity<T> {};
LINT_READABLE(LINT_SPACE)
#undef LINT_SPACE
// `constant` is rewritten to this.
template <class T>
struct remove_addrspace<const __constant T> : type_identity<T> {};
template <class T>
using remove_reference_t = typename remove_reference<T>::type;
template <class T>
using remove_addrspace_t = typename remove_addrspace<T>::type;
template <class T>
using remove_cv_t = remove_const_t<remove_volatile_t<T>>;
template <class T>
struct remove_cv : type_identity<remove_cv_t<T>> {};
template <class T>
struct remove_all_extents : type_identity<T> {};
template <class T>
struct remove_all_extents<T[]> : remove_all_extents<T> {};
template <class T, size_t N>
struct remove_all_extents<T[N]> : remove_all_extents<T> {};
template <class T>
using remove_all_extents_t = typename remove_all_extents<T>::type;
#define LINT_ADD(name, ...)                    \
  template <class T>                           \
  struct name : type_identity<__VA_ARGS__> {}; \
  template <class T>                           \
  using name##_t = typename name<T>::type;
LINT_ADD(add_const, const T)
LINT_ADD(add_volatile, volatile T)
LINT_ADD(add_cv, const volatile T)
LINT_ADD(add_pointer, remove_reference_t<T>*)
LINT_ADD(add_lvalue_reference, T&)
LINT_ADD(add_rvalue_reference, T&&)
LINT_ADD(underlying_type, __underlying_type(T))
#undef LINT_ADD

// What T is without space, const and volatile.
template <class T>
using lint_bare_t = remove_cv_t<remove_addrspace_t<remove_cv_t<remove_reference_t<T>>>>;
template <class T>
using decay_t = lint_bare_t<T>;
template <class T>
struct decay : type_identity<lint_bare_t<T>> {};
template <class T>
__private T&& declval();

template <class A, class B>
struct is_same : false_type {};
template <class T>
struct is_same<T, T> : true_type {};
// A value has no address space.
template <class A, class B>
inline constexpr __constant bool lint_is_bare_same = is_same<lint_bare_t<A>, lint_bare_t<B>>::value;

#define LINT_IS(name, pattern) \
  template <class T>           \
  struct name : false_type {}; \
  template <class T>           \
  struct name<pattern> : true_type {};
LINT_IS(is_const, const T)
LINT_IS(is_volatile, volatile T)
LINT_IS(is_pointer, T*)
LINT_IS(is_array, T[])
#undef LINT_IS
template <class T, size_t N>
struct is_array<T[N]> : true_type {};
#define LINT_ASK(name, ...) \
  template <class T>        \
  struct name : bool_constant<bool(__VA_ARGS__)> {};
LINT_ASK(is_enum, __is_enum(T))
LINT_ASK(is_union, __is_union(T))
LINT_ASK(is_class, __is_class(T))
LINT_ASK(has_virtual_destructor, __has_virtual_destructor(T))
LINT_ASK(is_polymorphic, __is_polymorphic(T))
LINT_ASK(is_abstract, __is_abstract(T))
LINT_ASK(is_final, __is_final(T))
LINT_ASK(is_trivial, __is_trivial(T))
LINT_ASK(is_trivially_copyable, __is_trivially_copyable(T))
LINT_ASK(is_standard_layout, __is_standard_layout(T))
LINT_ASK(is_pod, __is_pod(T))
LINT_ASK(is_literal_type, __is_literal_type(T))
LINT_ASK(is_function, __is_function(T))
LINT_ASK(is_reference, __is_reference(T))
LINT_ASK(is_lvalue_reference, __is_lvalue_reference(T))
LINT_ASK(is_rvalue_reference, __is_rvalue_reference(T))
LINT_ASK(is_void, __is_void(T))
LINT_ASK(is_integral, __is_integral(lint_bare_t<T>))
LINT_ASK(is_floating_point,
         lint_is_bare_same<T, float> || lint_is_bare_same<T, half> || lint_is_bare_same<T, bfloat>)
LINT_ASK(is_arithmetic, is_integral<T>::value || is_floating_point<T>::value)
LINT_ASK(is_fundamental, is_arithmetic<T>::value || __is_void(T))
LINT_ASK(is_compound, !is_fundamental<T>::value)
LINT_ASK(is_object, __is_object(T))
LINT_ASK(is_scalar, is_arithmetic<T>::value || __is_enum(T) || is_pointer<T>::value)
LINT_ASK(is_unsigned, __is_unsigned(lint_bare_t<T>))
LINT_ASK(is_signed, is_arithmetic<T>::value && !__is_unsigned(lint_bare_t<T>))
LINT_ASK(is_null_pointer, is_same<decltype(nullptr), remove_cv_t<T>>::value)
LINT_ASK(is_default_constructible, __is_constructible(T))
LINT_ASK(is_copy_constructible, __is_constructible(T, const T&))
LINT_ASK(is_move_constructible, __is_constructible(T, T&&))
LINT_ASK(is_trivially_default_constructible, __is_trivially_constructible(T))
LINT_ASK(is_trivially_copy_constructible, __is_trivially_constructible(T, const T&))
LINT_ASK(is_copy_assignable, __is_assignable(T&, const T&))
LINT_ASK(is_move_assignable, __is_assignable(T&, T&&))
#undef LINT_ASK
template <class A, class B>
struct is_convertible : bool_constant<__is_convertible_to(A, B)> {};
template <class A, class B>
struct is_base_of : bool_constant<__is_base_of(A, B)> {};
template <class A, class B>
struct is_assignable : bool_constant<__is_assignable(A, B)> {};
template <class A, class B>
struct is_trivially_assignable : bool_constant<__is_trivially_assignable(A, B)> {};
template <class T, class... A>
struct is_constructible : bool_constant<__is_constructible(T, A...)> {};
template <class T, class... A>
struct is_trivially_constructible : bool_constant<__is_trivially_constructible(T, A...)> {};
template <class T>
struct alignment_of : integral_constant<size_t, alignof(T)> {};
template <class T>
struct rank : integral_constant<size_t, 0> {};
template <class T, size_t N>
struct rank<T[N]> : integral_constant<size_t, 1 + rank<T>::value> {};
template <class T, unsigned I = 0>
struct extent : integral_constant<size_t, 0> {};
template <class T, size_t N>
struct extent<T[N], 0> : integral_constant<size_t, N> {};
template <class T, size_t N, unsigned I>
struct extent<T[N], I> : extent<T, I - 1> {};

template <class...>
struct conjunction : true_type {};
template <class A, class... R>
struct conjunction<A, R...> : conditional_t<bool(A::value), conjunction<R...>, A> {};
template <class...>
struct disjunction : false_type {};
template <class A, class... R>
struct disjunction<A, R...> : conditional_t<bool(A::value), A, disjunction<R...>> {};
// What Apple's own conjunction and disjunction are made of, which others use too.
template <class... A>
using _conjunction = conjunction<A...>;
template <class... A>
using _disjunction = disjunction<A...>;
template <class A>
struct negation : bool_constant<!bool(A::value)> {};

#define LINT_VALUE(name, T) \
  template <class... A>     \
  inline constexpr __constant T name##_v = name<A...>::value;
LINT_VALUE(is_same, bool)
LINT_VALUE(is_const, bool)
LINT_VALUE(is_volatile, bool)
LINT_VALUE(is_pointer, bool)
LINT_VALUE(is_array, bool)
LINT_VALUE(is_enum, bool)
LINT_VALUE(is_union, bool)
LINT_VALUE(is_class, bool)
LINT_VALUE(is_trivial, bool)
LINT_VALUE(is_trivially_copyable, bool)
LINT_VALUE(is_standard_layout, bool)
LINT_VALUE(is_function, bool)
LINT_VALUE(is_reference, bool)
LINT_VALUE(is_lvalue_reference, bool)
LINT_VALUE(is_rvalue_reference, bool)
LINT_VALUE(is_void, bool)
LINT_VALUE(is_integral, bool)
LINT_VALUE(is_floating_point, bool)
LINT_VALUE(is_arithmetic, bool)
LINT_VALUE(is_scalar, bool)
LINT_VALUE(is_unsigned, bool)
LINT_VALUE(is_signed, bool)
LINT_VALUE(is_default_constructible, bool)
LINT_VALUE(is_copy_constructible, bool)
LINT_VALUE(is_move_constructible, bool)
LINT_VALUE(is_convertible, bool)
LINT_VALUE(is_base_of, bool)
LINT_VALUE(is_assignable, bool)
LINT_VALUE(is_constructible, bool)
LINT_VALUE(has_virtual_destructor, bool)
LINT_VALUE(is_abstract, bool)
LINT_VALUE(is_compound, bool)
LINT_VALUE(is_copy_assignable, bool)
LINT_VALUE(is_final, bool)
LINT_VALUE(is_fundamental, bool)
LINT_VALUE(is_literal_type, bool)
LINT_VALUE(is_move_assignable, bool)
LINT_VALUE(is_null_pointer, bool)
LINT_VALUE(is_object, bool)
LINT_VALUE(is_pod, bool)
LINT_VALUE(is_polymorphic, bool)
LINT_VALUE(is_trivially_assignable, bool)
LINT_VALUE(is_trivially_constructible, bool)
LINT_VALUE(is_trivially_copy_constructible, bool)
LINT_VALUE(is_trivially_default_constructible, bool)
LINT_VALUE(conjunction, bool)
LINT_VALUE(disjunction, bool)
LINT_VALUE(negation, bool)
LINT_VALUE(alignment_of, size_t)
LINT_VALUE(rank, size_t)
#undef LINT_VALUE
template <class T, unsigned I = 0>
inline constexpr __constant size_t extent_v = extent<T, I>::value;

template <size_t Size, bool Signed>
struct lint_integer_of_size;
#define LINT_INTEGER(size, S, U)                                 \
  template <>                                                    \
  struct lint_integer_of_size<size, true> : type_identity<S> {}; \
  template <>                                                    \
  struct lint_integer_of_size<size, false> : type_identity<U> {};
LINT_INTEGER(1, char, uchar)
LINT_INTEGER(2, short, ushort)
LINT_INTEGER(4, int, uint)
LINT_INTEGER(8, long, ulong)
#undef LINT_INTEGER
template <class T>
struct make_signed : lint_integer_of_size<sizeof(T), true> {};
template <class T>
struct make_unsigned : lint_integer_of_size<sizeof(T), false> {};
template <class T>
using make_signed_t = typename make_signed<T>::type;
template <class T>
using make_unsigned_t = typename make_unsigned<T>::type;

template <class F, class... A>
struct invoke_result : type_identity<decltype(declval<F>()(declval<A>()...))> {};
template <class F, class... A>
using invoke_result_t = typename invoke_result<F, A...>::type;
template <class... T>
struct common_type;
template <class T>
struct common_type<T> : type_identity<lint_bare_t<T>> {};
template <class A, class B>
struct common_type<A, B> : type_identity<decltype(true ? lint_bare_t<A>() : lint_bare_t<B>())> {};
template <class A, class B, class... R>
struct common_type<A, B, R...> : common_type<typename common_type<A, B>::type, R...> {};
template <class... T>
using common_type_t = typename common_type<T...>::type;

template <class T>
constexpr remove_reference_t<T>&& move(T&& x) {
  return static_cast<remove_reference_t<T>&&>(x);
}
template <class T>
constexpr T&& forward(remove_reference_t<T>& x) {
  return static_cast<T&&>(x);
}
#define LINT_SPACE(space) \
  template <class T>      \
  void swap(space T& a, space T& b);
LINT_WRITABLE(LINT_SPACE)
#undef LINT_SPACE
#define LINT_SPACE(space)         \
  template <class T, class U = T> \
  T exchange(space T&, U&&);
LINT_WRITABLE(LINT_SPACE)
#undef LINT_SPACE
template <class T, T... I>
struct integer_sequence {
  using value_type = T;
  static constexpr size_t size() { return sizeof...(I); }
};
template <size_t... I>
using index_sequence = integer_sequence<size_t, I...>;
template <class T, T N>
using make_integer_sequence = __make_integer_seq<integer_sequence, T, N>;
template <size_t N>
using make_index_sequence = make_integer_sequence<size_t, N>;

// --- vectors ---------------------------------------------------------------------------------------

// Components under both of their names. Unions without a name have no copies out of `constant`, and what lies
// there has constructors of its own.
#define LINT_COMPONENTS                              \
  lint_components() = default;                       \
  lint_components(const lint_components&) = default; \
  LINT_ASSIGNMENTS(lint_components)
template <class T, int N>
struct lint_components;
template <class T>
struct lint_components<T, 2> {
  LINT_COMPONENTS
  constexpr lint_components(T x, T y) : x(x), y(y) {}
  constexpr lint_components(T x, T y) __constant : x(x), y(y) {}
  constexpr lint_components(const __constant lint_components& o) : x(o.x), y(o.y) {}
  constexpr lint_components(const lint_components& o) __constant : x(o.x), y(o.y) {}
  union {
    T x, r;
  };
  union {
    T y, g;
  };
};
template <class T>
struct lint_components<T, 3> {
  LINT_COMPONENTS
  constexpr lint_components(T x, T y, T z) : x(x), y(y), z(z) {}
  constexpr lint_components(T x, T y, T z) __constant : x(x), y(y), z(z) {}
  constexpr lint_components(const __constant lint_components& o) : x(o.x), y(o.y), z(o.z) {}
  constexpr lint_components(const lint_components& o) __constant : x(o.x), y(o.y), z(o.z) {}
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
struct lint_components<T, 4> {
  LINT_COMPONENTS
  constexpr lint_components(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}
  constexpr lint_components(T x, T y, T z, T w) __constant : x(x), y(y), z(z), w(w) {}
  constexpr lint_components(const __constant lint_components& o) : x(o.x), y(o.y), z(o.z), w(o.w) {}
  constexpr lint_components(const lint_components& o) __constant : x(o.x), y(o.y), z(o.z), w(o.w) {}
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

template <class T, int N>
struct vec;
template <class T, int N>
struct lint_packed_vec;

// Element type and width; a packed vector counts as the vector that it converts to.
template <class A>
struct lint_shape {
  using element = A;
  using vector = A;
  inline static constexpr __constant int width = 1;
};
template <class T, int N>
struct lint_shape<vec<T, N>> {
  using element = T;
  using vector = vec<T, N>;
  inline static constexpr __constant int width = N;
};
template <class T, int N>
struct lint_shape<lint_packed_vec<T, N>> : lint_shape<vec<T, N>> {};
template <class A>
using lint_element_of = typename lint_shape<A>::element;
template <class A>
using lint_vector_of = typename lint_shape<A>::vector;
template <class A>
inline constexpr __constant int lint_width_of = lint_shape<A>::width;
template <class A>
inline constexpr __constant bool lint_is_vector = (lint_shape<A>::width > 1);
template <class A>
inline constexpr __constant bool lint_is_packed = lint_is_vector<A> && !is_same<A, lint_vector_of<A>>::value;

// Component I of the concatenation of all arguments.
template <class T, int I, class A, class... R>
constexpr T lint_pick(A a, R... rest) {
  if constexpr (I >= lint_width_of<A>) {
    return lint_pick<T, I - lint_width_of<A>>(rest...);
  } else if constexpr (!lint_is_vector<A>) {
    return T(a);
  } else if constexpr (I == 0) {
    return T(a.x);
  } else if constexpr (I == 1) {
    return T(a.y);
  } else if constexpr (I == 2) {
    return T(a.z);
  } else {
    return T(a.w);
  }
}
template <class T, int N, class... A>
constexpr lint_components<T, N> lint_join(A... a) {
  if constexpr (N == 2) {
    return {lint_pick<T, 0>(a...), lint_pick<T, 1>(a...)};
  } else if constexpr (N == 3) {
    return {lint_pick<T, 0>(a...), lint_pick<T, 1>(a...), lint_pick<T, 2>(a...)};
  } else {
    return {lint_pick<T, 0>(a...), lint_pick<T, 1>(a...), lint_pick<T, 2>(a...), lint_pick<T, 3>(a...)};
  }
}
template <class T, int N>
constexpr lint_components<T, N> lint_splat(T s) {
  if constexpr (N == 2) {
    return {s, s};
  } else if constexpr (N == 3) {
    return {s, s, s};
  } else {
    return {s, s, s, s};
  }
}

template <class T, class S>
constexpr bool lint_is_part() {
  if constexpr (lint_is_vector<S>) {
    return is_same<lint_element_of<S>, T>::value;
  } else {
    return __is_convertible_to(S, T);
  }
}
template <class T, int N, class... P>
constexpr bool lint_are_parts() {
  if constexpr (sizeof...(P) >= 2 && (0 + ... + lint_width_of<P>) == N) {
    return (lint_is_part<T, P>() && ...);
  } else {
    return false;
  }
}

// The components that a swizzle names. `v.zx` reads as `v.sw(swizzle<2, 0>())`, and where it is assigned as
// `v.sw_ref(swizzle<2, 0>())`.
template <int... I>
struct lint_swizzle {
  lint_swizzle() = default;
};
template <class V, int... I>
struct lint_swizzle_ref {
  static constexpr int count(int i) { return (0 + ... + (I == i)); }
  static_assert(((count(I) == 1) && ...), "[swizzle] a component is assigned twice");
  using value = vec<typename V::element_type, sizeof...(I)>;
  void operator=(value) const;
  void operator+=(value) const;
  void operator-=(value) const;
  void operator*=(value) const;
  void operator/=(value) const;
  void operator%=(value) const;
  void operator&=(value) const;
  void operator|=(value) const;
  void operator^=(value) const;
  void operator<<=(value) const;
  void operator>>=(value) const;
};
template <int N, int... I>
constexpr bool lint_components_exist() {
  return ((I < N) && ...);
}

// By the space that a vector lies in; one that lies in none is a temporary.
#define LINT_ELEMENT(space, E) const space E& operator[](size_t) const space&;
#define LINT_ELEMENT_REFERENCE(space, E) space E& operator[](size_t) space&;
#define LINT_ELEMENTS(E)               \
  LINT_ELEMENT(__generic, E)           \
  LINT_ELEMENT(__private, E)           \
  LINT_ELEMENT(__global, E)            \
  LINT_ELEMENT(__local, E)             \
  LINT_ELEMENT(__constant, E)          \
  LINT_ELEMENT_REFERENCE(__generic, E) \
  LINT_ELEMENT_REFERENCE(__private, E) \
  LINT_ELEMENT_REFERENCE(__global, E)  \
  LINT_ELEMENT_REFERENCE(__local, E)   \
  E operator[](size_t) &&;
#define LINT_VECTOR_SWIZZLE(space)                                                                \
  template <int... I>                                                                             \
  vec<T, sizeof...(I)> sw(lint_swizzle<I...>) const space {                                       \
    static_assert(lint_components_exist<N, I...>(), "[swizzle] the vector has fewer components"); \
    return vec<T, sizeof...(I)>();                                                                \
  }
#define LINT_MADE(V, space)                                                                         \
  template <class S, enable_if_t<!lint_is_vector<S> && __is_convertible_to(S, T), int> = 0>         \
  constexpr V(S s) space : storage(lint_splat<T, N>(T(s))) {}                                       \
  template <class A, class B, class... P, enable_if_t<lint_are_parts<T, N, A, B, P...>(), int> = 0> \
  constexpr V(A a, B b, P... p) space : storage(lint_join<T, N>(a, b, p...)) {}                     \
  template <class U>                                                                                \
  constexpr explicit V(vec<U, N> v) space : storage(lint_join<T, N>(v)) {}                          \
  template <class U>                                                                                \
  constexpr explicit V(lint_packed_vec<U, N> v) space : storage(lint_join<T, N>(v)) {}
#define LINT_VECTOR(V)                                                                            \
  using element_type = T;                                                                         \
  using storage = lint_components<T, N>;                                                          \
  LINT_COPIES(V)                                                                                  \
  LINT_MADE(V, )                                                                                  \
  LINT_MADE(V, __constant)                                                                        \
  LINT_ELEMENTS(T)                                                                                \
  LINT_VECTOR_SWIZZLE(__generic)                                                                  \
  LINT_VECTOR_SWIZZLE(__constant)                                                                 \
  template <int... I>                                                                             \
  lint_swizzle_ref<vec<T, N>, I...> sw_ref(lint_swizzle<I...>) {                                  \
    static_assert(lint_components_exist<N, I...>(), "[swizzle] the vector has fewer components"); \
    return {};                                                                                    \
  }

template <class T, int N>
struct alignas(sizeof(T) * (N == 3 ? 4 : N)) vec : lint_components<T, N> {
  LINT_VECTOR(vec)
  constexpr vec(lint_packed_vec<T, N> v) : storage(lint_join<T, N>(v)) {}
  constexpr vec(lint_packed_vec<T, N> v) __constant : storage(lint_join<T, N>(v)) {}
};
template <class T, int N>
struct lint_packed_vec : lint_components<T, N> {
  LINT_VECTOR(lint_packed_vec)
  constexpr lint_packed_vec(vec<T, N> v) : storage(lint_join<T, N>(v)) {}
  constexpr lint_packed_vec(vec<T, N> v) __constant : storage(lint_join<T, N>(v)) {}
};
#undef LINT_VECTOR
#undef LINT_MADE
#undef LINT_VECTOR_SWIZZLE

template <class T, int N>
using packed_vec = lint_packed_vec<T, N>;

template <class A>
constexpr lint_vector_of<A> lint_unpacked(A a);

#define LINT_OPERATOR(op, R)                                                                \
  template <class T, int N>                                                                 \
  constexpr vec<R, N> operator op(vec<T, N>, vec<T, N>);                                    \
  template <class T, int N>                                                                 \
  constexpr vec<R, N> operator op(vec<T, N>, type_identity_t<T>);                           \
  template <class T, int N>                                                                 \
  constexpr vec<R, N> operator op(type_identity_t<T>, vec<T, N>);                           \
  template <class A, class B, enable_if_t<lint_is_packed<A> || lint_is_packed<B>, int> = 0> \
  constexpr auto operator op(A a, B b)->decltype(lint_unpacked(a) op lint_unpacked(b));
LINT_OPERATOR(+, T)
LINT_OPERATOR(-, T)
LINT_OPERATOR(*, T)
LINT_OPERATOR(/, T)
LINT_OPERATOR(%, T)
LINT_OPERATOR(&, T)
LINT_OPERATOR(|, T)
LINT_OPERATOR(^, T)
LINT_OPERATOR(<<, T)
LINT_OPERATOR(>>, T)
LINT_OPERATOR(==, bool)
LINT_OPERATOR(!=, bool)
LINT_OPERATOR(<, bool)
LINT_OPERATOR(>, bool)
LINT_OPERATOR(<=, bool)
LINT_OPERATOR(>=, bool)
LINT_OPERATOR(&&, bool)
LINT_OPERATOR(||, bool)
#undef LINT_OPERATOR
#define LINT_UNARY(op, R)                     \
  template <class T, int N>                   \
  constexpr vec<R, N> operator op(vec<T, N>); \
  template <class T, int N>                   \
  constexpr vec<R, N> operator op(lint_packed_vec<T, N>);
LINT_UNARY(+, T)
LINT_UNARY(-, T)
LINT_UNARY(~, T)
LINT_UNARY(!, bool)
#undef LINT_UNARY
#define LINT_ASSIGN(space, op)                                                                \
  template <class T, int N, class B, enable_if_t<__is_convertible_to(B, vec<T, N>), int> = 0> \
  space vec<T, N>& operator op(space vec<T, N>&, B);                                          \
  template <class T, int N, class B, enable_if_t<__is_convertible_to(B, vec<T, N>), int> = 0> \
  space lint_packed_vec<T, N>& operator op(space lint_packed_vec<T, N>&, B);
#define LINT_SPACE(space)                        \
  LINT_ASSIGN(space, +=)                         \
  LINT_ASSIGN(space, -=)                         \
  LINT_ASSIGN(space, *=)                         \
  LINT_ASSIGN(space, /=)                         \
  LINT_ASSIGN(space, %=)                         \
  LINT_ASSIGN(space, &=)                         \
  LINT_ASSIGN(space, |=)                         \
  LINT_ASSIGN(space, ^=)                         \
  LINT_ASSIGN(space, <<=)                        \
  LINT_ASSIGN(space, >>=)                        \
  template <class T, int N>                      \
  space vec<T, N>& operator++(space vec<T, N>&); \
  template <class T, int N>                      \
  space vec<T, N>& operator--(space vec<T, N>&); \
  template <class T, int N>                      \
  vec<T, N> operator++(space vec<T, N>&, int);   \
  template <class T, int N>                      \
  vec<T, N> operator--(space vec<T, N>&, int);
LINT_WRITABLE(LINT_SPACE)
#undef LINT_SPACE
#undef LINT_ASSIGN

}  // namespace metal

#define LINT_NAMES(T)                            \
  typedef metal::vec<T, 2> T##2;                 \
  typedef metal::vec<T, 3> T##3;                 \
  typedef metal::vec<T, 4> T##4;                 \
  typedef metal::packed_vec<T, 2> packed_##T##2; \
  typedef metal::packed_vec<T, 3> packed_##T##3; \
  typedef metal::packed_vec<T, 4> packed_##T##4; \
  namespace metal {                              \
  using ::T##2;                                  \
  using ::T##3;                                  \
  using ::T##4;                                  \
  using ::packed_##T##2;                         \
  using ::packed_##T##3;                         \
  using ::packed_##T##4;                         \
  }
LINT_NAMES(bool)
LINT_NAMES(char)
LINT_NAMES(uchar)
LINT_NAMES(short)
LINT_NAMES(ushort)
LINT_NAMES(int)
LINT_NAMES(uint)
LINT_NAMES(long)
LINT_NAMES(ulong)
LINT_NAMES(half)
LINT_NAMES(float)
LINT_NAMES(bfloat)
#undef LINT_NAMES

// --- what the rewritten text calls -----------------------------------------------------------------

namespace lint {

// The operands of ?: as values: C++ for OpenCL finds two of one class but of different spaces incompatible.
template <class T>
constexpr T value(T x) {
  return x;
}

// A variable in threadgroup memory is rewritten to a reference to some memory there.
struct Threadgroup {
  template <class T>
  operator __local T&() const __constant;
};
constexpr __constant Threadgroup threadgroup = {};

// The value of a function constant, which is known when a pipeline is made and no constant expression before.
struct Unknown {
  template <class T>
  operator T() const __constant;
};
constexpr __constant Unknown unknown = {};

// `R (*name)(A...)` as a type that functions convert to.
template <class R, class... A>
R function(A...);
template <class F>
struct function_pointer;
template <class R, class... A>
struct function_pointer<R(A...)> {
  using type = decltype(&function<R, A...>);
};
template <class F>
using pointer_to = typename function_pointer<F>::type;

template <class T, class... U>
constexpr bool is_one_of() {
  return (metal::lint_is_bare_same<T, U> || ...);
}
template <class T>
constexpr bool is_index() {
  return is_one_of<T, ushort, uint>();
}
template <class T>
constexpr bool is_position() {
  return is_one_of<T, ushort, metal::ushort2, metal::ushort3, uint, metal::uint2, metal::uint3>();
}
template <class T>
constexpr bool is_function_constant() {
  using V = metal::lint_bare_t<T>;
  return metal::is_arithmetic<metal::lint_element_of<V>>::value;
}

}  // namespace lint
