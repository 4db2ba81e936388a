// Layer norm, and an RMS norm that takes 32 lanes for granted and reads vectors of four.
#include <metal_stdlib>

using namespace metal;

// Sums two values at once over a threadgroup of up to 1024 threads.
inline float2 threadgroup_sum2(float2 v, threadgroup float2* partial, uint lane, uint simdgroup, uint simdgroups) {
  v = float2(simd_sum(v.x), simd_sum(v.y));
  if (lane == 0) partial[simdgroup] = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  v = lane < simdgroups ? partial[lane] : float2(0);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_sum(v);
}

template <typename T>
kernel void layer_norm(const device T* x [[buffer(0)]], const device T* w [[buffer(1)]],
                       const device T* b [[buffer(2)]], device T* out [[buffer(3)]],
                       constant float& eps [[buffer(4)]], constant uint& axis_size [[buffer(5)]],
                       uint gid [[threadgroup_position_in_grid]], uint lid [[thread_position_in_threadgroup]],
                       uint lsize [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float2 partial[32];
  x += gid * size_t(axis_size);
  out += gid * size_t(axis_size);
  float sum = 0;
  for (uint i = lid; i < axis_size; i += lsize) sum += float(x[i]);
  const float mean = threadgroup_sum2(float2(sum, 0), partial, lane, simdgroup, simdgroups).x / axis_size;
  float squares = 0;
  for (uint i = lid; i < axis_size; i += lsize) {
    const float d = float(x[i]) - mean;
    squares += d * d;
  }
  const float variance = threadgroup_sum2(float2(squares, 0), partial, lane, simdgroup, simdgroups).x / axis_size;
  const float normalizer = metal::precise::rsqrt(variance + eps);
  for (uint i = lid; i < axis_size; i += lsize) {
    out[i] = static_cast<T>((float(x[i]) - mean) * normalizer * float(w[i]) + float(b[i]));
  }
}

#define instantiate_layer_norm(name, type) \
  template [[host_name("layer_norm_" #name)]] kernel decltype(layer_norm<type>) layer_norm<type>;

instantiate_layer_norm(float32, float)
instantiate_layer_norm(float16, half)
instantiate_layer_norm(bfloat16, bfloat)

typedef struct {
  int32_t ne00;
  int32_t ne00_4;
  uint64_t nb01;
  float eps;
} rms_norm_args;

kernel void kernel_rms_norm_f32(constant rms_norm_args& args, device const char* src0, device char* dst,
                                threadgroup float* shmem_f32 [[threadgroup(0)]],
                                uint3 tgpig [[threadgroup_position_in_grid]],
                                ushort3 tpitg [[thread_position_in_threadgroup]],
                                ushort sgitg [[simdgroup_index_in_threadgroup]],
                                ushort tiisg [[thread_index_in_simdgroup]],
                                ushort3 ntg [[threads_per_threadgroup]]) {
  if (sgitg == 0) {
    shmem_f32[tiisg] = 0.0f;
  }
  device const float4* x = (device const float4*)(src0 + tgpig.x * args.nb01);

  float sumf = 0.0f;
  for (int i00 = tpitg.x; i00 < args.ne00_4; i00 += ntg.x) {
    sumf += dot(x[i00], x[i00]);
  }
  sumf = simd_sum(sumf);

  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (tiisg == 0) {
    shmem_f32[sgitg] = sumf;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sumf = simd_sum(shmem_f32[tiisg]);

  const float mean = sumf / args.ne00;
  const float scale = 1.0f / sqrt(mean + args.eps);
  device float4* y = (device float4*)dst + tgpig.x * args.ne00_4;
  for (int i00 = tpitg.x; i00 < args.ne00_4; i00 += ntg.x) {
    y[i00] = x[i00] * scale;
  }
}
