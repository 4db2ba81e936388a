#include <metal_stdlib>
using namespace metal;

struct Point {
  float3 at;
  packed_half2 uv;
  union {
    uint bits;
    float number;
  };
  uint4 xy;  // a name that is a swizzle too
};
struct Pair {
  uint key;
  float value;
  float sum() const thread { return key + value; }
  float sum() const device { return key + value; }
};
struct View {
  device float* data;
  constant Pair* pairs;
  threadgroup float* shared;
  uint rows;
};
typedef struct {
  half scale;
  uchar quants[16];
} block;

constant float kTable[2][2] = {{1, 2}, {3, 4}};
constant Pair kPairs[] = {{1, 2.0f}, {3, 4.0f}};
constant constexpr float3 kAxis = float3(0, 1, 0.5f);
constant constexpr uint kCount = sizeof(kPairs) / sizeof(kPairs[0]);

template <typename T>
struct Limits {
  static constant constexpr T highest = numeric_limits<T>::max();
};

static void swap_pairs(device Pair& a, device Pair& b) {
  Pair t = a;
  a = b;
  b = t;
}
inline float total(const thread float (&v)[4]) { return v[0] + v[1] + v[2] + v[3]; }
inline float length2(const thread float3& v) { return dot(v, v); }
template <typename P>
inline void bump(P p) {
  *p += 1;
}

kernel void copies(device Pair* pairs [[buffer(0)]], constant Pair& one [[buffer(1)]],
                   constant Point* points [[buffer(2)]], device float* x [[buffer(3)]],
                   device float4* v [[buffer(4)]], const device block* blocks [[buffer(5)]],
                   uint i [[thread_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
  threadgroup Pair local[64];
  threadgroup float4 tile[16];
  threadgroup uint count;
  // Out of and into every space.
  Pair a = one, b = pairs[i], c = kPairs[i % kCount];
  local[lane] = one;
  pairs[i] = local[lane ^ 1];
  pairs[i] = i > 3 ? a : b;
  pairs[i + 1] = i > 3 ? pairs[i] : Pair{1, 2};
  Point p = points[i];
  const Pair made = {.key = 3, .value = 1.5f};
  swap_pairs(pairs[0], pairs[1]);
  View view = {x, &one, (threadgroup float*)tile, 3};
  const block q = blocks[i];

  // Vectors in every space, and their components.
  tile[lane % 16] = v[i];
  v[i].xy = tile[0].zw;
  v[i].rgb += points[i].at.zyx;
  v[i].xyz = i % 2 ? p.at.xyz : kAxis;
  tile[1].w = float4(p.xy).x;
  p.xy.zw = uint2(1, 2);
  v[i][3] *= 2;
  v[i] = i > 2 ? v[i + 1] : float4(1);
  v[i] += i > 2 ? v[i + 1] : tile[0];
  float4 w = v[i] * 2 + float4(float2(p.uv), 1, 0);
  w = select(w, -w, w > 0.5f);
  const bool4 positive = w > 0 && w < 4;
  w.x = any(positive) || all(w == v[0]) ? w.y : w.z;

  // Pointers stay where they are.
  device float* row = x + i * 4;
  const device float4* wide = reinterpret_cast<const device float4*>(row);
  thread float* own = &w.x;
  threadgroup float* shared = view.shared;
  constant Pair* first = view.pairs;
  auto doubled = [&](float f) { return f * 2 + own[0]; };
  bump(row);
  bump(shared);
  bump(own);
  float list[4] = {w.x, w.y, wide[0].z, doubled(w.w)};
  if (lane == 0) count = 0;
  threadgroup atomic_uint* counter = (threadgroup atomic_uint*)&count;
  atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
  x[i] = total(list) + length2(float3(1, 2, 3)) + length2(w.xyz) + a.sum() + pairs[i].sum() + c.value + p.number +
         kTable[1][0] + made.value + first->value + q.scale + q.quants[2] + Limits<float>::highest;
}
