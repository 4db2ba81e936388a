// Element-wise operations: one kernel for each by templates, and one kernel that function constants make into any.
#include <metal_math>
#include <metal_stdlib>

using namespace metal;

struct Add {
  template <typename T>
  T operator()(T x, T y) {
    return x + y;
  }
};

struct Divide {
  template <typename T>
  T operator()(T x, T y) {
    return x / y;
  }
};

struct Remainder {
  template <typename T>
  metal::enable_if_t<metal::is_integral_v<T> & !metal::is_signed_v<T>, T> operator()(T x, T y) {
    return x % y;
  }
  template <typename T>
  metal::enable_if_t<metal::is_integral_v<T> & metal::is_signed_v<T>, T> operator()(T x, T y) {
    auto r = x % y;
    if (r != 0 && (r < 0 != y < 0)) {
      r += y;
    }
    return r;
  }
  template <typename T>
  metal::enable_if_t<!metal::is_integral_v<T>, T> operator()(T x, T y) {
    T r = T(fmod(x, y));
    if (r != 0 && (r < 0 != y < 0)) {
      r += y;
    }
    return r;
  }
};

struct Maximum {
  template <typename T>
  metal::enable_if_t<metal::is_integral_v<T>, T> operator()(T x, T y) {
    return metal::max(x, y);
  }
  template <typename T>
  metal::enable_if_t<!metal::is_integral_v<T>, T> operator()(T x, T y) {
    if (metal::isnan(x)) {
      return x;
    }
    return x > y ? x : y;
  }
};

struct LeftShift {
  template <typename T>
  T operator()(T x, T y) {
    return x << y;
  }
};

struct Greater {
  template <typename T>
  bool operator()(T x, T y) {
    return x > y;
  }
};

template <typename T, typename U, typename Op>
[[kernel]] void binary_vv(device const T* a, device const T* b, device U* c, uint index [[thread_position_in_grid]]) {
  c[index] = Op()(a[index], b[index]);
}

template <typename T, typename U, typename Op>
[[kernel]] void binary_sv(device const T* a, device const T* b, device U* c, uint index [[thread_position_in_grid]]) {
  c[index] = Op()(a[0], b[index]);
}

#define instantiate_binary(op, tname, type, out)                                                    \
  template [[host_name("vv_" #op #tname)]] [[kernel]] decltype(binary_vv<type, out, op>) binary_vv<type, out, op>; \
  template [[host_name("sv_" #op #tname)]] [[kernel]] decltype(binary_sv<type, out, op>) binary_sv<type, out, op>;

#define instantiate_binary_float(op)              \
  instantiate_binary(op, float32, float, float)   \
  instantiate_binary(op, float16, half, half)     \
  instantiate_binary(op, bfloat16, bfloat, bfloat)

#define instantiate_binary_integer(op)            \
  instantiate_binary(op, uint8, uint8_t, uint8_t) \
  instantiate_binary(op, int32, int32_t, int32_t) \
  instantiate_binary(op, int64, int64_t, int64_t)

instantiate_binary_float(Add)
instantiate_binary_integer(Add)
instantiate_binary_float(Divide)
instantiate_binary_float(Remainder)
instantiate_binary_integer(Remainder)
instantiate_binary_float(Maximum)
instantiate_binary_integer(Maximum)
instantiate_binary_integer(LeftShift)
instantiate_binary(Greater, float32, float, bool)
instantiate_binary(Greater, int64, int64_t, bool)

// What is computed is chosen when the pipeline is made.
constant int operation [[function_constant(100)]];
constant float slope [[function_constant(101)]];
constant bool accumulate [[function_constant(102)]];
constant short unrolled [[function_constant(103)]];
constant bool broadcasts [[function_constant(104)]];
constant ushort broadcast_every [[function_constant(105)]];
constant bool has_slope = is_function_constant_defined(slope);
constant float leak = has_slope ? slope : 0.25f;

enum { OP_RELU, OP_LEAKY, OP_SILU, OP_GELU, OP_TANH, OP_EXP };

inline float4 apply(float4 x) {
  switch (operation) {
    case OP_RELU:
      return max(x, 0.0f);
    case OP_LEAKY:
      return select(x, x * leak, x < 0.0f);
    case OP_SILU:
      return x / (1.0f + exp(-x));
    case OP_GELU:
      return 0.5f * x * (1.0f + precise::tanh(0.79788456080286535587989211986876f * x * (1.0f + 0.044715f * x * x)));
    case OP_TANH:
      return precise::tanh(x);
    default:
      return exp(x);
  }
}

kernel void unary_any(device const float4* x [[buffer(0)]], device float4* y [[buffer(1)]],
                      device const float* factor [[buffer(2), function_constant(broadcasts)]],
                      constant uint& fours [[buffer(3)]], uint index [[thread_position_in_grid]]) {
  for (short j = 0; j < unrolled; j++) {
    const uint i = index * unrolled + j;
    if (i >= fours) return;
    float4 v = apply(x[i]);
    if (broadcasts) v *= factor[i / broadcast_every];
    y[i] = accumulate ? y[i] + v : v;
  }
}
