"""What the tests share: types, rounding bounds and guarded memory."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import subprocess
import sys
import textwrap

import metalloid as ml
import ml_dtypes
import numpy as np
import pytest
from metalloid import _jit

F32, F16, BF16 = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
FLOATS = (F32, F16, BF16)
U = 2.0**-24  # half a unit in the last place of 1.0f: one rounding of f32 is off by at most U times the value

# Metal compiles by itself; its software needs a compiler of the machine.
needs_compiler = pytest.mark.skipif(
    "metal" not in ml.devices() and not _jit.find_toolchain().compiler,
    reason="no compiler for shaders: " + _jit.find_toolchain().missing,
)

# Of settings that only the software has.
needs_software = pytest.mark.skipif("metal" in ml.devices(), reason="Metal is what the machine has")

_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def open_device(name: str) -> ml.Device:
    """The device; the test is skipped where the machine has none."""
    if name not in ml.devices():
        pytest.skip(f"this machine has no device {name}")
    return ml.Device(name)


@functools.cache
def may_lack_kernels() -> bool:
    """Whether there may be kernels that the default device cannot run.

    SIMD-group matrices and reductions are of Apple7, which every Mac's GPU has and that of a virtual machine
    has not. On any other device a kernel without a pipeline is a failure.
    """
    dev = ml.Device()
    family = int((dev.gpu_family or "apple0").removeprefix("apple"))
    of_machine = dev.name == "metal" and not os.environ.get("METALLOID_IMITATE_MAC")
    return bool(os.environ.get("METALLOID_NO_PIPELINE")) or (of_machine and family < 7)


def skip_if_lacking(said: object) -> None:
    """Skips the test if `said`, an error or what a failing program wrote, is of a kernel the device lacks."""
    lines = [line for line in str(said).splitlines() if ": no pipeline: " in line]
    if lines and may_lack_kernels():
        pytest.skip(f"the device cannot run it: {lines[0]}")


def another_device(dev: ml.Device) -> ml.Device:
    for name in ml.devices():
        if name != dev.name:
            return ml.Device(name)
    pytest.skip(f"this machine has no device but {dev.name}")


def bits(a: np.ndarray) -> np.ndarray:
    """The elements of a as unsigned integers, so that NaN payloads and the sign of zero count."""
    return np.ascontiguousarray(a).view(_BITS[a.dtype.itemsize])


def ulp(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The distance between neighbours of dtype around x (float64), subnormals included."""
    info = ml_dtypes.finfo(dtype)
    exponent = np.frexp(np.abs(x))[1] - 1
    return np.exp2(np.maximum(exponent, info.minexp) - info.nmant)


def assert_close(got, reference: np.ndarray, error, what: str = "result") -> None:
    """Every element is the reference, computed in f32 and rounded once to the type of got.

    error bounds what the f32 arithmetic may be off by before the store. The store rounds to nearest, so it
    adds at most half a unit in the last place, taken where the value is largest: |reference| + error may lie
    in the next binade. NaN must meet NaN and infinity the same infinity; a finite reference may come out
    infinite only if it rounds past the largest value of the type.
    """
    got = np.asarray(got)
    assert got.shape == reference.shape, f"{what}: shape {got.shape}, reference {reference.shape}"
    value = got.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(np.isfinite(reference), np.broadcast_to(error, reference.shape), 0.0)
        largest = np.abs(reference) + error
        tolerance = error + 0.5 * ulp(np.where(np.isfinite(largest), largest, 0.0), got.dtype)
        limit = float(ml_dtypes.finfo(got.dtype).max)
        overflows = largest >= limit + 0.5 * ulp(np.float64(limit), got.dtype)
        good = np.abs(value - reference) <= tolerance
        good |= overflows & np.isinf(value) & (np.sign(value) == np.sign(reference))
        good |= np.isnan(reference) & np.isnan(value)
        good |= np.isinf(reference) & (value == reference)
    if good.all():
        return
    badness = np.nan_to_num(np.abs(value - reference) / tolerance, nan=np.inf)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(np.where(good, -1.0, badness)), got.shape))
    raise AssertionError(
        f"{what}: {np.count_nonzero(~good)} of {good.size} elements are off; worst at {worst}: "
        f"got {value[worst]!r}, reference {reference[worst]!r}, tolerance {tolerance[worst]:.3g}"
    )


def poisoned(dev: ml.Device, shape, dtype) -> ml.Buffer:
    """A buffer full of NaN, so that an element nobody writes shows."""
    buffer = dev.empty(shape, dtype)
    np.asarray(buffer)[...] = np.nan
    return buffer


class Guarded:
    """An array at an odd place of a larger buffer, with known bytes before and after it.

    The view starts `lead` elements in, so a 2-byte type at lead 1 has no more than 2-byte alignment.
    """

    FILL = 0xA5

    def __init__(self, dev: ml.Device, array: np.ndarray, lead: int = 1, tail: int = 37) -> None:
        self.lead, self.size = lead, array.size
        self.whole = dev.empty(lead + array.size + tail, array.dtype)
        np.asarray(self.whole).view(np.uint8)[...] = self.FILL
        self.view = self.whole[lead : lead + array.size].reshape(array.shape)
        np.asarray(self.view)[...] = array

    def assert_guards_intact(self, what: str) -> None:
        data = np.asarray(self.whole)
        for name, part in (("before", data[: self.lead]), ("after", data[self.lead + self.size :])):
            assert (part.view(np.uint8) == self.FILL).all(), f"{what}: wrote {name} its memory"


def page_aligned(shape, dtype) -> np.ndarray:
    """A NumPy array of zeros on anonymous pages of its own."""
    count = int(np.prod(shape))
    pages = mmap.mmap(-1, max(1, count * np.dtype(dtype).itemsize))
    return np.frombuffer(pages, np.uint8)[: count * np.dtype(dtype).itemsize].view(dtype).reshape(shape)


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


def run_python(code: str, *, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess:
    """Runs code to its end in a fresh interpreter, which may import this module."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        skip_if_lacking(done.stderr)
    return done


def slow(dev: ml.Device, seconds: float) -> ml.CommandEncoder:
    """An encoder with about that much work in it, not committed yet."""
    x, y = dev.zeros((2048, 4096)), dev.empty((2048, 4096))

    def encoded(times: int) -> ml.CommandEncoder:
        cmd = dev.commands()
        for _ in range(times):
            ml.ops.rms_norm(cmd, x, out=y)
        return cmd

    each = []
    for _ in range(3):  # the first one also pays for fresh pages
        cmd = encoded(5)
        cmd.commit_and_wait()
        each.append(cmd.gpu_time / 5)
    return encoded(int(seconds / min(each)) + 1)


class Repeated:
    """More address space than memory: `count` elements on the same pages again and again, then `tail`.

    It lets an operation index far past 2^32 elements while it touches a few megabytes. Results that land on
    the repeated pages must not depend on which of their addresses is written last.
    """

    UNIT = 64 << 20

    def __init__(self, count: int, tail: int, dtype) -> None:
        self.dtype = np.dtype(dtype)
        repeats = -(-count * self.dtype.itemsize // self.UNIT)
        tail_bytes = -(-tail * self.dtype.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        self.length = repeats * self.UNIT + tail_bytes
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._libc = libc
        self.address = libc.mmap(None, self.length, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        assert self.address not in (None, ctypes.c_void_p(-1).value), os.strerror(ctypes.get_errno())
        fd = os.memfd_create("metalloid-test")
        try:
            os.ftruncate(fd, self.UNIT + tail_bytes)
            for i in range(repeats):
                self._map(fd, self.address + i * self.UNIT, self.UNIT, 0)
            self._map(fd, self.address + repeats * self.UNIT, tail_bytes, self.UNIT)
        finally:
            os.close(fd)
        memory = (ctypes.c_uint8 * self.length).from_address(self.address)
        self.array = np.frombuffer(memory, self.dtype)
        self.repeated = self.array[: self.UNIT // self.dtype.itemsize]
        self.tail_start = repeats * self.UNIT // self.dtype.itemsize
        self.tail = self.array[self.tail_start :]

    def _map(self, fd: int, address: int, length: int, offset: int) -> None:
        fixed = 0x10
        got = self._libc.mmap(
            address, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | fixed, fd, offset
        )
        assert got == address, os.strerror(ctypes.get_errno())

    def close(self) -> None:
        del self.array, self.repeated, self.tail
        self._libc.munmap(self.address, self.length)
