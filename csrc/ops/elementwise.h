// Two arrays of one shape and type, element by element.
#pragma once

#include "metalloid/encoder.h"

namespace metalloid::ops {

inline constexpr Operation kAdd{"add"};
inline constexpr Operation kMul{"mul"};
inline constexpr Operation kSiluMul{"silu_mul"};
inline constexpr Operation kGeluMul{"gelu_mul"};

// For all of these `out` may be null, and either input.

// y = a + b
Buffer add(Encoder& encoder, const Buffer& a, const Buffer& b, const Buffer* out);

// y = a * b
Buffer mul(Encoder& encoder, const Buffer& a, const Buffer& b, const Buffer* out);

// y = gate * sigmoid(gate) * up
Buffer silu_mul(Encoder& encoder, const Buffer& gate, const Buffer& up, const Buffer* out);

// y = gelu(gate) * up, with the approximation by tanh
Buffer gelu_mul(Encoder& encoder, const Buffer& gate, const Buffer& up, const Buffer* out);

}  // namespace metalloid::ops
