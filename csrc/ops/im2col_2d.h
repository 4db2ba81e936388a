// Unfolding an image into patches.
#pragma once

#include "metalloid/encoder.h"

namespace metalloid::ops {

inline constexpr Operation kIm2col2d{"im2col_2d", {}, false};

// pixels is [C, H, W]; the result is [(H / patch) * (W / patch), C * patch * patch].
Buffer im2col_2d(Encoder& encoder, const Buffer& pixels, int64_t patch, const Buffer* out);

}  // namespace metalloid::ops
