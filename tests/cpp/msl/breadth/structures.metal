#include <metal_stdlib>
using namespace metal;
typedef float F4[4];
typedef struct Pair {
  uint key;
  float val;
} Pair;
struct Q {
  packed_float3 pos;
  uchar4 col;
  half2 uv;
  uint16_t a : 4, b : 12;
};
struct Big {
  float4x4 m;
  float3 v[3];
  struct {
    int x, y;
  } in;
  Pair pairs[2];
};
struct Bits {
  uint lo : 4;
  uint hi : 28;
};
constant Big kBig = {float4x4(1.0f), {float3(1), float3(2), float3(3)}, {1, 2}, {{1u, 2.f}, {3u, 4.f}}};
template <uint N>
struct Fib {
  enum : uint { value = Fib<N - 1>::value + Fib<N - 2>::value };
};
template <>
struct Fib<0> {
  enum : uint { value = 0 };
};
template <>
struct Fib<1> {
  enum : uint { value = 1 };
};
static void swap(device Pair& a, device Pair& b) {
  Pair t = a;
  a = b;
  b = t;
}
static void swap(threadgroup Pair& a, threadgroup Pair& b) {
  Pair t = a;
  a = b;
  b = t;
}
static void swap(thread Pair& a, thread Pair& b) {
  Pair t = a;
  a = b;
  b = t;
}
inline void compare(threadgroup Pair* s, uint i, uint j, bool up) {
  if ((s[i].key > s[j].key) == up) swap(s[i], s[j]);
}
template <typename Ptr>
void inc(Ptr p) {
  *p += 1;
}
template <typename F>
float apply(F f, float x) {
  return f(x);
}
kernel void bitonic(device Pair* d [[buffer(0)]], constant uint& n [[buffer(1)]],
                    threadgroup Pair* sh [[threadgroup(0)]], uint lid [[thread_index_in_threadgroup]],
                    uint gid [[thread_position_in_grid]], uint tpg [[threads_per_threadgroup]]) {
  threadgroup Pair local[256];
  threadgroup uint hist[1 << 4];
  threadgroup float mat[4][8][2];
  volatile threadgroup uint* vh = hist;
  (void)vh;

  threadgroup volatile uint flag;
  threadgroup bool any_flag;
  threadgroup Q qs[2];
  if (gid < n)
    local[lid] = d[gid];
  else
    local[lid] = Pair{0xFFFFFFFF, 0.f};
  if (lid == 0) {
    flag = 0;
    any_flag = false;
  }
  for (uint k = 2; k <= tpg; k <<= 1)
    for (uint j = k >> 1; j > 0; j >>= 1) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      uint ixj = lid ^ j;
      if (ixj > lid) compare(local, lid, ixj, (lid & k) == 0);
    }
  threadgroup atomic_uint* ah = (threadgroup atomic_uint*)hist;
  atomic_fetch_add_explicit(&ah[local[lid].key & 15], 1, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  mat[lid & 3][lid & 7][lid & 1] = 1;
  inc(&mat[0][0][0]);
  inc(&d[gid].val);
  float x = apply([=](float v) { return v * 2 + sh[0].val; }, 3.0);
  auto g = [&]() mutable {
    x += 1;
    return x;
  };
  x = g();
  x += kBig.m[1][1] + kBig.v[1].y + kBig.in.x + kBig.pairs[1].val + Fib<10>::value + float3(qs[0].pos).x +
       qs[1].a;
  uint ballot = uint(simd_vote::vote_t(simd_ballot(x > 0)));
  x += popcount(ballot);
  F4 arr = {1, 2, 3, 4};
  for (auto v : arr) x += v;
  if (simd_is_first()) x += simd_broadcast_first(x);
  if (uint c = hist[0]; c > 0) x += c;
  auto [kk, vv] = local[lid];
  x += vv + kk;
  d[gid] = Pair{.key = uint(x), .val = x};
  return;
}
