// Two-dimensional rotary embedding of vision towers.
#pragma once

#include "metalloid/encoder.h"

namespace metalloid::ops {

inline constexpr Operation kVision2dRope{"vision_2d_rope"};

// x is [seq, heads, head_dim], the positions [seq]; out may be x.
Buffer vision_2d_rope(Encoder& encoder, const Buffer& x, const Buffer& pos_x, const Buffer& pos_y,
                      double theta, const Buffer* out);

}  // namespace metalloid::ops
