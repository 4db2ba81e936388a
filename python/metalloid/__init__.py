"""Metal compute kernels from Python, on a Mac and off it.

    import metalloid as ml

    dev = ml.Device()
    x = dev.array(numpy_array)
    with dev.commands() as cmd:
        y = ml.ops.rms_norm(cmd, x)
    y.numpy()

A Device makes Buffers and CommandEncoders; the operations are in metalloid.ops, NumPy oracles for them in
metalloid.reference. Device.compile() makes kernels of your own, CommandEncoder.dispatch() runs them. trace()
and profile() tell what ran when, capture() has Metal record it for Xcode.
"""

from collections import namedtuple as _namedtuple

from . import ops
from ._capture import capture
from ._core import (
    Buffer,
    CheckSettings,
    CommandEncoder,
    CompileError,
    Device,
    DeviceError,
    DType,
    Encoder,
    Error,
    Event,
    Graph,
    GraphNode,
    Group,
    Kernel,
    KernelArgument,
    KernelConstant,
    KernelFault,
    KernelFaultWarning,
    Library,
    MemoryPlan,
    Queue,
    Reinterpreted,
    Submission,
    ThreadgroupMemory,
    ValidationError,
    bfloat16,
    bool_,
    check_settings,
    devices,
    float16,
    float32,
    int8,
    int16,
    int32,
    int64,
    reinterpret,
    set_check_settings,
    threadgroup_memory,
    uint8,
    uint16,
    uint32,
    uint64,
)
from ._core import __version__ as __version__
from ._trace import ProfileRow, profile, trace

FaultThread = _namedtuple("FaultThread", "threadgroup simdgroup lane thread dispatch action")
FaultThread.__doc__ = """A thread that takes part in a KernelFault.

threadgroup  its position in the grid, (x, y, z)
simdgroup    its SIMD-group in the threadgroup
lane         its place in that
thread       its position in the threadgroup, (x, y, z)
dispatch     which dispatch of the command buffer ran it, from 0
action       what it did there: "writes", "waits", ...
"""

__all__ = [
    "Buffer",
    "CheckSettings",
    "CommandEncoder",
    "CompileError",
    "DType",
    "Device",
    "DeviceError",
    "Encoder",
    "Error",
    "Event",
    "FaultThread",
    "Graph",
    "GraphNode",
    "Group",
    "Kernel",
    "KernelArgument",
    "KernelConstant",
    "KernelFault",
    "KernelFaultWarning",
    "Library",
    "MemoryPlan",
    "ProfileRow",
    "Queue",
    "Reinterpreted",
    "Submission",
    "ThreadgroupMemory",
    "ValidationError",
    "bfloat16",
    "bool_",
    "capture",
    "check_settings",
    "devices",
    "float16",
    "float32",
    "int8",
    "int16",
    "int32",
    "int64",
    "ops",
    "profile",
    "reinterpret",
    "set_check_settings",
    "threadgroup_memory",
    "trace",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

# Tracebacks and pickles name the public place.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
