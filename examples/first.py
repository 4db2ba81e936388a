"""Normalise some rows and compare with NumPy."""

import metalloid as ml
import numpy as np

dev = ml.Device()
values = np.random.default_rng(0).standard_normal((64, 4096), dtype=np.float32)
x = dev.array(values)  # copied once
w = dev.array(np.ones(4096, np.float32))

with dev.commands() as cmd:  # one command buffer; commits and waits at the end
    y = ml.ops.rms_norm(cmd, x, weight=w, eps=1e-6)

got = np.asarray(y)  # the same memory, not a copy
want = values / np.sqrt(np.mean(values**2, axis=-1, keepdims=True) + 1e-6)
print(f"{dev.description}: largest difference {np.abs(got - want).max():.1e}")
