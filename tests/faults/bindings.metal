// Arguments that may not be written, or are not there.
#include <metal_stdlib>

using namespace metal;

// case write_to_const: the const of an argument is cast away.
kernel void write_to_const_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                  uint i [[thread_position_in_grid]]) {
  device float* in_place = (device float*)x;
  in_place[i] = x[i] * 2.0f;  // FAULT first
  y[i] = x[i] + 1.0f;
}

kernel void write_to_const_mended(device float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                  uint i [[thread_position_in_grid]]) {
  x[i] = x[i] * 2.0f;
  y[i] = x[i] + 1.0f;
}

// case switched_off: an argument that a function constant switched off is used all the same.
constant bool has_bias [[function_constant(0)]];

kernel void switched_off_faulty(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                device const float* bias [[buffer(2), function_constant(has_bias)]],
                                uint i [[thread_position_in_grid]]) {
  y[i] = x[i] + bias[i];  // FAULT first
}

kernel void switched_off_mended(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                                device const float* bias [[buffer(2), function_constant(has_bias)]],
                                uint i [[thread_position_in_grid]]) {
  y[i] = x[i];
  if (has_bias) y[i] += bias[i];
}
