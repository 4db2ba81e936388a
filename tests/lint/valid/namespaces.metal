// A namespace `metal` within another, next to Metal's own, and arguments that hold arrays of pointers.
#include <metal_array>
#include <metal_stdlib>
using namespace metal;

namespace lib {
namespace metal {
struct Range {
  float begin;
  int count;
};
template <typename T>
struct Held {
  using type = T;
  T value;
};
template <typename T>
constant constexpr bool is_pair = ::metal::is_same_v<T, float2> || ::metal::is_same_v<T, half2>;
template <typename T>
using pair_of = ::metal::vec<T, 2>;
template <typename To, typename From, ::metal::enable_if_t<!is_pair<To> && !is_pair<From>, bool> = true>
inline To cast_to(const From from) {
  return static_cast<To>(from);
}
template <typename T, typename... Ts>
inline T sum(T first, Ts... rest) {
  return (first + ... + rest);
}
}  // namespace metal
}  // namespace lib

struct exp_functor {
  template <typename T>
  inline ::metal::enable_if_t<::metal::is_floating_point_v<T>, T> operator()(const T x) {
    return T(::metal::precise::exp(x));
  }
  template <typename T>
  inline ::metal::enable_if_t<::metal::is_integral_v<T>, float> operator()(const T x) {
    return ::metal::precise::exp(static_cast<float>(x));
  }
};
template <typename T, typename F>
using result_of = decltype(::metal::declval<F>()(::metal::declval<T>()));

template <typename T, typename F>
kernel void unary(device result_of<T, F>* out [[buffer(0)]], constant T* in [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
  F f;
  out[i] = lib::metal::cast_to<result_of<T, F>>(f(in[i]) + lib::metal::sum(1, 2, 3));
}
#define UNARY(name, In, Out)                                                           \
  static_assert(::metal::is_same_v<Out, result_of<In, name##_functor>>, "the result"); \
  template [[host_name(#name "_" #In)]] kernel void unary<In, name##_functor>(device Out*, constant In*, uint)
UNARY(exp, float, float);
UNARY(exp, half, half);
UNARY(exp, int, float);

template <typename T>
struct Lists {
  metal::array<device T*, 8> values;
  metal::array<device T*, 8> slopes;
};
struct Chunks {
  uint32_t sizes[8];
  uint64_t list_of_threadgroup[64];
};
template <typename T>
kernel void step_all(device Lists<T>& lists [[buffer(0)]], constant Chunks& chunks [[buffer(1)]],
                     constant lib::metal::Range& range [[buffer(2)]],
                     uint lane [[thread_position_in_threadgroup]],
                     uint group [[threadgroup_position_in_grid]]) {
  const lib::metal::Range own = range;
  auto values = lists.values[chunks.list_of_threadgroup[group]];
  const auto slopes = lists.slopes[0];
  values[lane] -= T(own.begin) * slopes[lane];
}
#define STEP(T)                                                                                      \
  template [[host_name("step_all_" #T)]] kernel void step_all<T>(device Lists<T>&, constant Chunks&, \
                                                                 constant lib::metal::Range&, uint, uint)
STEP(float);
STEP(half);
