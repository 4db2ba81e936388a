// The chunked gated delta rule.
#pragma once

#include <cstddef>
#include <optional>

#include "metalloid/encoder.h"
#include "params/gated_delta_net.h"

namespace metalloid::ops {

inline constexpr Scalar kGatedDeltaNetScalars[] = {{"scale", offsetof(GatedDeltaNetParams, scale), false}};
inline constexpr Operation kGatedDeltaNetChunkO{"gated_delta_net_chunk_o", kGatedDeltaNetScalars, false};

// The output stage. q and k are [B, T, Hg, K], v [B, T, H, V], state [B, T/64, H, V, K], all bf16;
// g is [B, T, H] f32. The result has the shape of v. `scale` defaults to 1 / sqrt(K).
Buffer gated_delta_net_chunk_o(Encoder& encoder, const Buffer& q, const Buffer& k, const Buffer& v,
                               const Buffer& state, const Buffer& g, std::optional<double> scale,
                               const Buffer* out);

}  // namespace metalloid::ops
