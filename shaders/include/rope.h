// Rotary angles (Su et al. 2021) to no worse than one f32 rounding.
#pragma once

#include <metal_stdlib>

using namespace metal;

inline float position_value(uint bits, bool is_signed) {
  return is_signed ? float(as_type<int>(bits)) : float(bits);
}

// position * (x + y), rounded once: the frequency comes as a float and what that float lost.
inline float rope_angle(float position, float2 frequency) {
  return fma(position, frequency.x, position * frequency.y);
}

// The same, divided by factor, rounded once more only in the last place. A compiler that may reassociate leaves fma
// alone, where it would take a sum of two quotients for the quotient of the sum.
inline float rope_angle(float position, float2 frequency, float factor) {
  const float high = position * frequency.x;
  const float low = fma(position, frequency.x, -high) + position * frequency.y;
  const float inverse = 1.0f / factor;
  const float quotient = high * inverse;
  return fma(fma(-quotient, factor, high) + low, inverse, quotient);
}
