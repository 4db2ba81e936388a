// Root-mean-square normalisation over the last axis.
#pragma once

#include "metalloid/encoder.h"

namespace metalloid::ops {

inline constexpr Operation kRmsNorm{"rms_norm"};
inline constexpr Operation kRmsNormMul{"rms_norm_mul"};

// y = x * rsqrt(mean(x^2) + eps) * weight. `weight` and `out` may be null; out may be x.
Buffer rms_norm(Encoder& encoder, const Buffer& x, const Buffer* weight, double eps, const Buffer* out);

// The same, times `scale`, in one pass; out may be x or scale.
Buffer rms_norm_mul(Encoder& encoder, const Buffer& x, const Buffer& weight, const Buffer& scale, double eps,
                    const Buffer* out);

}  // namespace metalloid::ops
