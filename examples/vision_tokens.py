"""From an image to rotated attention heads: three operations in one command buffer, no copies."""

import metalloid as ml
import numpy as np

PATCH, HEADS, HEAD_DIM = 16, 12, 64

dev = ml.Device()
height, width = 448, 672
image = np.random.default_rng(0).standard_normal((3, height, width), dtype=np.float32)
pixels = dev.array(image, dtype=ml.bfloat16)

across, down = width // PATCH, height // PATCH
token = np.arange(down * across, dtype=np.int32)
pos_x, pos_y = dev.array(token % across), dev.array(token // across)

with dev.commands("vision tokens") as cmd:
    patches = ml.ops.im2col_2d(cmd, pixels, PATCH)
    normed = ml.ops.rms_norm(cmd, patches)
    heads = normed.reshape(-1, HEADS, HEAD_DIM)  # a view
    ml.ops.vision_2d_rope(cmd, heads, pos_x, pos_y, out=heads)  # in place

print(f"{cmd.dispatch_count} dispatches in {1e3 * cmd.gpu_time:.2f} ms: {heads.shape} of {heads.dtype.name}")
