// Root-mean-square normalisation over the last axis.
#pragma once

#include <cstddef>

#include "metalloid/encoder.h"
#include "params/rms_norm.h"

namespace metalloid::ops {

inline constexpr Scalar kRmsNormScalars[] = {{"eps", offsetof(RmsNormParams, eps), true}};
inline constexpr Operation kRmsNorm{"rms_norm", kRmsNormScalars};
inline constexpr Operation kRmsNormMul{"rms_norm_mul", kRmsNormScalars};

// y = x * rsqrt(mean(x^2) + eps) * weight. `weight` and `out` may be null; out may be x.
Buffer rms_norm(Encoder& encoder, const Buffer& x, const Buffer* weight, double eps, const Buffer* out);

// The same, times `scale`, in one pass; out may be x or scale.
Buffer rms_norm_mul(Encoder& encoder, const Buffer& x, const Buffer& weight, const Buffer& scale, double eps,
                    const Buffer* out);

}  // namespace metalloid::ops
