// Where a NaN or an infinity comes from.
#include <metal_stdlib>

using namespace metal;

// case root_of_negative: a variance that rounding made negative.
kernel void root_of_negative_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    device float* z [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = sqrt(x[i]);  // FAULT first
  z[i] = y[i] + 1.0f;
}

kernel void root_of_negative_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    device float* z [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = sqrt(max(x[i], 0.0f));
  z[i] = y[i] + 1.0f;
}

// case half_overflow: a square that half cannot hold.
kernel void half_overflow_faulty(device const half* x [[buffer(0)]], device half* y [[buffer(1)]],
                                 uint t [[thread_index_in_threadgroup]]) {
  threadgroup half squares[32];
  squares[t] = x[t] * x[t];  // FAULT first
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = squares[31 - t];
}

kernel void half_overflow_mended(device const half* x [[buffer(0)]], device half* y [[buffer(1)]],
                                 uint t [[thread_index_in_threadgroup]]) {
  threadgroup float squares[32];
  squares[t] = float(x[t]) * float(x[t]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = half(min(squares[31 - t], 65504.0f));
}

// case zero_row: a row of zeros has no norm to divide by.
kernel void zero_row_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                            uint i [[thread_position_in_grid]]) {
  const float norm = sqrt(simd_sum(x[i] * x[i]));
  y[i] = x[i] / norm;  // FAULT first
}

kernel void zero_row_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                            uint i [[thread_position_in_grid]]) {
  const float norm = sqrt(simd_sum(x[i] * x[i]));
  y[i] = norm > 0.0f ? x[i] / norm : 0.0f;
}
