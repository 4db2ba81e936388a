// RMS norm of every head, then a rotary embedding, in one pass.
#pragma once

#include <cstddef>

#include "ops/head_rope.h"
#include "params/fused_head_norm_rope.h"

namespace metalloid::ops {

inline constexpr Scalar kFusedHeadNormRopeScalars[] = {{"eps", offsetof(FusedHeadNormRopeParams, eps), true}};
inline constexpr Operation kFusedHeadNormRope{"fused_head_norm_rope", kFusedHeadNormRopeScalars};

struct HeadNormRope {
  RopeOptions rope;
  const Buffer* weight = nullptr;
  double eps = 1e-6;
};

// x is [tokens, heads, head_dim] or [heads, head_dim]; out may be x.
Buffer fused_head_norm_rope(Encoder& encoder, const Buffer& x, const HeadNormRope& options,
                            const Buffer* out);

}  // namespace metalloid::ops
