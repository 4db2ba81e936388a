// What the operations that turn heads share: the two forms of their angles, checks and dispatch.
#pragma once

#include <optional>

#include "ops/check.h"
#include "params/head_rope.h"

namespace metalloid::ops {

// Either cos and sin, or positions; null where not given.
struct RopeOptions {
  const Buffer* cos = nullptr;
  const Buffer* sin = nullptr;
  const Buffer* positions = nullptr;
  double theta = 10000.0;
  const Buffer* freq_factors = nullptr;
  std::optional<int64_t> half_rope_dim;  // default: what cos is wide, or half of head_dim
  // With positions: what inverse_frequencies() makes, instead of a call to it with theta.
  const Buffer* frequencies = nullptr;
};

struct HeadRopeCall {
  HeadRopeParams params{};
  uint64_t tokens = 1;
};

// Checks x and the options. x is [tokens, heads, head_dim] or [heads, head_dim].
HeadRopeCall check_head_rope(const Check& check, const Buffer& x, const RopeOptions& options);

// Device, shape, type and overlap of `out`; `weight` may be null.
void check_head_rope_output(const Check& check, const Buffer& x, const RopeOptions& options,
                            const Buffer* weight, const Buffer* out);

// Encodes a kernel with the arguments that params/fused_head_norm_rope.h lists, after its last checks;
// `weight` may be null.
Buffer encode_head_rope(Encoder& encoder, const Check& check, const Operation& operation,
                        const Pipeline& pipeline, Argument params, const HeadRopeCall& call, const Buffer& x,
                        const RopeOptions& options, const Buffer* weight, const Buffer* out);

}  // namespace metalloid::ops
