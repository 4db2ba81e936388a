#include <metal_math>
#include <metal_stdlib>
using namespace metal;
template <typename T, size_t N>
struct Arr {
  T data[N];
  thread T& operator[](size_t i) thread { return data[i]; }
  const thread T& operator[](size_t i) const thread { return data[i]; }
  constexpr size_t size() const { return N; }
};
struct alignas(16) Vec {
  float x, y, z, w;
};
union Bits {
  float f;
  uint u;
};
struct Base {
  int a;
};
struct Derived : Base {
  int b;
};
template <typename T>
struct Traits {
  typedef T type;
  static constant constexpr T zero = T(0);
  enum { k = 3 };
};
template <>
struct Traits<half> {
  typedef float type;
  static constant constexpr float zero = 0;
  enum { k = 4 };
};
template <typename T>
using acc_t = typename Traits<T>::type;
template <typename... Ts>
constexpr int count(Ts...) {
  return sizeof...(Ts);
}
constexpr int fact(int n) { return n <= 1 ? 1 : n * fact(n - 1); }
static inline __attribute__((always_inline)) float quick(float x) {
  return metal::fast::exp(x) + metal::precise::sin(x);
}
inline float ptr_fn(float x) { return x * 2; }
constant uchar kmask[8] = {1, 2, 4, 8, 16, 32, 64, 128};
constant static const half kh[] = {1.0h, 2.0h};
constant array<float, 3> karr = {{1.f, 2.f, 3.f}};
template <typename T>
kernel void typed(device const T* x [[buffer(0)]], device acc_t<T>* y [[buffer(1)]],
                  const constant Vec* v [[buffer(2)]], constant float (&w)[4] [[buffer(3)]],
                  constant array<uint, 4>& arr [[buffer(4)]], uint gid [[thread_position_in_grid]],
                  uint n [[threads_per_grid]], uint lid [[thread_position_in_threadgroup]],
                  uint w_ [[thread_execution_width]], uint qi [[quadgroup_index_in_threadgroup]]) {
  threadgroup typename Traits<T>::type buf[Traits<T>::k * 32];
  threadgroup union {
    float f[32];
    uint u[32];
  } un;
  Arr<float, 4> a;
  for (size_t i = 0; i < a.size(); ++i) a[i] = float(x[gid]) + w[i] + arr[i];
  Bits b;
  b.f = a[0];
  Derived d{{1}, 2};
  (void)d.a;
  buf[lid] = acc_t<T>(x[gid]);
  un.u[lid % 32] = b.u;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float t = buf[lid ^ 1] + Traits<T>::zero + count(1, 2, 3) + fact(4) + quick(1) + kmask[2] + kh[1] + karr[1] +
            un.f[0];
  int i = 0;
  do {
    i++;
    if (i == 3) continue;
    t += i;
  } while (i < 5);
  float (*fp)(float) = ptr_fn;
  t = fp(t);
  float4 f4 = float4(1, 2, 3, 4);
  f4.xyz = f4.zyx;
  f4.w += dot(f4.xy, f4.zw);
  bool4 m = f4 > 2.0f;
  t += any(m) ? f4[gid & 3] : f4.w;
  uint8_t u8 = 3;
  int8_t i8 = -3;
  size_t sz = sizeof(T);
  ptrdiff_t pd = &x[1] - &x[0];
  int64_t i64 = 5;
  t += u8 + i8 + sz + pd + i64;
  half h = half(t);
  bfloat bf = bfloat(t);
  t += float(h) + float(bf) + clamp(t, 0.f, 1.f) + fma(t, t, t) + rsqrt(t) + popcount(b.u) +
       extract_bits(b.u, 1, 3);
  if (is_same_v<T, float>)
    t = -t;
  else if (isnan(t) || isinf(t))
    t = INFINITY;
  y[gid] = acc_t<T>(t) + acc_t<T>(w_) + simd_shuffle_xor(t, 1) + quad_sum(t) + v[0].x + n + qi;
}
template [[host_name("typed_f")]] kernel void typed<float>(device const float*, device float*,
                                                           const constant Vec*, constant float (&)[4],
                                                           constant array<uint, 4>&, uint, uint, uint, uint,
                                                           uint);
template [[host_name("typed_h")]] [[kernel]] decltype(typed<half>) typed<half>;
[[kernel]] void attr_kernel(device uint* o [[buffer(0)]], uint3 gid3 [[thread_position_in_grid]],
                            uint3 gs [[threads_per_grid]], uint grp [[threadgroups_per_grid]]) {
  const uint gid = gid3.x + gs.x * (gid3.y + gs.y * gid3.z);
  o[gid] = ctz(gid) + clz(gid) + reverse_bits(gid) + mulhi(gid, 3u) + rotate(gid, 3u) + grp +
           as_type<uint>(half2(1, 2)) + max3(1, 2, 3) + uint(pack_float_to_unorm4x8(float4(1)));
}
__attribute__((max_total_threads_per_threadgroup(64))) kernel void gcc_attr(device uint* o [[buffer(0)]],
                                                                            uint i
                                                                            [[thread_position_in_grid]]) {
  o[i] = i;
}
