// Rotary embedding of every head: fused_head_norm_rope without the norm.
#pragma once

#include "ops/head_rope.h"

namespace metalloid::ops {

inline constexpr Operation kRopeNeox{"rope_neox"};

// x is [tokens, heads, head_dim] or [heads, head_dim]; out may be x.
Buffer rope_neox(Encoder& encoder, const Buffer& x, const RopeOptions& options, const Buffer* out);

}  // namespace metalloid::ops
