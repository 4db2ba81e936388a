"""One piece of memory, seen by a file, by NumPy, by a device, and by PyTorch if it is installed."""

import tempfile

import metalloid as ml
import numpy as np

dev = ml.Device()
with tempfile.NamedTemporaryFile() as file:
    weights = np.memmap(file.name, dtype=np.float32, mode="w+", shape=(256, 4096))
    weights[:] = 3.0

    x = dev.wrap(weights)  # page-aligned, so nothing is copied
    with dev.commands() as cmd:
        ml.ops.rms_norm(cmd, x, out=x)  # in place: writes to the file's memory
    print("the file's memory now holds", weights[0, :3])
    assert np.asarray(x).ctypes.data == weights.ctypes.data

    try:
        import torch
    except ImportError:
        print("PyTorch is not installed")
    else:
        shared = torch.from_dlpack(x)
        shared[0, 0] = 7.0
        print("after a write through PyTorch:", weights[0, :3])
