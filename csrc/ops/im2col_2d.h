// Unfolding an image into patches.
#pragma once

#include "metalloid/encoder.h"

namespace metalloid::ops {

// pixels is [C, H, W]; the result is [(H / patch) * (W / patch), C * patch * patch].
Buffer im2col_2d(CommandEncoder& encoder, const Buffer& pixels, int64_t patch, const Buffer* out);

}  // namespace metalloid::ops
