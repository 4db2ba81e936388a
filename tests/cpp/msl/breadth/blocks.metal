#include <metal_stdlib>
using namespace metal;
#define FC_BASE 300
#define FOR_UNROLL(x) _Pragma("clang loop unroll(full)") for (x)
typedef struct {
  union {
    half d;
    half2 dm;
  };
  uint8_t scales[12];
  uint8_t qs[128];
} block_q4_K;
typedef struct {
  union {
    half d;
    half2 dm;
  } u;
  uint8_t qs[16];
} block_q4_1;
struct kargs {
  int32_t ne00;
  int64_t nb01;
  uint64_t nb02;
  float scale;
};
constant bool FC_has_mask [[function_constant(FC_BASE + 0)]];
constant int32_t FC_ns [[function_constant(FC_BASE + 20)]];
template <short NR, short NSG, typename block_t>
kernel void mul_mv(constant kargs& args [[buffer(0)]], device const char* src0, device const char* src1,
                   device char* dst, threadgroup char* shmem [[threadgroup(0)]],
                   uint3 tgpig [[threadgroup_position_in_grid]], ushort tiitg [[thread_index_in_threadgroup]],
                   ushort tiisg [[thread_index_in_simdgroup]],
                   ushort sgitg [[simdgroup_index_in_threadgroup]], ushort3 ntg [[threads_per_threadgroup]]) {
  const auto nsg = NSG;
  (void)nsg;
  threadgroup half* sa = (threadgroup half*)(shmem);
  threadgroup float* sb = (threadgroup float*)(shmem + 4096);
  device const block_t* ax[NR];
  FOR_UNROLL(short row = 0; row < NR; ++row) {
    ax[row] = (device const block_t*)((device char*)src0 + row * args.nb01);
  }
  simdgroup_half8x8 ma[4];
  simdgroup_float8x8 mc[8];
  for (short i = 0; i < 8; i++) {
    mc[i] = make_filled_simdgroup_matrix<float, 8>(0.f);
  }
  for (short i = 0; i < 4; i++) simdgroup_load(ma[i], sa + 64 * i, 8, 0, false);
  simdgroup_barrier(mem_flags::mem_none);
  simdgroup_float8x8 mb;
  simdgroup_load(mb, sb, 8);
  FOR_UNROLL(short i = 0; i < 8; i++) { simdgroup_multiply_accumulate(mc[i], mb, ma[i % 4], mc[i]); }
  float sumf[NR] = {0.f};
  float4 acc1 = {0.f, 0.f, 0.f, 0.f};
  half4 hh = {0, 0, 0, 0};
  acc1[0] += ax[0]->dm[1] * args.scale + ax[0]->d;
  uint32_t aux32[2];
  thread const uint8_t* aux8 = (thread const uint8_t*)aux32;
  aux32[0] = aux8[1];
  float4x4 reg;
  reg[tiisg & 3] = acc1;
  sumf[0] = dot(reg[0], reg[1]) + hh.x;
  for (int row = 0; row < NR && row < args.ne00; ++row) {
    float tot = simd_sum(sumf[row]);
    if (tiisg == 0) {
      ((device float*)dst)[tgpig.x + row] = tot + (FC_has_mask ? 1 : FC_ns);
    }
  }
  simdgroup_store(mc[0], sb + sgitg * 64, 8, 0, false);
  if (sgitg == 0 && tiitg < ntg.x) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}
typedef decltype(mul_mv<2, 4, block_q4_K>) mul_mv_t;
template [[host_name("mul_mv_q4_K")]] kernel mul_mv_t mul_mv<2, 4, block_q4_K>;
kernel void q41(device block_q4_1* b, device float* o, uint i [[thread_position_in_grid]]) {
  o[i] = b[i].u.d + b[i].u.dm.y;
}
// radix/scan with lambdas and static members
template <typename T, uint N>
struct Scan {
  static_assert(N % 32 == 0, "whole SIMD-groups");
  threadgroup T* s;
  uint lid;
  T run(T v) {
    T incl = simd_prefix_inclusive_sum(v);
    if (lid % 32 == 31) s[lid / 32] = incl;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    T base = 0;
    for (uint g = 0; g < lid / 32; ++g) base += s[g];
    return base + incl;
  }
};
kernel void scan(device uint* x [[buffer(0)]], uint i [[thread_position_in_grid]],
                 uint lid [[thread_position_in_threadgroup]]) {
  threadgroup uint part[8];
  Scan<uint, 256> sc{part, lid};
  x[i] = sc.run(x[i]);
  const auto digit = [shift = 4u](uint v) { return (v >> shift) & 15; };
  x[i] += digit(x[i]);
  struct Local {
    uint a;
    uint get() { return a; }
  };
  Local l{3};
  x[i] += l.get();
  enum { LocalE = 4 };
  using LT = uint;
  LT t = LocalE;
  typedef uint LU;
  LU u = t;
  x[i] += u;
  for (uint a = 0, b = 3; a < b; ++a, --b) {
    x[i] += a;
  }
  uint arr2[2][3] = {{1, 2, 3}, {4, 5, 6}};
  x[i] += arr2[1][2];
  thread uint(*pa)[3] = arr2;
  x[i] += pa[0][1];
  constexpr uint K = sizeof(arr2) / sizeof(arr2[0]);
  x[i] += K;
  const constant char* str = "abc";
  x[i] += str[1];
}
