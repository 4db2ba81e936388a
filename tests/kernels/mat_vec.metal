// Matrix times vector: a SIMD-group for each few rows, vectors of four, and rows of a sparse matrix.
#include <metal_stdlib>

using namespace metal;

template <typename T, typename T4>
kernel void mat_vec(constant uint& columns [[buffer(0)]], constant uint& rows [[buffer(1)]],
                    device const T* matrix [[buffer(2)]], device const float* x [[buffer(3)]],
                    device float* y [[buffer(4)]], uint group [[threadgroup_position_in_grid]],
                    uint simdgroup [[simdgroup_index_in_threadgroup]],
                    uint simdgroups [[simdgroups_per_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  const uint row = group * simdgroups + simdgroup;
  if (row >= rows) return;
  device const T* values = matrix + ulong(row) * columns;
  float sum = 0.0f;
  const uint fours = columns % 4 == 0 ? columns / 4 : 0;
  device const T4* values4 = (device const T4*)values;
  device const float4* x4 = (device const float4*)x;
  for (uint i = lane; i < fours; i += 32) sum += dot(float4(values4[i]), x4[i]);
  for (uint i = fours * 4 + lane; i < columns; i += 32) sum += float(values[i]) * x[i];
  sum = simd_sum(sum);
  if (lane == 0) y[row] = sum;
}

typedef decltype(mat_vec<half, half4>) mat_vec_t;
template [[host_name("mat_vec_f16")]] kernel mat_vec_t mat_vec<half, half4>;
template [[host_name("mat_vec_f32")]] kernel decltype(mat_vec<float, float4>) mat_vec<float, float4>;
template [[host_name("mat_vec_bf16")]] kernel decltype(mat_vec<bfloat, bfloat4>) mat_vec<bfloat, bfloat4>;

// y = A x with A in compressed rows; quads share a row.
kernel void sparse_mat_vec(device const uint* row_starts [[buffer(0)]], device const uint* columns [[buffer(1)]],
                           device const float* values [[buffer(2)]], device const float* x [[buffer(3)]],
                           device float* y [[buffer(4)]], constant uint& rows [[buffer(5)]],
                           uint i [[thread_position_in_grid]], ushort quad_lane [[thread_index_in_quadgroup]]) {
  const uint row = i / 4;
  float sum = 0.0f;
  if (row < rows) {
    for (uint j = row_starts[row] + quad_lane; j < row_starts[row + 1]; j += 4) sum += values[j] * x[columns[j]];
  }
  sum += quad_shuffle_xor(sum, 1);
  sum += quad_shuffle_xor(sum, 2);
  if (row < rows && quad_lane == 0) y[row] = sum;
}

// Two rows at once from a column-major matrix, with the partial sums of the columns merged in threadgroup memory.
kernel void mat_vec_columns(device const packed_float3* matrix [[buffer(0)]], device const float* x [[buffer(1)]],
                            device packed_float3* y [[buffer(2)]], constant uint2& shape [[buffer(3)]],
                            threadgroup float3* partial [[threadgroup(0)]],
                            uint group [[threadgroup_position_in_grid]], uint t [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]]) {
  const uint row_triples = shape.x, columns = shape.y;
  float3 sum(0.0f);
  for (uint c = t; c < columns; c += threads) sum += float3(matrix[c * row_triples + group]) * x[c];
  partial[t] = sum;
  for (uint stride = threads / 2; stride > 0; stride /= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < stride) partial[t] += partial[t + stride];
  }
  if (t == 0) y[group] = packed_float3(partial[0]);
}
