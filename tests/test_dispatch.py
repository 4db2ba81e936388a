"""Dispatching kernels of one's own: what is taken, what is refused, and that nothing else can happen."""

from __future__ import annotations

import array
import collections
import ctypes
import statistics
import time

import metalloid as ml
import ml_dtypes
import numpy as np
import pytest
from support import another_device, needs_compiler, open_device, page_aligned

pytestmark = needs_compiler

SOURCE = """#include <metal_stdlib>
using namespace metal;
struct Params { uint n; float factor; ushort2 pair; };

kernel void scale(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                  constant Params& params [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (i < params.n) y[i] = x[i] * params.factor + float(params.pair.y);
}

kernel void places(device uint* y [[buffer(0)]], uint3 at [[thread_position_in_grid]],
                   uint3 grid [[threads_per_grid]], uint3 group [[threadgroup_position_in_grid]],
                   uint3 here [[thread_position_in_threadgroup]], uint3 size [[threads_per_threadgroup]]) {
  uint i = (at.z * grid.y + at.y) * grid.x + at.x;
  y[4 * i] = i;
  y[4 * i + 1] = group.x + 100 * group.y + 10000 * group.z;
  y[4 * i + 2] = here.x + 100 * here.y + 10000 * here.z;
  y[4 * i + 3] = size.x + 100 * size.y + 10000 * size.z;
}

kernel void rotate_left(device const int* x [[buffer(0)]], device int* y [[buffer(1)]],
                        threadgroup int* scratch [[threadgroup(0)]], threadgroup int* more [[threadgroup(2)]],
                        uint i [[thread_position_in_grid]], uint lane [[thread_index_in_threadgroup]],
                        uint n [[threads_per_threadgroup]]) {
  threadgroup int fixed[16];
  if (lane == 0) { fixed[0] = 1; more[0] = 1; }
  scratch[lane] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = scratch[(lane + uint(fixed[0] * more[0])) % n];
}

kernel void vectors(device const float4* x [[buffer(0)]], device float4x4* m [[buffer(1)]],
                    device float3* y [[buffer(2)]], constant float3& add [[buffer(3)]],
                    constant float2x3& both [[buffer(4)]], device Params* params [[buffer(5)]]) {
  y[0] = x[0].xyz + add + both[1];
  m[0][2] = x[1];
  params[0].n += 1;
}

kernel void nothing() {}
"""

# One kernel that stores a value of each type.
TYPES = {
    "bool": (np.bool_, ml.bool_),
    "char": (np.int8, ml.int8),
    "uchar": (np.uint8, ml.uint8),
    "short": (np.int16, ml.int16),
    "ushort": (np.uint16, ml.uint16),
    "int": (np.int32, ml.int32),
    "uint": (np.uint32, ml.uint32),
    "long": (np.int64, ml.int64),
    "ulong": (np.uint64, ml.uint64),
    "half": (np.float16, ml.float16),
    "bfloat": (ml_dtypes.bfloat16, ml.bfloat16),
    "float": (np.float32, ml.float32),
}
STORES = "#include <metal_stdlib>\nusing namespace metal;\n" + "".join(
    f"kernel void store_{t}(device {t}* y [[buffer(0)]], constant {t}& x [[buffer(1)]]) {{ y[0] = x; }}\n"
    f"kernel void store_{t}3(device {t}3* y [[buffer(0)]], constant {t}3& x [[buffer(1)]]) {{ y[0] = x; }}\n"
    for t in TYPES
)

PARAMS = np.dtype([("n", np.uint32), ("factor", np.float32), ("pair", np.uint16, 2)], align=True)


def params(n=0, factor=0.0, pair=(0, 0)):
    return np.array((n, factor, pair), PARAMS)


@pytest.fixture(scope="module", params=ml.devices())
def device(request) -> ml.Device:
    return ml.Device(request.param)


@pytest.fixture(scope="module")
def library(device) -> ml.Library:
    return device.compile(SOURCE, name="dispatch.metal")


@pytest.fixture(scope="module")
def stores(device) -> ml.Library:
    return device.compile(STORES, name="stores.metal")


@pytest.fixture
def x(device):
    return device.array(np.arange(100, dtype=np.float32))


@pytest.fixture
def y(device):
    return device.zeros(100)


def run(device, kernel, args=(), **grid) -> None:
    with device.commands() as cmd:
        cmd.dispatch(kernel, args=args, **grid)


# --- geometry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["threads", "grid"])
@pytest.mark.parametrize(
    "threads, threadgroup",
    [
        (1, 1),
        (77, 32),
        ((77,), (32,)),
        ([5, 7], [4, 2]),
        ((5, 3, 4), (2, 2, 3)),
        ((1, 1, 9), 8),
        (np.int64(33), np.uint8(32)),
        (1000, 1024),
    ],
)
def test_a_grid_of_threads(device, library, word, threads, threadgroup):
    """The last threadgroups of a row are smaller, as in Metal."""
    size = (*np.atleast_1d(threads), 1, 1)[:3]
    group = (*np.atleast_1d(threadgroup), 1, 1)[:3]
    count = int(np.prod(size))
    y = device.array(np.full(4 * count + 4, 7, np.uint32))
    run(device, library.kernel("places"), [y], **{word: threads}, threadgroup=threadgroup)
    z, row, column = np.indices(size[::-1])
    expected = np.stack(
        [
            np.arange(count).reshape(size[::-1]),
            *(
                sum(
                    100**i * f(p, int(s), int(g))
                    for i, (p, s, g) in enumerate(zip((column, row, z), size, group, strict=True))
                )
                for f in (
                    lambda p, s, g: p // g,
                    lambda p, s, g: p % g,
                    lambda p, s, g: np.minimum(g, s - p // g * g),
                )
            ),
        ],
        axis=-1,
    )
    np.testing.assert_array_equal(y.numpy()[: 4 * count], expected.ravel())
    assert (y.numpy()[4 * count :] == 7).all()


@pytest.mark.parametrize("groups, threadgroup", [(3, 32), ((2, 3), (8, 4)), ((2, 1, 2), (3, 2, 2))])
def test_a_grid_of_threadgroups(device, library, groups, threadgroup):
    size = [
        int(g) * int(t)
        for g, t in zip((*np.atleast_1d(groups), 1, 1), (*np.atleast_1d(threadgroup), 1, 1), strict=False)
    ]
    count = int(np.prod(size[:3]))
    y = device.array(np.full(4 * count + 4, 7, np.uint32))
    run(device, library.kernel("places"), [y], threadgroups=groups, threadgroup=threadgroup)
    np.testing.assert_array_equal(y.numpy()[: 4 * count : 4], np.arange(count))
    assert (y.numpy()[4 * count :] == 7).all()


@pytest.mark.parametrize(
    "grid", [{"threads": 0}, {"threads": (5, 0, 5)}, {"grid": (0,)}, {"threadgroups": (0, 4)}]
)
def test_an_empty_grid_runs_nothing(device, library, x, y, grid):
    with device.commands() as cmd:
        cmd.dispatch(library.kernel("scale"), **grid, threadgroup=32, args=[x, y, params(100, 2.0)])
        # There may be no memory for nothing.
        nothing = device.empty(0)
        cmd.dispatch(library.kernel("scale"), **grid, threadgroup=32, args=[nothing, nothing, params()])
        with pytest.raises(ml.ValidationError, match="float16"):
            cmd.dispatch(
                library.kernel("scale"),
                **grid,
                threadgroup=32,
                args=[device.zeros(1, "float16"), y, params()],
            )
        assert cmd.dispatch_count == 2
    assert not y.numpy().any()


def test_a_kernel_without_arguments(device, library):
    run(device, library.kernel("nothing"), threads=5, threadgroup=5)
    run(device, library.kernel("nothing"), [], threads=5, threadgroup=5)
    run(device, library.kernel("nothing"), {}, threads=5, threadgroup=5)


HUGE = (1 << 32) - 1


@pytest.mark.parametrize(
    "grid, says",
    [
        ({}, "none of threads"),
        ({"threads": 1, "grid": 1}, "more than one"),
        ({"threads": 1, "threadgroups": 1}, "more than one"),
        ({"threads": -1}, "-1"),
        ({"threads": 1.5}, "1.5"),
        ({"threads": "1"}, "threads"),
        ({"threads": ()}, "threads"),
        ({"threads": (1, 1, 1, 1)}, "threads"),
        ({"threads": (1, None)}, "None"),
        ({"threads": 1 << 32}, "2^32"),
        ({"threads": 1 << 70}, "threads"),
        ({"threads": (HUGE, HUGE, HUGE)}, "2^62"),
        ({"threadgroups": HUGE}, "2^32"),
        ({"threadgroups": (1, 1 << 40)}, "2^32"),
        ({"threads": 1, "threadgroup": 0}, "at least 1 x 1 x 1"),
        ({"threads": 1, "threadgroup": (1, 0)}, "at least 1 x 1 x 1"),
        ({"threads": 1, "threadgroup": 1025}, "1024"),
        ({"threads": 1, "threadgroup": (32, 33)}, "1056 threads"),
        ({"threads": 1, "threadgroup": (1 << 22, 1 << 22, 1 << 22)}, "1024"),
        ({"threads": 1, "threadgroup": None}, "threadgroup"),
        ({"threads": 1, "threadgroup": -4}, "-4"),
    ],
)
def test_geometry_is_checked(device, library, x, y, grid, says):
    with device.commands() as cmd:
        with pytest.raises(ml.ValidationError) as raised:
            cmd.dispatch(
                library.kernel("scale"), **{"threadgroup": 32, **grid}, args=[x, y, params(100, 2.0)]
            )
        assert says in str(raised.value) and "dispatch of scale" in str(raised.value)
        assert cmd.dispatch_count == 0
    assert not y.numpy().any()


def test_a_threadgroup_has_a_size(device, library, x, y):
    with pytest.raises(TypeError):
        device.commands().dispatch(library.kernel("scale"), threads=1, args=[x, y, params()])


@pytest.mark.parametrize("wrong", [None, "scale", 7])
def test_a_kernel_is_needed(device, wrong):
    with pytest.raises(TypeError, match="kernel"):
        device.commands().dispatch(wrong, threads=1, threadgroup=1)


# --- arguments ----------------------------------------------------------------------------------


def test_arguments_by_position_and_by_name(device, library, x, y):
    kernel = library.kernel("scale")
    p = params(100, 2.0, (0, 1))
    for args in ([x, y, p], (x, y, p), {"y": y, "params": p, "x": x}):
        y.copy_from(np.zeros(100))
        run(device, kernel, args, threads=100, threadgroup=32)
        np.testing.assert_array_equal(y.numpy(), x.numpy() * 2 + 1)


@pytest.mark.parametrize(
    "form",
    [
        lambda p: p,
        lambda p: p[()],
        lambda p: p.reshape(1),
        lambda p: np.asfortranarray(p),
        lambda p: bytes(p),
        lambda p: bytearray(bytes(p)),
        lambda p: memoryview(bytes(p)),
        lambda p: np.frombuffer(bytes(p), np.uint8),
        lambda p: array.array("I", bytes(p)),
        lambda p: (ctypes.c_uint8 * len(bytes(p))).from_buffer_copy(bytes(p)),
    ],
    ids=[
        "array",
        "scalar",
        "axis",
        "fortran",
        "bytes",
        "bytearray",
        "memoryview",
        "uint8",
        "array.array",
        "ctypes",
    ],
)
def test_a_struct_by_value(device, library, x, y, form):
    run(device, library.kernel("scale"), [x, y, form(params(100, 3.0))], threads=100, threadgroup=32)
    np.testing.assert_array_equal(y.numpy(), x.numpy() * 3)


def test_a_struct_in_a_buffer(device, library, x, y):
    raw = device.array(np.frombuffer(bytes(params(100, 3.0)), np.uint8))
    run(device, library.kernel("scale"), [x, y, raw], threads=100, threadgroup=32)
    np.testing.assert_array_equal(y.numpy(), x.numpy() * 3)
    words = device.array(np.frombuffer(bytes(params(100, 4.0)), np.uint32))
    run(device, library.kernel("scale"), [x, y, ml.reinterpret(words)], threads=100, threadgroup=32)
    np.testing.assert_array_equal(y.numpy(), x.numpy() * 4)


def test_a_buffer_is_used_from_where_its_view_starts(device, library):
    x = device.array(np.arange(100, dtype=np.float32))
    y = device.zeros(100)
    run(device, library.kernel("scale"), [x[10:], y[3:50], params(47, 1.0)], threads=64, threadgroup=32)
    expected = np.zeros(100)
    expected[3:50] = np.arange(10, 57)
    np.testing.assert_array_equal(y.numpy(), expected)


def test_a_value_may_be_as_large_as_metal_takes(device, library, y):
    x = np.arange(1024, dtype=np.float32)
    run(device, library.kernel("scale"), [x, y, params(100, 1.0)], threads=100, threadgroup=32)
    np.testing.assert_array_equal(y.numpy(), x[:100])
    with pytest.raises(ml.ValidationError, match="at most 4096"):
        run(
            device,
            library.kernel("scale"),
            [np.zeros(1025, np.float32), y, params()],
            threads=1,
            threadgroup=1,
        )
    run(
        device,
        library.kernel("scale"),
        [[1, 2.5, np.float16(3)], y, params(3, 1.0)],
        threads=3,
        threadgroup=32,
    )
    np.testing.assert_array_equal(y.numpy()[:3], [1, 2.5, 3])


def test_vectors_and_matrices(device, library):
    x = device.array(np.arange(8, dtype=np.float32))
    m, y = device.zeros(16), device.zeros(4)
    p = device.zeros(PARAMS.itemsize, "uint8")
    for add, both in (
        ((1, 2, 3), [[0, 0, 0], [10, 20, 30]]),
        (np.float32([1, 2, 3]), np.float32([0, 0, 0, 10, 20, 30])),
        ([1.0, np.int8(2), 3], np.float32([[0, 0, 0], [10, 20, 30]])),
    ):
        run(device, library.kernel("vectors"), [x, m, y, add, both, p], threads=1, threadgroup=1)
        np.testing.assert_array_equal(y.numpy()[:3], [11, 23, 35])
    np.testing.assert_array_equal(m.numpy().reshape(4, 4)[2], [4, 5, 6, 7])
    assert p.numpy().view(np.uint32)[0] == 3


def test_threadgroup_memory(device, library):
    x = np.arange(96, dtype=np.int32)
    y = device.zeros(96, "int32")
    args = {
        "x": device.array(x),
        "y": y,
        "scratch": ml.threadgroup_memory(32 * 4),
        "more": ml.threadgroup_memory(4),
    }
    for given in (args, [args[name] for name in ("x", "y", "scratch", "more")]):
        y.copy_from(np.zeros(96))
        run(device, library.kernel("rotate_left"), given, threadgroups=3, threadgroup=32)
        np.testing.assert_array_equal(y.numpy(), np.roll(x.reshape(3, 32), -1, axis=1).ravel())


@pytest.mark.parametrize(
    "memory, says",
    [
        (None, "not bound"),
        (64, "threadgroup_memory(bytes)"),
        (b"0123", "threadgroup_memory(bytes)"),
        (ml.threadgroup_memory(1), "needs at least 4"),
        (ml.threadgroup_memory(32 << 10), "needs at most 32768 in all"),
        (ml.threadgroup_memory(1 << 60), "needs at most 32768 in all"),
        (ml.threadgroup_memory((1 << 64) - 1), "needs at most 32768 in all"),
    ],
)
def test_threadgroup_memory_is_checked(device, library, memory, says):
    x = device.zeros(32, "int32")
    with device.commands() as cmd:
        with pytest.raises(ml.ValidationError) as raised:
            cmd.dispatch(
                library.kernel("rotate_left"),
                threads=32,
                threadgroup=32,
                args=[x, x, memory, ml.threadgroup_memory(16)],
            )
        assert says in str(raised.value) and "scratch" in str(raised.value), raised.value
        with pytest.raises(ml.ValidationError, match=r"scratch.*needs metalloid\.threadgroup_memory"):
            cmd.dispatch(library.kernel("rotate_left"), threads=32, threadgroup=32, args=[x, x, x, x])
        assert cmd.dispatch_count == 0


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "16", None, 1 << 64])
def test_threadgroup_memory_has_a_length(wrong):
    with pytest.raises(ml.ValidationError, match="threadgroup_memory"):
        ml.threadgroup_memory(wrong)


def other_device(device) -> ml.Device:
    return another_device(device)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"x": None}, "x (buffer 0) is not bound"),
        ({"x": "dtype float16"}, "x (buffer 0) is float16, needs float32"),
        ({"x": "dtype int32"}, "x (buffer 0) is int32, needs float32"),
        ({"params": "dtype float32"}, "params (buffer 2) is float32, needs uint8"),
        ({"x": "empty"}, "x (buffer 0) has 0 bytes, needs at least 4"),
        ({"params": "short"}, "params (buffer 2) has 8 bytes, needs at least 12 (one Params)"),
        ({"x": "odd"}, "x (buffer 0) starts 2 bytes into its allocation, needs a multiple of 4"),
        ({"y": "read-only"}, "y (buffer 1) is a read-only buffer"),
        ({"x": "elsewhere"}, "x (buffer 0) is on device"),
        ({"y": 1.0}, "y (buffer 1) is a value, needs a Buffer"),
        ({"y": np.zeros(4, np.float32)}, "y (buffer 1) is a value, needs a Buffer"),
        ({"x": ml.threadgroup_memory(16)}, "x (buffer 0) is threadgroup memory"),
        ({"x": "a text"}, "x (buffer 0) is 'a text'"),
        ({"x": 1e39}, "3.4e38"),
        ({"x": object()}, "needs a Buffer"),
        ({"x": 1j}, "needs a Buffer"),
        ({"x": []}, "needs a Buffer"),
        ({"x": {1: 2}}, "needs a Buffer"),
        ({"x": np.zeros(4)}, "x (buffer 0) is an array of float64, needs float32"),
        ({"x": np.zeros(4, ">f4")}, "x (buffer 0) is an array of >f4"),
        ({"x": np.array("2024-01-01", "datetime64[D]")}, "datetime64"),
        ({"x": np.array([None, 1])}, "object"),
        ({"params": 7}, "params (buffer 2) is 7"),
        ({"params": (1, 2.0, (3, 4))}, "params (buffer 2) is (1, 2.0, (3, 4))"),
        ({"params": b"0123"}, "params (buffer 2) is a value of 4 bytes, needs 12 (one Params)"),
        ({"params": b""}, "params (buffer 2) is a value of 0 bytes"),
        ({"params": np.zeros((), [("n", np.uint32)])}, "dtype of 4 bytes, needs 12"),
        ({"params": np.zeros(3, np.float32)}, "params (buffer 2) is float32, needs a structured dtype"),
        ({"params": np.zeros(24, np.uint8)[::2]}, None),
        ({"nobody": 1}, 'no argument "nobody"'),
        ({7: 1}, "7"),
    ],
)
def test_arguments_are_checked(device, library, x, y, change, says):
    special = {
        "dtype float16": lambda: device.zeros(100, "float16"),
        "dtype int32": lambda: device.zeros(100, "int32"),
        "dtype float32": lambda: device.zeros(100),
        "empty": lambda: device.empty(0),
        "short": lambda: device.zeros(8, "uint8"),
        "odd": lambda: ml.reinterpret(device.zeros(100, "uint16")[1:]),
        "read-only": lambda: device.wrap(readonly_pages()),
        "elsewhere": lambda: other_device(device).zeros(100),
    }
    change = {k: special.get(v, lambda v=v: v)() if isinstance(v, str) else v for k, v in change.items()}
    args = {"x": x, "y": y, "params": params(100, 2.0), **change}
    with device.commands() as cmd:
        if says is None:
            cmd.dispatch(library.kernel("scale"), threads=100, threadgroup=32, args=args)
            return
        with pytest.raises(ml.ValidationError) as raised:
            cmd.dispatch(library.kernel("scale"), threads=100, threadgroup=32, args=args)
        # Metal does not tell what the source calls a type.
        said = says.replace("Params", "struct") if device.name == "metal" else says
        assert said in str(raised.value), raised.value
        assert "dispatch of scale" in str(raised.value)
        assert cmd.dispatch_count == 0
    assert not y.numpy().any()


def readonly_pages() -> np.ndarray:
    pages = page_aligned(1024, np.float32)
    pages.flags.writeable = False
    return pages


def test_a_read_only_buffer_may_be_read(device, library, y):
    run(
        device,
        library.kernel("scale"),
        [device.wrap(readonly_pages()), y, params(9, 1.0)],
        threads=9,
        threadgroup=9,
    )


@pytest.mark.parametrize("args", [[], [1], [None] * 4, [None] * 100, (1, 2)])
def test_the_number_of_arguments_is_checked(device, library, args):
    with pytest.raises(ml.ValidationError, match=r"needs 3 \(x, y, params\)"):
        device.commands().dispatch(library.kernel("scale"), threads=1, threadgroup=1, args=args)


@pytest.mark.parametrize("args", [7, "xyz", None, np.zeros(3), iter([])])
def test_arguments_come_as_a_list_or_dict(device, library, args):
    with pytest.raises(ml.ValidationError, match="args"):
        device.commands().dispatch(library.kernel("scale"), threads=1, threadgroup=1, args=args)


def test_a_buffer_is_not_a_list_of_arguments(device, library, x):
    with pytest.raises(ml.ValidationError, match="args"):
        device.commands().dispatch(library.kernel("scale"), threads=1, threadgroup=1, args=x)


def test_a_kernel_of_another_device(device, library, x, y):
    with pytest.raises(ml.ValidationError, match="needs one of the encoder's device"):
        other_device(device).commands().dispatch(
            library.kernel("scale"), threads=1, threadgroup=1, args=[x, y, params()]
        )


def test_after_commit_nothing_more_is_taken(device, library, x, y):
    cmd = device.commands()
    cmd.commit()
    with pytest.raises(ml.Error, match="dispatch of scale"):
        cmd.dispatch(library.kernel("scale"), threads=1, threadgroup=1, args=[x, y, params()])


# --- numbers ------------------------------------------------------------------------------------


def limits(type_name) -> tuple[float, float]:
    numpy_type = np.dtype(TYPES[type_name][0])
    if numpy_type == np.bool_:
        return 0, 1
    info = ml_dtypes.finfo(numpy_type) if numpy_type.kind in "fV" else np.iinfo(numpy_type)
    convert = float if numpy_type.kind in "fV" else int
    return convert(info.min), convert(info.max)


@pytest.mark.parametrize("type_name", TYPES)
def test_a_number_becomes_the_type_of_the_argument(device, stores, type_name):
    numpy_type, dtype = TYPES[type_name]
    low, high = limits(type_name)
    y = device.zeros(1, dtype)
    given = [0, 1, True, np.int8(1), np.uint64(1), np.array(1), low, high, numpy_type(1)]
    if numpy_type != np.bool_ and np.dtype(numpy_type).kind in "fV":
        given += [
            0.5,
            -1.5,
            np.float64(0.25),
            np.float16(2),
            ml_dtypes.bfloat16(3),
            float("inf"),
            float("-inf"),
            1e-3,
        ]
    for number in given:
        run(device, stores.kernel(f"store_{type_name}"), [y, number], threads=1, threadgroup=1)
        expected = np.array(number).astype(numpy_type)
        np.testing.assert_array_equal(y.numpy()[0], expected, err_msg=repr(number))


@pytest.mark.parametrize("type_name", TYPES)
def test_a_number_out_of_range_is_refused(device, stores, type_name):
    numpy_type, dtype = TYPES[type_name]
    low, high = limits(type_name)
    y = device.zeros(1, dtype)
    real = np.dtype(numpy_type).kind in "fV" and numpy_type != np.bool_
    wrong = (
        [low * 1.01, high * 1.01]
        if real
        else [low - 1, high + 1, 0.5, np.float32(1), float("nan"), 1 << 200, -(1 << 200)]
    )
    if not real and high < 1 << 62:
        wrong += [np.int64(high + 1), np.array(high + 1)]
    for number in wrong:
        with pytest.raises(ml.ValidationError, match=r"x \(buffer 1\)"):
            device.commands().dispatch(
                stores.kernel(f"store_{type_name}"), threads=1, threadgroup=1, args=[y, number]
            )


@pytest.mark.parametrize("type_name", ["half", "bfloat", "float"])
def test_numbers_are_rounded_as_numpy_does(device, stores, rng, type_name):
    numpy_type, dtype = TYPES[type_name]
    _, high = limits(type_name)
    numbers = np.concatenate(
        [
            rng.standard_normal(20),
            rng.standard_normal(20) * 2.0 ** rng.integers(-160, 15, 20),
            [
                0.0,
                -0.0,
                1e-50,
                high,
                2.0**-24,
                2.0**-25,
                3 * 2.0**-25,
                2.0**-133,
                1 + 2.0**-11,
                1 + 3 * 2.0**-11,
                1 + 2.0**-8,
            ],
        ]
    )
    y = device.zeros(len(numbers), dtype)
    with device.commands() as cmd:
        for i, number in enumerate(numbers):
            cmd.dispatch(
                stores.kernel(f"store_{type_name}"),
                threads=1,
                threadgroup=1,
                args=[y[i : i + 1], float(number)],
            )
    # bfloat16 arrays are made of float32, which would round twice.
    expected = numbers.astype(numpy_type)
    got = y.numpy()
    same = got == expected
    if type_name == "bfloat":
        same |= np.abs(got.astype(float) - numbers) <= np.abs(expected.astype(float) - numbers)
    assert same.all(), (numbers[~same], got[~same], expected[~same])
    np.testing.assert_array_equal(np.signbit(got.astype(float)), np.signbit(numbers))


@pytest.mark.parametrize("type_name", TYPES)
def test_vectors_of_three_take_the_space_of_four(device, stores, type_name):
    numpy_type, dtype = TYPES[type_name]
    y = device.zeros(4, dtype)
    for vector in ([1, 0, 1], (True, False, True), np.array([1, 0, 1]).astype(numpy_type)):
        y.copy_from(np.zeros(4))
        run(device, stores.kernel(f"store_{type_name}3"), [y, vector], threads=1, threadgroup=1)
        np.testing.assert_array_equal(y.numpy()[:3].astype(float), [1, 0, 1])
    for wrong in ([1, 0], 1, [1, 0, 1, 0], [[1, 0], 1, 1, 1], [1, "0", 1], np.zeros(4, numpy_type)):
        with pytest.raises(ml.ValidationError, match=r"x \(buffer 1\)"):
            device.commands().dispatch(
                stores.kernel(f"store_{type_name}3"), threads=1, threadgroup=1, args=[y, wrong]
            )


def test_a_conversion_that_meddles_with_the_arguments(device, library, x, y):
    """Whatever a value's own code does to the list it is in, the arguments stay those of the call."""
    args = [x, y, None]

    class Meddler:
        shape = ()

        @property
        def dtype(self):
            args.clear()
            raise RuntimeError("no dtype")

    args[2] = Meddler()
    with pytest.raises((RuntimeError, ml.ValidationError)):
        device.commands().dispatch(library.kernel("scale"), threads=1, threadgroup=1, args=args)


# --- cost ---------------------------------------------------------------------------------------


def test_a_dispatch_costs_little():
    """The aim is 500 ns on a machine of its own; this is to notice when it has become something else."""
    dev = open_device("cpu")
    buffers = ", ".join(f"device float* {name} [[buffer({i})]]" for i, name in enumerate("abcd"))
    kernel = dev.compile(f"kernel void k({buffers}) {{ a[0] = b[0] + c[0] + d[0]; }}").kernel("k")
    args = [[dev.zeros(64) for _ in range(4)] for _ in range(4)]

    def cost() -> float:
        cmd, count = dev.commands(), 2000
        cmd.dispatch(kernel, threads=1, threadgroup=1, args=args[0])
        start = time.perf_counter()
        for i in range(count):
            cmd.dispatch(kernel, threads=1, threadgroup=1, args=args[i & 3])
        return (time.perf_counter() - start) / count

    assert statistics.median(sorted(cost() for _ in range(9))[:5]) < 3e-6


# --- fuzz ---------------------------------------------------------------------------------------

FUZZED = """#include <metal_stdlib>
using namespace metal;
struct Params { uint n; uint start; };
// Copies n elements from x[start...] to y, through threadgroup memory, and counts them.
kernel void copy(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                 constant Params& params [[buffer(2)]], device atomic_uint* count [[buffer(3)]],
                 threadgroup float* scratch [[threadgroup(0)]], uint i [[thread_position_in_grid]],
                 uint lane [[thread_index_in_threadgroup]]) {
  if (i >= params.n) return;
  scratch[lane] = x[params.start + i];
  y[i] = scratch[lane];
  atomic_fetch_add_explicit(count, 1u, memory_order_relaxed);
}
"""


class Fuzz:
    """Random dispatches of one checked kernel on views of the same memory, with what they ought to do."""

    WHOLE = 4096
    EDGES = (0, 1, 31, 32, 33, 255, 1024, 1025, 2**31 - 1, 2**32 - 1, 2**32, 2**64 - 1, 2**64, -1)

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.dev = open_device("simt")
        self.kernel = self.dev.compile(FUZZED, name="fuzz.metal").kernel("copy")
        self.x = self.dev.array(rng.standard_normal(self.WHOLE).astype(np.float32))
        self.y = self.dev.zeros(self.WHOLE)
        self.count = self.dev.zeros(4, "uint32")
        self.expected = {b: b.numpy().copy() for b in (self.x, self.y)}
        spare = self.dev.zeros(16)
        self.rubbish = [
            *(None, 7, -1.5, "text", b"bytes", b"01234567", [], [1, 2], object(), 1 << 80, float("nan"), {}),
            *(np.zeros(3), np.zeros(2, np.float32), np.zeros(5000, np.float32), np.float32(1)),
            *(ml.threadgroup_memory(64), ml.threadgroup_memory(1 << 40)),
            *(
                ml.Device("cpu").zeros(64),
                self.dev.empty(0),
                self.dev.zeros(40, "uint8"),
                self.x.view("int32"),
            ),
            *(ml.reinterpret(spare.view(t)[a:b]) for t, a, b in (("uint16", 1, 31), ("uint8", 4, 8))),
        ]

    def integer(self, end: int) -> int:
        return int(self.rng.integers(0, end))

    def often(self, probability: float) -> bool:
        return self.rng.random() < probability

    def view(self, buffer: ml.Buffer) -> ml.Buffer:
        begin, end = sorted(int(i) for i in self.rng.integers(0, self.WHOLE + 1, 2))
        return buffer[begin : min(self.WHOLE, begin + self.integer(200)) if self.often(0.7) else end]

    def size(self) -> object:
        """A grid or threadgroup of any kind, but none that is valid and takes for ever."""
        sides = [self.integer(300) if self.often(0.85) else self.EDGES[self.integer(len(self.EDGES))]]
        sides += [
            self.integer(6) if self.often(0.9) else self.EDGES[self.integer(len(self.EDGES))] for _ in "yz"
        ]
        sides = sides[: self.integer(4)]
        if np.prod(np.array(sides, object)) > 2000 and all(0 <= side < 1 << 32 for side in sides):
            return 300
        return sides[0] if len(sides) == 1 else tuple(sides)

    def step(self) -> str:
        """One dispatch; what became of it."""
        x, y = self.view(self.x), self.view(self.y)
        n, start = self.integer(250), self.integer(60) if self.often(0.5) else 0
        group = 1 + self.integer(128)
        memory = group * 4 if self.often(0.9) else 1 + self.integer(512)
        params = np.array([n, start], np.uint32).tobytes()
        args = [x, y, params, self.count, ml.threadgroup_memory(memory)]
        grid = {"threads": self.integer(300), "threadgroup": group}
        wild = self.often(0.4)
        for _ in range(1 + self.integer(2) if wild else 0):
            match self.integer(5):
                case 0 if args:
                    args[self.integer(len(args))] = self.rubbish[self.integer(len(self.rubbish))]
                case 1:
                    grid["threadgroup"] = self.size()
                case 2:
                    grid = {
                        ("threads", "threadgroups", "grid")[self.integer(3)]: self.size(),
                        "threadgroup": group,
                    }
                case 3:
                    args = args[: self.integer(len(args) + 1)]
                case 4:
                    args.insert(self.integer(len(args) + 1), self.rubbish[self.integer(len(self.rubbish))])
        cmd = self.dev.commands()
        try:
            cmd.dispatch(self.kernel, **grid, args=args)
        except ml.ValidationError:
            assert cmd.dispatch_count == 0
            return "refused"
        before = int(self.count.numpy()[0])
        cmd.commit()
        try:
            cmd.wait()
        except ml.KernelFault as fault:
            assert fault.kernel == "copy" and fault.kind and fault.variable, fault
            self.restore()
            return "fault"
        if wild:
            self.restore()
            return "ran wild"
        done = min(n, grid["threads"])
        assert done == 0 or (start + done <= x.size and done <= y.size), "out of bounds and no fault"
        assert min(done, group) * 4 <= -(-memory // 16) * 16, "too little scratch and no fault"
        if done:
            begin, of = y.offset // 4, x.offset // 4 + start
            self.expected[self.y][begin : begin + done] = self.expected[self.x][of : of + done]
        assert int(self.count.numpy()[0]) == before + done
        return "ran"

    def restore(self) -> None:
        """Nobody knows what the kernel wrote, but it cannot have been x."""
        floats = (ctypes.c_float * self.WHOLE).from_address(self.x.address)
        np.testing.assert_array_equal(np.frombuffer(floats, np.float32), self.expected[self.x])
        for buffer, expected in self.expected.items():
            buffer.copy_from(expected)
        self.count.copy_from(np.zeros(4))

    def verify(self) -> None:
        for buffer, expected in self.expected.items():
            np.testing.assert_array_equal(buffer.numpy(), expected)


@pytest.mark.skipif("simt" not in ml.devices(), reason="no checked device")
def test_ten_thousand_random_dispatches(rng):
    """Each is refused, found faulty, or does exactly what it ought to, and none breaks the next one."""
    fuzz = Fuzz(rng)
    seen = collections.Counter()
    for _ in range(100):
        seen.update(fuzz.step() for _ in range(100))
        fuzz.verify()
    assert all(seen[outcome] > 200 for outcome in ("ran", "refused", "fault")), seen
