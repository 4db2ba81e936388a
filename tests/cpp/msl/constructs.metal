#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

// What a file of kernels may hold, each used once and each checked by msl_compile_test.cpp.

#define INSTANTIATE(name, type) \
  template [[host_name(#name "_" #type)]] [[kernel]] decltype(name<type, Twice<type>>) name<type, Twice<type>>;

struct Params {
  uint n;
  float factor;
  packed_float3 offset;
};

struct Box {
  float2 xy;
  struct {
    float wz;
  } inner;
  float area() const thread { return xy.x * xy.y; }
};

enum class Operation : uint { add, multiply };

constant float kTable[4] = {1.0, 2.0, 4.0, 8.0};
constant constexpr int kCount = 4;
static constant const float3 kAxis = float3(0.0, 1.0, 0.5h);

constant bool has_bias [[function_constant(0)]];
constant uint repeat_count [[function_constant(1)]];
constant float gain [[function_constant(7)]];
constant float used_gain = is_function_constant_defined(gain) ? gain : 0.5;
constant bool wide = used_gain > 4.0 && has_bias;

namespace ops {
template <typename T>
struct Twice {
  T operator()(T x) const thread { return x + x; }
};
constant uint kBias = 3u;
}  // namespace ops

template <typename T>
METAL_FUNC T last(const device T* x, uint n) {
  return x[n - 1];
}

static inline float2 turned(float2 v, thread float2& other) {
  other.xy = v.yx;
  return float2(-v.y, v.x);
}

// A kernel that looks at its place in the grid alone.
kernel void scale(const device float* x [[buffer(0)]],
                  device float* y [[buffer(1)]],
                  constant Params& params [[buffer(2)]],
                  uint i [[thread_position_in_grid]]) {
  if (i >= params.n) return;
  y[i] = x[i] * params.factor * kTable[kCount - 2] + float3(params.offset).y;
}

kernel void grid3(device uint* out, constant uint2& stride, ushort3 p [[thread_position_in_grid]],
                  uint3 n [[threads_per_grid]], uint3 origin [[grid_origin]], uint3 size [[grid_size]]) {
  const uint at = p.z * stride.y + p.y * stride.x + p.x;
  out[at] = p.x + 10 * p.y + 100 * p.z + 1000 * n.x + 10000 * size.y + origin.x;
}

// Threadgroups of many threads that never meet.
[[kernel, max_total_threads_per_threadgroup(512)]]
void places(device uint4* out [[buffer(0)]],
            uint2 group [[threadgroup_position_in_grid]],
            uint2 thread_ [[thread_position_in_threadgroup]],
            uint2 at [[thread_position_in_grid]],
            uint index [[thread_index_in_threadgroup]],
            uint2 size [[threads_per_threadgroup]],
            uint2 nominal [[dispatch_threads_per_threadgroup]],
            uint2 groups [[threadgroups_per_grid]],
            uint2 grid [[threads_per_grid]]) {
  device uint4& o = out[at.y * grid.x + at.x];
  o.xy = group;
  o.zw = uint2(index, thread_.x + 100 * thread_.y);
  o += uint4(0, 0, 1000 * size.x, 10000 * nominal.y + 100000 * groups.x);
}

// Threadgroup memory, barriers and SIMD-groups; a static variable beside an argument.
template <typename T, typename Op, int N = 16>
kernel void row_sum(const device T* x [[buffer(0)]],
                    device float* out [[buffer(1)]],
                    constant uint& n [[buffer(2)]],
                    threadgroup float* scratch [[threadgroup(0)]],
                    uint row [[threadgroup_position_in_grid]],
                    uint tid [[thread_position_in_threadgroup]],
                    uint threads [[threads_per_threadgroup]],
                    uint lane [[thread_index_in_simdgroup]],
                    uint simd [[simdgroup_index_in_threadgroup]],
                    uint simds [[simdgroups_per_threadgroup]]) {
  threadgroup float total[N];
  threadgroup uint seen;
  if (tid == 0) seen = 0;
  float sum = 0.0;
#pragma unroll(4)
  for (uint i = tid; i < n; i += threads) sum += float(Op()(x[row * n + i]));
  scratch[tid] = simd_sum(sum);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 0) total[simd] = scratch[tid];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (tid == 0) {
    float all = 0.0;
    for (uint s = 0; s < simds; ++s) all += total[s];
    out[row] = all + float(seen);
  }
}
namespace ops {
INSTANTIATE(row_sum, float)
INSTANTIATE(row_sum, half)
INSTANTIATE(row_sum, bfloat)
}  // namespace ops
template [[host_name("row_sum_int_8")]] [[kernel]] void row_sum<int, ops::Twice<int>, 8>(
    const device int* x [[buffer(0)]], device float* out [[buffer(1)]], constant uint& n [[buffer(2)]],
    threadgroup float* scratch [[threadgroup(0)]], uint row [[threadgroup_position_in_grid]],
    uint tid [[thread_position_in_threadgroup]], uint threads [[threads_per_threadgroup]],
    uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]],
    uint simds [[simdgroups_per_threadgroup]]);

// The template arguments follow from the parameters.
template <typename T>
kernel void deduced(device T* x [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  x[i] = x[i] + T(1);
}
template [[host_name("deduced_short")]] kernel void deduced(device short* x, uint i);

kernel void specialised(device float* x [[buffer(0)]],
                        device const float* bias [[buffer(1), function_constant(has_bias)]],
                        uint i [[thread_position_in_grid]]) {
  float v = x[i];
  for (uint r = 0; r < repeat_count; ++r) v += used_gain;
  if (has_bias) v += bias[0];
  if (wide) v += 1000.0;
  x[i] = v;
}

kernel void boxes(device Box* boxes [[buffer(0)]], constant Operation& operation [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
  device Box& b = boxes[i];
  float2 other;
  b.xy = turned(b.xy, other);
  b.inner.wz = operation == Operation::add ? b.xy.x + b.xy.y : b.xy.x * b.xy.y;
  b.xy.yx += other.xy * kAxis.yy * float(ops::kBias);
}
