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

// The same, divided by factor, and rounded once but for the last place: the quotient is put right by what is
// left of it. With fma throughout, as relaxed arithmetic may regroup anything else.
inline float rope_angle(float position, float2 frequency, float factor) {
  const float high = position * frequency.x;
  const float low = fma(position, frequency.y, fma(position, frequency.x, -high));
  const float inverse = 1.0f / factor;
  const float quotient = high * inverse;
  return fma(fma(-quotient, factor, high) + low, inverse, quotient);
}
