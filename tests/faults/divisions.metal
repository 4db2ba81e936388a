// Integer divisions without a result.
#include <metal_stdlib>

using namespace metal;

// case empty_bucket: a mean of what nobody counted.
kernel void empty_bucket_faulty(device const int* sum [[buffer(0)]], device const int* count [[buffer(1)]],
                                device int* y [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = sum[i] / count[i];  // FAULT first
}

kernel void empty_bucket_mended(device const int* sum [[buffer(0)]], device const int* count [[buffer(1)]],
                                device int* y [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = count[i] != 0 ? sum[i] / count[i] : 0;
}

// case no_columns: the row and column of an element where there are none.
kernel void no_columns_faulty(constant ulong& columns [[buffer(0)]], device ulong* y [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
  threadgroup ulong s[32];
  s[i] = i % columns;  // FAULT first
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[31 - i];
}

kernel void no_columns_mended(constant ulong& columns [[buffer(0)]], device ulong* y [[buffer(1)]],
                              uint i [[thread_position_in_grid]]) {
  threadgroup ulong s[32];
  s[i] = i % max(columns, 1ul);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[31 - i];
}

// case sign_of_least: -2^31 has no negative.
kernel void sign_of_least_faulty(device const int* x [[buffer(0)]], device const int* sign [[buffer(1)]],
                                 device int* y [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  int v = x[i];
  v /= sign[i];  // FAULT first
  y[i] = v;
}

kernel void sign_of_least_mended(device const int* x [[buffer(0)]], device const int* sign [[buffer(1)]],
                                 device int* y [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = max(x[i], -0x7fffffff) / sign[i];
}
