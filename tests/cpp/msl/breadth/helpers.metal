#include <metal_stdlib>
using namespace metal;
// helpers with threadgroup pointers, arrays by reference
template <typename T, int N>
inline T reduce(threadgroup T (&a)[N], uint n) {
  T s = 0;
  for (uint i = 0; i < n; i++) s += a[i];
  return s;
}
static float reduce_ptr(const threadgroup float* a, uint n) {
  float s = 0;
  for (uint i = 0; i < n; i++) s += a[i];
  return s;
}
void fill(threadgroup float* a, uint tid) { a[tid] = float(tid); }
float2 row(threadgroup float (*tile)[16], uint r) { return float2(tile[r][0], tile[r][1]); }
struct __attribute__((packed)) Block {
  half d;
  uchar qs[16];
};
static_assert(sizeof(Block) == 18, "block");
typedef struct {
  half d;
  int8_t qs[32];
} block_q8_0;
constant float kTable[2][3] = {{1, 2, 3}, {4.5, 5, 6}};
constant Block kBlocks[2] = {{1.0h, {1, 2, 3}}, {2.0h, {4}}};
struct P {
  uint n;
  float2 s;
};
constant P kP = {3u, {1.0, 2.0}};
constexpr constant float kPi = 3.14159265;
constant constexpr uint kSizes[] = {1, 2, 4};
enum class Mode : int { a = 1, b = 2 };
enum Plain { p0, p1 = 4 };
using real = float;
namespace ns {
namespace inner {
constant int deep = 4;
inline int get(int x) { return x + deep; }
kernel void in_namespace(device int* o [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  o[i] = get(int(i));
}
}  // namespace inner
}  // namespace ns
using ns::inner::get;
namespace alias = ns::inner;
template <typename T, int N, bool B = false>
T times(T x) {
  if constexpr (B)
    return x * T(N);
  else
    return x + T(N);
}
kernel void one(device float* out [[buffer(0)]], const device Block* b [[buffer(1)]],
                constant P& p [[buffer(2)]], device const block_q8_0* q [[buffer(3)]],
                ushort tid [[thread_index_in_threadgroup]], ushort2 tg [[threadgroup_position_in_grid]],
                uint2 tptg [[threads_per_threadgroup]]) {
  threadgroup float a[64];
  threadgroup float tile[16][16];
  threadgroup float (&ref)[64] = a;
  threadgroup float* pa = a;
  threadgroup float4* p4 = (threadgroup float4*)a;
  threadgroup float4* p5 = reinterpret_cast<threadgroup float4*>(pa);
  fill(a, tid);
  tile[tid & 15][tid >> 4 & 15] = 1;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  auto sq = [&](float x) { return x * x + out[0]; };
  auto add = [](thread float& x, float y) -> float {
    x += y;
    return x;
  };
  float acc = 0.0;
#pragma unroll
  for (int i = 0; i < 4; i++) acc += sq(kTable[i & 1][i % 3]);
  _Pragma("unroll(4)") for (int i = 0; i < 4; i++) acc += i;
  acc += reduce(a, 4) + reduce_ptr(a, 4) + row(tile, 1).x + ref[2] + p4[0].x + p5->y + add(acc, 2);
  device const Block& blk = b[tid];
  thread float* pacc = &acc;
  *pacc += float(blk.d) * blk.qs[3] + q[tid].qs[1] + kBlocks[1].qs[0] + kP.s.y + kPi + kSizes[1];
  switch (Mode(p.n)) {
    case Mode::a:
      acc += 1;
      break;
    case Mode::b:
      acc += 2;
      break;
    default:
      break;
  }
  acc += times<float, 3>(acc) + times<float, 2, true>(acc) + alias::get(3) + get(2) + (p1 == 4);
  float4x4 m = float4x4(1.0);
  float3x3 m3 = float3x3(float3(1), float3(2), float3(3));
  acc += (m * float4(1)).x + m[0][0] + (m3 * float3(1)).x + determinant(m3);
  out[tid + tg.x + tptg.x] = acc;
}
