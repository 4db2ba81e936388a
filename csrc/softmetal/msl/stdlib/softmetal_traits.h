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
struct decay {
  using type = typename remove_cv<typename remove_reference<T>::type>::type;
};
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
struct is_array : false_type {};
template <class T>
struct is_array<T[]> : true_type {};
template <class T, size_t N>
struct is_array<T[N]> : true_type {};
template <class T>
struct is_void : is_same<void, remove_cv_t<T>> {};
template <class T>
struct is_enum : bool_constant<__is_enum(T)> {};
template <class T>
struct is_union : bool_constant<__is_union(T)> {};
template <class T>
struct is_class : bool_constant<__is_class(T)> {};
template <class T>
struct is_trivially_copyable : bool_constant<__is_trivially_copyable(T)> {};
template <class B, class D>
struct is_base_of : bool_constant<__is_base_of(B, D)> {};

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
template <class T, bool = is_integral<T>::value>
struct is_unsigned : false_type {};
template <class T>
struct is_unsigned<T, true> : bool_constant<(remove_cv_t<T>(0) < remove_cv_t<T>(-1))> {};
template <class T>
struct is_signed : bool_constant<is_arithmetic<T>::value && !is_unsigned<T>::value> {};

template <class A, class B>
inline constexpr bool is_same_v = is_same<A, B>::value;
template <class A, class B>
inline constexpr bool is_convertible_v = is_convertible<A, B>::value;
template <class A, class B>
inline constexpr bool is_base_of_v = is_base_of<A, B>::value;
template <class T>
inline constexpr bool is_const_v = is_const<T>::value;
template <class T>
inline constexpr bool is_volatile_v = is_volatile<T>::value;
template <class T>
inline constexpr bool is_pointer_v = is_pointer<T>::value;
template <class T>
inline constexpr bool is_reference_v = is_reference<T>::value;
template <class T>
inline constexpr bool is_array_v = is_array<T>::value;
template <class T>
inline constexpr bool is_void_v = is_void<T>::value;
template <class T>
inline constexpr bool is_enum_v = is_enum<T>::value;
template <class T>
inline constexpr bool is_class_v = is_class<T>::value;
template <class T>
inline constexpr bool is_trivially_copyable_v = is_trivially_copyable<T>::value;
template <class T>
inline constexpr bool is_integral_v = is_integral<T>::value;
template <class T>
inline constexpr bool is_floating_point_v = is_floating_point<T>::value;
template <class T>
inline constexpr bool is_arithmetic_v = is_arithmetic<T>::value;
template <class T>
inline constexpr bool is_scalar_v = is_scalar<T>::value;
template <class T>
inline constexpr bool is_signed_v = is_signed<T>::value;
template <class T>
inline constexpr bool is_unsigned_v = is_unsigned<T>::value;

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

}  // namespace metal
