"""Metal compute kernels from Python, on a Mac and off it.

    import metalloid as ml

    dev = ml.Device()
    x = dev.array(numpy_array)
    with dev.commands() as cmd:
        y = ml.ops.rms_norm(cmd, x)
    y.numpy()

A Device makes Buffers and CommandEncoders; the operations are in metalloid.ops, NumPy oracles for them in
metalloid.reference.
"""

from . import ops
from ._core import (
    Buffer,
    CommandEncoder,
    CompileError,
    Device,
    DeviceError,
    DType,
    Error,
    KernelFault,
    ValidationError,
    bfloat16,
    bool_,
    devices,
    float16,
    float32,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from ._core import __version__ as __version__

__all__ = [
    "Buffer",
    "CommandEncoder",
    "CompileError",
    "DType",
    "Device",
    "DeviceError",
    "Error",
    "KernelFault",
    "ValidationError",
    "bfloat16",
    "bool_",
    "devices",
    "float16",
    "float32",
    "int8",
    "int16",
    "int32",
    "int64",
    "ops",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

# Tracebacks and pickles name the public place.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
