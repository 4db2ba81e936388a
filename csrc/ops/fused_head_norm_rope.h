// RMS norm of every head, then a rotary embedding, in one pass.
#pragma once

#include <optional>

#include "metalloid/encoder.h"

namespace metalloid::ops {

inline constexpr Operation kFusedHeadNormRope{"fused_head_norm_rope"};

// Either cos and sin, or positions; null where not given.
struct HeadNormRope {
  const Buffer* cos = nullptr;
  const Buffer* sin = nullptr;
  const Buffer* positions = nullptr;
  double theta = 10000.0;
  const Buffer* freq_factors = nullptr;
  const Buffer* weight = nullptr;
  std::optional<int64_t> half_rope_dim;  // default: what cos is wide, or half of head_dim
  double eps = 1e-6;
};

// x is [tokens, heads, head_dim] or [heads, head_dim]; out may be x.
Buffer fused_head_norm_rope(Encoder& encoder, const Buffer& x, const HeadNormRope& options,
                            const Buffer* out);

}  // namespace metalloid::ops
