// Root-mean-square normalisation over the last axis.
#pragma once

#include "metalloid/encoder.h"

namespace metalloid::ops {

// y = x * rsqrt(mean(x^2) + eps) * weight. `weight` and `out` may be null; out may be x.
Buffer rms_norm(CommandEncoder& encoder, const Buffer& x, const Buffer* weight, double eps,
                const Buffer* out);

// The same, times `scale`, in one pass; out may be x or scale.
Buffer rms_norm_mul(CommandEncoder& encoder, const Buffer& x, const Buffer& weight, const Buffer& scale,
                    double eps, const Buffer* out);

}  // namespace metalloid::ops
