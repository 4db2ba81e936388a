"""What kernels compute where Metal leaves it open or does otherwise; docs/differences.md has the list."""

from __future__ import annotations

import platform
import signal

import metalloid as ml
import numpy as np
import pytest
from support import BF16, F16, F32, needs_compiler, open_device, run_python

pytestmark = needs_compiler

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"


@pytest.fixture(params=["cpu", "simt"])
def device(request) -> ml.Device:
    return open_device(request.param)


def mapped(device, body: str, result: str, *inputs: np.ndarray, fast_math: bool = True) -> np.ndarray:
    """y[i] = body, where the inputs are a, b, ... of their own types, one thread for each element."""
    names = {"float32": "float", "float16": "half", "bfloat16": "bfloat"}
    types = [names.get(str(a.dtype), str(a.dtype).replace("32", "")) for a in inputs]
    arguments = [
        f"device const {t}* {n} [[buffer({k})]]" for k, (t, n) in enumerate(zip(types, "abc", strict=False))
    ]
    text = (
        f"{HEAD}kernel void k({', '.join(arguments)}, device {result}* y [[buffer({len(inputs)})]], "
        f"uint i [[thread_position_in_grid]]) {{ y[i] = {body}; }}\n"
    )
    dtype = {"float": "float32", "half": "float16", "bfloat": "bfloat16", "int": "int32", "uint": "uint32"}
    y = device.zeros(inputs[0].size, dtype[result])
    kernel = device.compile(text, fast_math=fast_math).kernel("k")
    with device.commands() as cmd:
        cmd.dispatch(kernel, threads=y.size, threadgroup=32, args=[*map(device.array, inputs), y])
    return np.array(y)


def test_infinities_and_nan_survive_fast_math(device):
    x = np.float32([np.inf, -np.inf, np.nan, 1.0])
    np.testing.assert_array_equal(mapped(device, "a[i] - a[i]", "float", x), [np.nan, np.nan, np.nan, 0])
    np.testing.assert_array_equal(
        mapped(device, "isnan(a[i]) ? 1 : isinf(a[i]) ? 2 : 0", "int", x), [2, 2, 1, 0]
    )
    np.testing.assert_array_equal(
        mapped(device, "1.0f / a[i]", "float", np.float32([0.0, -0.0])), [np.inf, -np.inf]
    )
    np.testing.assert_array_equal(mapped(device, "a[i] * 2", "float", np.float32([3e38])), [np.inf])


def test_subnormal_numbers_are_kept(device):
    x = np.float32([1e-40, -1e-45, 3e-39, 1.2e-38])
    np.testing.assert_array_equal(mapped(device, "a[i] * 0.5f", "float", x), x * np.float32(0.5))
    np.testing.assert_array_equal(mapped(device, "a[i] + a[i]", "float", x), x + x)
    small = np.float16([6e-8, 3e-5])
    np.testing.assert_array_equal(mapped(device, "a[i] * half(1)", "half", small), small)
    np.testing.assert_array_equal(mapped(device, "half(a[i])", "half", small.astype(F32)), small)


@pytest.mark.parametrize(("metal", "dtype"), [("half", F16), ("bfloat", BF16)], ids=["half", "bfloat"])
def test_conversions_round_to_nearest_even(device, rng, metal, dtype):
    bits = rng.integers(0, 1 << 32, 1 << 14, dtype=np.uint64).astype(np.uint32)
    near = (
        rng.standard_normal(1 << 12).astype(dtype).astype(F32).view(np.uint32) + rng.integers(0, 2, 1 << 12)
    ).astype(np.uint32)
    ties = np.arange(0x3F80_0000, 0x3F84_0000, 0x800 if dtype == F16 else 0x4000, np.uint32)
    x = np.concatenate([bits, near, ties]).view(F32)
    x = x[~np.isnan(x)]
    with np.errstate(over="ignore"):
        expected = x.astype(dtype)
    got = mapped(device, f"{metal}(a[i])", metal, x)
    np.testing.assert_array_equal(got.view(np.uint16), expected.view(np.uint16))


def test_division_is_rounded_correctly_without_fast_math_and_nearly_with_it(device, rng):
    a, b = rng.standard_normal((2, 1 << 14)).astype(F32)
    exact = a.astype(np.float64) / b
    np.testing.assert_array_equal(
        mapped(device, "a[i] / b[i]", "float", a, b, fast_math=False), exact.astype(F32)
    )
    got = mapped(device, "a[i] / b[i]", "float", a, b).astype(np.float64)
    assert (
        np.abs(got - exact) / np.spacing(np.abs(exact).astype(F32))
    ).max() <= 2.5  # what Metal allows itself


def test_products_and_sums_are_fused_only_where_fma_says_so_without_fast_math(device):
    a, b, c = np.float32([[1 + 2.0**-12], [1 + 2.0**-12], [-(1 + 2.0**-11)]])
    assert mapped(device, "a[i] * b[i] + c[i]", "float", a, b, c, fast_math=False) == 0
    assert mapped(device, "fma(a[i], b[i], c[i])", "float", a, b, c, fast_math=False) == 2.0**-24


def test_a_language_version_is_a_number_and_forbids_nothing(device):
    text = HEAD + (
        "kernel void k(device int* y [[buffer(0)]]) { y[0] = __METAL_VERSION__ + int(bfloat(1.0f)); }\n"
    )
    for version, number in (("2.4", 240), ("3.0", 300), ("3.1", 310)):
        y = device.zeros(1, "int32")
        with device.commands() as cmd:
            kernel = device.compile(text, language_version=version).kernel("k")
            cmd.dispatch(kernel, threads=1, threadgroup=1, args=[y])
        assert y.item() == number + 1


def divided(device, dtype: str, expressions: list[str], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A row for each expression of a[i] and b[i], of type T; unchecked."""
    kind = {"int8": "char", "int16": "short", "int32": "int", "int64": "long"}[dtype.removeprefix("u")]
    rows = "".join(f"y[{row} * n + i] = {expression};" for row, expression in enumerate(expressions))
    text = f"""{HEAD}
        using T = {"u" * dtype.startswith("u")}{kind};
        kernel void k(device const T* a [[buffer(0)]], device const T* b [[buffer(1)]],
                      device T* y [[buffer(2)]], uint i [[thread_position_in_grid]],
                      uint n [[threads_per_grid]]) {{ {rows} }}"""
    y = device.zeros((len(expressions), a.size), dtype)
    before, device.check_mode = device.check_mode, "off"
    try:
        with device.commands() as cmd:
            args = [device.array(a), device.array(b), y]
            cmd.dispatch(device.compile(text).kernel("k"), threads=a.size, threadgroup=32, args=args)
    finally:
        device.check_mode = before
    return np.array(y)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_an_integer_division_by_zero_has_a_result(device, rng, dtype):
    """0 and the dividend as remainder, and of the least number by -1 itself and 0: as arm64 has it."""
    limits = np.iinfo(dtype)
    a = rng.integers(limits.min, limits.max, 1001, dtype, endpoint=True)
    b = rng.integers(limits.min, limits.max, 1001, dtype, endpoint=True)
    b[rng.random(1001) < 0.3] = 0
    if limits.min < 0:
        b[rng.random(1001) < 0.2] = -1
        a[(rng.random(1001) < 0.5) & (b == -1)] = limits.min
    a[(a == limits.min) & (b == 0)] = 7  # x86 does not tell the two apart
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    quotient = [0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in pairs]
    remainder = [x - y * q for (x, y), q in zip(pairs, quotient, strict=True)]
    wanted = {
        "a[i] / b[i]": quotient,
        "a[i] % b[i]": remainder,
        "(vec<T, 3>(a[i]) / b[i]).y": quotient,
        "a[i] - a[i] / b[i] * b[i]": remainder,
        "i % 2 ? a[i] / (i % 2 ? b[i] : T(0)) : a[i] / b[i]": quotient,
    }
    got = divided(device, dtype, list(wanted), a, b)
    for row, (expression, want) in zip(got, wanted.items(), strict=True):
        bits = np.array([v % 2**limits.bits for v in want], f"uint{limits.bits}")
        np.testing.assert_array_equal(row, bits.view(dtype), expression)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have a result for all")
def test_other_divisions_by_zero_go_to_who_handled_them(device):
    """Those of other code go to handlers that were there before kernels were loaded, and that came later."""
    code = """
        import ctypes, faulthandler, sys, metalloid as ml, numpy as np
        from test_differences import divided
        if {early}: faulthandler.enable()
        dev = ml.Device({name!r})
        def by_zero(): return divided(dev, "int32", ["a[i] / b[i]"], np.int32([7]), np.int32([0])).item()
        assert by_zero() == 0
        if {late}:
            faulthandler.enable()
            dev.compile("kernel void other(device int* y [[buffer(0)]]) {{ y[0] = 1; }}")
            assert by_zero() == 0
        print("before", flush=True)
        ctypes.CDLL(None).div(1, 0)
        """
    for early, late in ((False, False), (True, False), (False, True), (True, True)):
        done = run_python(code.format(name=device.name, early=early, late=late))
        assert done.stdout == "before\n", done.stderr
        assert done.returncode == -signal.SIGFPE
        assert ("Fatal Python error: Floating point exception" in done.stderr) == (early or late), done.stderr
