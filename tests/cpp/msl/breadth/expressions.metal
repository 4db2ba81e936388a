#include <metal_stdlib>
#pragma METAL internals : enable
using namespace metal;
#ifdef __METAL_VERSION__
#if __METAL_VERSION__ >= 300
#define V3 1
#endif
#endif
#if defined(__HAVE_SIMDGROUP_MATRIX__)
#endif
constant constexpr int W = 32;
constant int2 kInt2 = int2(1, 2), kOther2 = int2(3, 4);
constant float kA = 1.0, kB = 2.0;
constant float kArr[] = {1.0, 2e-3, .5, 1.f, 1e4};
namespace detail {
template <typename T>
struct Op {
  T v;
  T operator()(T x) const { return x * v; }
};
constexpr constant uint kMask = 0xffu;
enum class E : uchar { A, B };
struct S {
  static int f(int x) { return x; }
  static constant constexpr int N = 3;
};
}  // namespace detail
using namespace detail;
using detail::Op;
template <typename T>
using O = detail::Op<T>;
template <typename T, template <typename> class U>
struct Apply {
  U<T> u;
};
template <int... I>
struct Seq {};
template <int... I>
int sum(Seq<I...>) {
  return (I + ... + 0);
}
template <typename T>
T id(T x) {
  return x;
}
template <>
float id<float>(float x) {
  return x + 1;
}
inline float mixed(const thread float* p, const device float* q, constant float* c, threadgroup float* t) {
  return p[0] + q[0] + c[0] + t[0];
}
float fwd(float x);
float fwd(float x) { return x; }
struct It {
  thread float* p;
  device float* q;
  threadgroup float* t;
  const constant float* c;
  float get() const thread { return *p + *q + *t + *c; }
};
kernel void k1(device float* x [[buffer(0)]], constant float* c [[buffer(1)]],
               const device uint32_t* idx [[buffer(2)]], constant detail::E& e [[buffer(3)]],
               constant float3& f3 [[buffer(4)]], constant packed_float3* pf [[buffer(5)]],
               device float4x4* mats [[buffer(6)]], constant uint (*tab)[4] [[buffer(7)]],
               device char* bytes [[buffer(8)]], constant bool& on [[buffer(9)]],
               uint tid [[thread_position_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
               uint2 g2 [[thread_position_in_grid]], uint3 tg3 [[threads_per_threadgroup]],
               ushort sg [[simdgroup_index_in_threadgroup]], uint nsg [[simdgroups_per_threadgroup]],
               uint dsg [[dispatch_simdgroups_per_threadgroup]]) {
  threadgroup float sh[W];
  float p = x[tid];
  sh[lane] = p;
  simdgroup_barrier(mem_flags::mem_threadgroup);
  It it = {&p, x, sh, c};
  Op<float> op{2};
  O<float> o2{3};
  Apply<float, Op> ap{{4}};
  float r = mixed(&p, x, c, sh) + it.get() + op(1) + o2(2) + ap.u(3) + sum(Seq<1, 2, 3>{}) + id(2.0f) +
            id(2) + S::f(2) + S::N + kMask + (e == E::B) + f3.y + pf[1].z + mats[0][1].x + tab[1][2] +
            fwd(1) + kOther2.y + kB + (on ? 1 : 0) + kArr[tid % 5];
  float3 n = normalize(f3);
  float2 uv = n.xy;
  uv.yx += 1;
  uv = float2x2(1, 2, 3, 4) * uv;
  r += length(uv) + distance(n, f3) + cross(n, f3).x;
  r += float3(pf[0]).x + pf[0].y;
  int i = int(r);
  i = i << 3 >> 1;
  uint u = as_type<uint>(r);
  u = (u & 0xFF) | (u >> 8);
  r += i + u;
  r = fmod(r, 3.0) + pow(r, 2) + powr(abs(r), .5) + exp2(r) + log2(abs(r)) + tanh(r) + floor(r) + sign(r) +
      saturate(r) + smoothstep(0.f, 1.f, r) + step(0.5f, r) + mix(r, 1.f, 0.5f) + select(0.f, r, r > 0);
  int4 iv = int4(1, 2, 3, 4);
  iv = iv * 2 + 1;
  iv.x++;
  ++iv.y;
  iv[2] -= 1;
  r += iv.x + any(iv == int4(3)) + dot(float4(iv), float4(1));
  long l = long(tid) * 3l;
  ulong ul = 4ul;
  r += l + ul;
  uchar uc = uchar(r);
  r += uc;
  char ch = 'a';
  r += ch;
  r += 0x1p-3f + 1e-3 + 1.0h + 0b101;
  if (tid >= g2.x) return;
  x[tid] = r + tg3.x + sg + nsg + dsg;
  bytes[0] = char(idx[0]);
  atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
}
