// What the rotary embeddings share.
#pragma once

#include <cstdint>

#include "metalloid/device.h"

namespace metalloid::ops {

// theta^(-2 i / dim) for i < pairs, in the form params/rope.h describes. Kept for the next call with the same
// arguments.
Buffer inverse_frequencies(Device& device, double theta, uint64_t dim, uint64_t pairs);

// SIMD-groups of a threadgroup that shares the heads of one token: enough to hide latency, few enough that
// several tokens share a core.
inline constexpr uint32_t kHeadSimdgroups = 16;

}  // namespace metalloid::ops
