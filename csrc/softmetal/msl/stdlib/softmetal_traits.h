// <metal_type_traits> and the few traits that the other parts of the library need.
#pragma once

#include "softmetal_config.h"

namespace metal {

template <class T, T V>
struct integral_constant {
  static constexpr T value = V;
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

// The transformations. Each NAME gives NAME<T>::type and NAME_t<T>.
template <class T>
struct remove_const {
  using type = T;
};
template <class T>
struct remove_const<const T> {
  using type = T;
};
template <class T>
struct remove_volatile {
  using type = T;
};
template <class T>
struct remove_volatile<volatile T> {
  using type = T;
};
template <class T>
struct remove_cv {
  using type = typename remove_const<typename remove_volatile<T>::type>::type;
};
template <class T>
struct remove_reference {
  using type = T;
};
template <class T>
struct remove_reference<T&> {
  using type = T;
};
template <class T>
struct remove_reference<T&&> {
  using type = T;
};
template <class T>
struct remove_pointer {
  using type = T;
};
template <class T>
struct remove_pointer<T*> {
  using type = T;
};
template <class T>
struct remove_extent {
  using type = T;
};
template <class T>
struct remove_extent<T[]> {
  using type = T;
};
template <class T, size_t N>
struct remove_extent<T[N]> {
  using type = T;
};
template <class T>
struct remove_all_extents {
  using type = T;
};
template <class T>
struct remove_all_extents<T[]> : remove_all_extents<T> {};
template <class T, size_t N>
struct remove_all_extents<T[N]> : remove_all_extents<T> {};
template <class T>
struct add_const {
  using type = const T;
};
template <class T>
struct add_volatile {
  using type = volatile T;
};
template <class T>
struct add_cv {
  using type = const volatile T;
};
template <class T>
struct add_pointer {
  using type = typename remove_reference<T>::type*;
};
template <class T>
struct add_lvalue_reference {
  using type = T&;
};
template <class T>
struct add_rvalue_reference {
  using type = T&&;
};
// As an argument passed by value has it.
template <class T>
struct decay_value {
  using type = typename remove_cv<T>::type;
};
template <class T>
struct decay_value<T[]> {
  using type = T*;
};
template <class T, size_t N>
struct decay_value<T[N]> {
  using type = T*;
};
template <class R, class... A>
struct decay_value<R(A...)> {
  using type = R (*)(A...);
};
template <class T>
struct decay : decay_value<typename remove_reference<T>::type> {};
template <class T>
struct underlying_type {
  using type = __underlying_type(T);
};
template <class T>
struct type_identity {
  using type = T;
};

// The translated code has no address spaces.
template <class T>
using remove_addrspace = type_identity<T>;
template <class T>
using remove_addrspace_t = T;

// Metal has no void_t and no is_empty: kernels define their own in its namespace.
template <class...>
using void_of = void;
template <class T>
using remove_all_extents_t = typename remove_all_extents<T>::type;
template <class T>
using add_pointer_t = typename add_pointer<T>::type;
template <class T>
using add_lvalue_reference_t = typename add_lvalue_reference<T>::type;
template <class T>
using add_rvalue_reference_t = typename add_rvalue_reference<T>::type;
template <class T>
using remove_const_t = typename remove_const<T>::type;
template <class T>
using remove_volatile_t = typename remove_volatile<T>::type;
template <class T>
using remove_cv_t = typename remove_cv<T>::type;
template <class T>
using remove_reference_t = typename remove_reference<T>::type;
template <class T>
using remove_pointer_t = typename remove_pointer<T>::type;
template <class T>
using remove_extent_t = typename remove_extent<T>::type;
template <class T>
using add_const_t = typename add_const<T>::type;
template <class T>
using add_volatile_t = typename add_volatile<T>::type;
template <class T>
using add_cv_t = typename add_cv<T>::type;
template <class T>
using decay_t = typename decay<T>::type;
template <class T>
using underlying_type_t = typename underlying_type<T>::type;
template <class T>
using type_identity_t = typename type_identity<T>::type;

template <class T>
T&& declval();

// The questions. Each NAME gives NAME<T>::value and NAME_v<T>.
template <class A, class B>
struct is_same : false_type {};
template <class T>
struct is_same<T, T> : true_type {};

template <class From, class To>
struct is_convertible {
  static void take(To);
  template <class F, class = decltype(take(declval<F>()))>
  static true_type test(int);
  template <class>
  static false_type test(...);
  static constexpr bool value = decltype(test<From>(0))::value;
};

template <class T>
struct is_const : false_type {};
template <class T>
struct is_const<const T> : true_type {};
template <class T>
struct is_volatile : false_type {};
template <class T>
struct is_volatile<volatile T> : true_type {};
template <class T>
struct is_pointer : false_type {};
template <class T>
struct is_pointer<T*> : true_type {};
template <class T>
struct is_pointer<T* const> : true_type {};
template <class T>
struct is_reference : false_type {};
template <class T>
struct is_reference<T&> : true_type {};
template <class T>
struct is_reference<T&&> : true_type {};
template <class T>
struct is_lvalue_reference : false_type {};
template <class T>
struct is_lvalue_reference<T&> : true_type {};
template <class T>
struct is_rvalue_reference : false_type {};
template <class T>
struct is_rvalue_reference<T&&> : true_type {};
template <class T>
struct is_function : bool_constant<!is_const<const T>::value && !is_reference<T>::value> {};
template <class T>
struct is_array : false_type {};
template <class T>
struct is_array<T[]> : true_type {};
template <class T, size_t N>
struct is_array<T[N]> : true_type {};
template <class T>
struct is_void : is_same<void, remove_cv_t<T>> {};
// Those that the compiler answers come with their NAME_v at once.
#define SOFTMETAL_ASK1(name)                   \
  template <class T>                           \
  struct name : bool_constant<__##name(T)> {}; \
  template <class T>                           \
  inline constexpr bool name##_v = __##name(T);
SOFTMETAL_ASK1(is_enum)
SOFTMETAL_ASK1(is_union)
SOFTMETAL_ASK1(is_class)
SOFTMETAL_ASK1(is_polymorphic)
SOFTMETAL_ASK1(is_abstract)
SOFTMETAL_ASK1(is_final)
SOFTMETAL_ASK1(is_trivial)
SOFTMETAL_ASK1(is_trivially_copyable)
SOFTMETAL_ASK1(is_standard_layout)
SOFTMETAL_ASK1(is_pod)
SOFTMETAL_ASK1(is_literal_type)
SOFTMETAL_ASK1(has_virtual_destructor)
#undef SOFTMETAL_ASK1
#define SOFTMETAL_ASK2(name)                      \
  template <class A, class B>                     \
  struct name : bool_constant<__##name(A, B)> {}; \
  template <class A, class B>                     \
  inline constexpr bool name##_v = __##name(A, B);
SOFTMETAL_ASK2(is_base_of)
SOFTMETAL_ASK2(is_assignable)
SOFTMETAL_ASK2(is_trivially_assignable)
#undef SOFTMETAL_ASK2
template <class T, class... A>
struct is_constructible : bool_constant<__is_constructible(T, A...)> {};
template <class T, class... A>
struct is_trivially_constructible : bool_constant<__is_trivially_constructible(T, A...)> {};
template <class T>
struct is_default_constructible : is_constructible<T> {};
template <class T>
struct is_copy_constructible : is_constructible<T, const T&> {};
template <class T>
struct is_move_constructible : is_constructible<T, T&&> {};
template <class T>
struct is_trivially_default_constructible : is_trivially_constructible<T> {};
template <class T>
struct is_trivially_copy_constructible : is_trivially_constructible<T, const T&> {};
template <class T>
struct is_copy_assignable : is_assignable<T&, const T&> {};
template <class T>
struct is_move_assignable : is_assignable<T&, T&&> {};

template <class T>
struct alignment_of : integral_constant<size_t, alignof(T)> {};
template <class T>
struct rank : integral_constant<size_t, 0> {};
template <class T>
struct rank<T[]> : integral_constant<size_t, 1 + rank<T>::value> {};
template <class T, size_t N>
struct rank<T[N]> : integral_constant<size_t, 1 + rank<T>::value> {};
template <class T, unsigned I = 0>
struct extent : integral_constant<size_t, 0> {};
template <class T, unsigned I>
struct extent<T[], I> : extent<T, I - 1> {};
template <class T>
struct extent<T[], 0> : integral_constant<size_t, 0> {};
template <class T, size_t N, unsigned I>
struct extent<T[N], I> : extent<T, I - 1> {};
template <class T, size_t N>
struct extent<T[N], 0> : integral_constant<size_t, N> {};

// The first that settles the question.
template <class...>
struct conjunction : true_type {};
template <class A>
struct conjunction<A> : A {};
template <class A, class... R>
struct conjunction<A, R...> : conditional_t<bool(A::value), conjunction<R...>, A> {};
template <class...>
struct disjunction : false_type {};
template <class A>
struct disjunction<A> : A {};
template <class A, class... R>
struct disjunction<A, R...> : conditional_t<bool(A::value), A, disjunction<R...>> {};
template <class A>
struct negation : bool_constant<!bool(A::value)> {};

// half and bfloat add themselves to the second list.
template <class T>
struct is_integral_base : false_type {};
template <class T>
struct is_floating_point_base : false_type {};
template <>
struct is_floating_point_base<float> : true_type {};
template <>
struct is_floating_point_base<double> : true_type {};
#define SOFTMETAL_INTEGER(T) \
  template <>                \
  struct is_integral_base<T> : true_type {};
SOFTMETAL_INTEGER(bool)
SOFTMETAL_INTEGER(char)
SOFTMETAL_INTEGER(signed char)
SOFTMETAL_INTEGER(unsigned char)
SOFTMETAL_INTEGER(short)
SOFTMETAL_INTEGER(unsigned short)
SOFTMETAL_INTEGER(int)
SOFTMETAL_INTEGER(unsigned int)
SOFTMETAL_INTEGER(long)
SOFTMETAL_INTEGER(unsigned long)
SOFTMETAL_INTEGER(long long)
SOFTMETAL_INTEGER(unsigned long long)
#undef SOFTMETAL_INTEGER

template <class T>
struct is_integral : is_integral_base<remove_cv_t<T>> {};
template <class T>
struct is_floating_point : is_floating_point_base<remove_cv_t<T>> {};
template <class T>
struct is_arithmetic : bool_constant<is_integral<T>::value || is_floating_point<T>::value> {};
template <class T>
struct is_scalar : bool_constant<is_arithmetic<T>::value || __is_enum(T) || is_pointer<T>::value> {};
template <class T>
struct is_null_pointer : is_same<decltype(nullptr), remove_cv_t<T>> {};
template <class T>
struct is_fundamental
    : bool_constant<is_arithmetic<T>::value || is_void<T>::value || is_null_pointer<T>::value> {};
template <class T>
struct is_compound : bool_constant<!is_fundamental<T>::value> {};
template <class T>
struct is_object : bool_constant<!is_function<T>::value && !is_reference<T>::value && !is_void<T>::value> {};
template <class T, bool = is_integral<T>::value>
struct is_unsigned : false_type {};
template <class T>
struct is_unsigned<T, true> : bool_constant<(remove_cv_t<T>(0) < remove_cv_t<T>(-1))> {};
template <class T>
struct is_signed : bool_constant<is_arithmetic<T>::value && !is_unsigned<T>::value> {};

#define SOFTMETAL_VALUE1(name, T) \
  template <class A>              \
  inline constexpr T name##_v = name<A>::value;
#define SOFTMETAL_VALUE2(name) \
  template <class A, class B>  \
  inline constexpr bool name##_v = name<A, B>::value;
#define SOFTMETAL_VALUES(name) \
  template <class... A>        \
  inline constexpr bool name##_v = name<A...>::value;
SOFTMETAL_VALUE2(is_same)
SOFTMETAL_VALUE2(is_convertible)
SOFTMETAL_VALUES(is_constructible)
SOFTMETAL_VALUES(is_trivially_constructible)
SOFTMETAL_VALUES(conjunction)
SOFTMETAL_VALUES(disjunction)
SOFTMETAL_VALUE1(negation, bool)
SOFTMETAL_VALUE1(is_const, bool)
SOFTMETAL_VALUE1(is_volatile, bool)
SOFTMETAL_VALUE1(is_pointer, bool)
SOFTMETAL_VALUE1(is_reference, bool)
SOFTMETAL_VALUE1(is_lvalue_reference, bool)
SOFTMETAL_VALUE1(is_rvalue_reference, bool)
SOFTMETAL_VALUE1(is_function, bool)
SOFTMETAL_VALUE1(is_array, bool)
SOFTMETAL_VALUE1(is_void, bool)
SOFTMETAL_VALUE1(is_null_pointer, bool)
SOFTMETAL_VALUE1(is_fundamental, bool)
SOFTMETAL_VALUE1(is_compound, bool)
SOFTMETAL_VALUE1(is_object, bool)
SOFTMETAL_VALUE1(is_integral, bool)
SOFTMETAL_VALUE1(is_floating_point, bool)
SOFTMETAL_VALUE1(is_arithmetic, bool)
SOFTMETAL_VALUE1(is_scalar, bool)
SOFTMETAL_VALUE1(is_signed, bool)
SOFTMETAL_VALUE1(is_unsigned, bool)
SOFTMETAL_VALUE1(is_default_constructible, bool)
SOFTMETAL_VALUE1(is_copy_constructible, bool)
SOFTMETAL_VALUE1(is_move_constructible, bool)
SOFTMETAL_VALUE1(is_trivially_default_constructible, bool)
SOFTMETAL_VALUE1(is_trivially_copy_constructible, bool)
SOFTMETAL_VALUE1(is_copy_assignable, bool)
SOFTMETAL_VALUE1(is_move_assignable, bool)
SOFTMETAL_VALUE1(alignment_of, size_t)
SOFTMETAL_VALUE1(rank, size_t)
template <class T, unsigned I = 0>
inline constexpr size_t extent_v = extent<T, I>::value;
#undef SOFTMETAL_VALUE1
#undef SOFTMETAL_VALUE2
#undef SOFTMETAL_VALUES

template <class, class F, class... A>
struct invoke_result_base {};
template <class F, class... A>
struct invoke_result_base<void_of<decltype(declval<F>()(declval<A>()...))>, F, A...> {
  using type = decltype(declval<F>()(declval<A>()...));
};
template <class F, class... A>
struct invoke_result : invoke_result_base<void, F, A...> {};
template <class F, class... A>
using invoke_result_t = typename invoke_result<F, A...>::type;

template <size_t Size, bool Signed>
struct integer_of_size;
template <>
struct integer_of_size<1, true> {
  using type = signed char;
};
template <>
struct integer_of_size<1, false> {
  using type = unsigned char;
};
template <>
struct integer_of_size<2, true> {
  using type = short;
};
template <>
struct integer_of_size<2, false> {
  using type = unsigned short;
};
template <>
struct integer_of_size<4, true> {
  using type = int;
};
template <>
struct integer_of_size<4, false> {
  using type = unsigned int;
};
template <>
struct integer_of_size<8, true> {
  using type = long;
};
template <>
struct integer_of_size<8, false> {
  using type = unsigned long;
};
// MSL's char is the signed 8-bit type, so it is what make_signed gives.
template <class T>
struct make_signed {
  using type = conditional_t<sizeof(T) == 1, char, typename integer_of_size<sizeof(T), true>::type>;
};
template <class T>
struct make_unsigned {
  using type = typename integer_of_size<sizeof(T), false>::type;
};
template <class T>
using make_signed_t = typename make_signed<T>::type;
template <class T>
using make_unsigned_t = typename make_unsigned<T>::type;

template <class... T>
struct common_type;
template <class T>
struct common_type<T> {
  using type = decay_t<T>;
};
template <class A, class B>
struct common_type<A, B> {
  using type = decay_t<decltype(true ? declval<A>() : declval<B>())>;
};
template <class A, class B, class... R>
struct common_type<A, B, R...> : common_type<typename common_type<A, B>::type, R...> {};
template <class... T>
using common_type_t = typename common_type<T...>::type;

template <class T>
constexpr SOFTMETAL_INLINE remove_reference_t<T>&& move(T&& x) {
  return static_cast<remove_reference_t<T>&&>(x);
}
template <class T>
constexpr SOFTMETAL_INLINE T&& forward(remove_reference_t<T>& x) {
  return static_cast<T&&>(x);
}
template <class T>
constexpr SOFTMETAL_INLINE void swap(T& a, T& b) {
  T old = move(a);
  a = move(b);
  b = move(old);
}
template <class T, class U = T>
constexpr SOFTMETAL_INLINE T exchange(T& object, U&& value) {
  T old = move(object);
  object = static_cast<U&&>(value);
  return old;
}

template <class T, T... I>
struct integer_sequence {
  using value_type = T;
  static constexpr size_t size() { return sizeof...(I); }
};
template <size_t... I>
using index_sequence = integer_sequence<size_t, I...>;
#if defined(__clang__)
template <class T, T N>
using make_integer_sequence = __make_integer_seq<integer_sequence, T, N>;
#else
template <class T, T N>
using make_integer_sequence = integer_sequence<T, __integer_pack(N)...>;
#endif
template <size_t N>
using make_index_sequence = make_integer_sequence<size_t, N>;

// The same value in all threads, says the source.
template <class T>
struct uniform {
  T value;
  uniform() = default;
  constexpr SOFTMETAL_INLINE uniform(const T& v) : value(v) {}
  constexpr SOFTMETAL_INLINE operator T() const { return value; }
};
template <class T>
constexpr SOFTMETAL_INLINE uniform<T> make_uniform(T value) {
  return value;
}

}  // namespace metal
