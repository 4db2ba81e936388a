// Dispatches of a concurrent encoder that depend on each other. The mended twins are the same kernels with a
// barrier between them.
#include <metal_stdlib>

using namespace metal;

// case read_after_write: the second dispatch reads what the first one writes.
kernel void read_after_write_first(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint i [[thread_position_in_grid]]) {
  y[i] = x[i] + 1.0f;  // FAULT first
}

kernel void read_after_write_second(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                    uint i [[thread_position_in_grid]], uint n [[threads_per_grid]]) {
  y[i] = 2.0f * x[n - 1 - i];  // FAULT second
}

// case write_after_read: the second one overwrites what the first one may still be reading.
kernel void write_after_read_first(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                   uint i [[thread_position_in_grid]], uint n [[threads_per_grid]]) {
  y[i] = 2.0f * x[n - 1 - i];  // FAULT first
}

kernel void write_after_read_second(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] = float(i);  // FAULT second
}

// case write_after_write: both write.
kernel void write_after_write_first(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] = -1.0f;  // FAULT first
}

kernel void write_after_write_second(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[2 * i] = float(i);  // FAULT second
}
