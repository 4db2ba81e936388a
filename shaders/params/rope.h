// Inverse frequencies of a rotary embedding, as the positional kernels read them: one float2 for each pair i,
//   x = theta^(-2 i / dim) rounded to f32,  y = what that rounding lost, as f32,
// made by the host in double. The kernels form position * (x + y) with a single rounding.
// dim is head_dim for fused_head_norm_rope and head_dim / 2 for vision_2d_rope.
#pragma once
