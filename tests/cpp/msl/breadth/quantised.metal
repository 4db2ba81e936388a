#include <metal_stdlib>
using namespace metal;
#define QK 32
#define N_SIMDWIDTH 32
typedef struct {
  half d;
  uint8_t qs[QK / 2];
} block_q4_0;
typedef void(mul_mv_t)(device const void* src0, device const float* y, device float* dst,
                       constant int64_t& ne00, uint3 tgpig, uint tiisg, uint sgitg);
template <typename block_q, int nr, int nsg>
void mul_vec_impl(device const void* src0, device const float* y, device float* dst, constant int64_t& ne00,
                  uint3 tgpig, uint tiisg, uint sgitg) {
  const int nb = ne00 / QK;
  float yl[16];
  float sumf[nr] = {0.f};
  device const block_q* x = (device const block_q*)src0 + nb * (tgpig.x * nsg + sgitg);
  for (int ib = tiisg / 2; ib < nb; ib += N_SIMDWIDTH / 2) {
    device const uint16_t* qs = ((device const uint16_t*)(x + ib) + 1);
    for (short i = 0; i < 8; i += 2) {
      yl[i] = y[i] + y[i + 1];
      sumf[0] += yl[i] * (qs[i / 2] & 0x000F);
    }
  }
  for (int row = 0; row < nr; ++row) {
    const float tot = simd_sum(sumf[row]);
    if (tiisg == 0) dst[row] = tot;
  }
}
[[host_name("kernel_mul_mv_q4_0_f32")]]
kernel void kernel_mul_mv_q4_0_f32(device const void* src0, device const float* src1, device float* dst,
                                   constant int64_t& ne00, uint3 tgpig [[threadgroup_position_in_grid]],
                                   uint tiisg [[thread_index_in_simdgroup]],
                                   uint sgitg [[simdgroup_index_in_threadgroup]]) {
  mul_vec_impl<block_q4_0, 4, 2>(src0, src1, dst, ne00, tgpig, tiisg, sgitg);
}
typedef void(mul_mv2_impl_fn)(device const char* src0, device float* dst, uint3 tgpig);
template <typename T>
void impl1(device const char* src0, device float* dst, uint3 tgpig) {
  dst[tgpig.x] = float(((device const T*)src0)[0]);
}
template <mul_mv2_impl_fn impl_fn>
kernel void kernel_mul_mv_id(device const char* src0, device float* dst,
                             uint3 tgpig [[threadgroup_position_in_grid]],
                             uint tiitg [[thread_index_in_threadgroup]]) {
  impl_fn(src0, dst, tgpig);
}
typedef decltype(kernel_mul_mv_id<impl1<float>>) kernel_mul_mv_id_t;
template [[host_name("id_f32")]] kernel kernel_mul_mv_id_t kernel_mul_mv_id<impl1<float>>;
template [[host_name("id_f16")]] kernel kernel_mul_mv_id_t kernel_mul_mv_id<impl1<half>>;
typedef half4x4 h44;
template <typename type4x4>
void dequantize(device const block_q4_0* xb, short il, thread type4x4& reg) {
  device const uint16_t* qs = ((device const uint16_t*)xb + 1);
  const float d1 = il ? (xb->d / 16.h) : xb->d;
  const ushort mask0 = il ? 0x00F0 : 0x000F;
  for (int i = 0; i < 8; i++) {
    reg[i / 2][2 * (i % 2) + 0] = d1 * (qs[i] & mask0);
  }
}
template <typename T, void (*dequantize_func)(device const block_q4_0*, short, thread T&)>
kernel void get_rows(device const void* src0 [[buffer(0)]], device float4x4* dst [[buffer(1)]],
                     constant uint64_t& nb [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  T temp;
  dequantize_func((device const block_q4_0*)((device const char*)src0 + i * nb), i % 2, temp);
  dst[i] = float4x4(temp);
}
template [[host_name("get_rows_q4")]] kernel void get_rows<float4x4, dequantize<float4x4>>(device const void*,
                                                                                           device float4x4*,
                                                                                           constant uint64_t&,
                                                                                           uint);
kernel void shared_arg(threadgroup float* shmem [[threadgroup(0)]], threadgroup half2* sh2 [[threadgroup(1)]],
                       device float* o, uint tpitg [[thread_index_in_threadgroup]],
                       ushort3 ntg [[threads_per_threadgroup]]) {
  threadgroup float* sq = (threadgroup float*)(shmem + 16);
  sq[tpitg] = o[tpitg];
  threadgroup half* sh = (threadgroup half*)sh2;
  sh[0] = 1.0h;
  threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
  const auto v = select(1.0f, 2.0f, tpitg > 3);
  o[tpitg] = sq[ntg.x - 1] + float(sh2[0].x) + v + as_type<float>(0x3f800000u);
}
