"""Memory of others, shared without a copy."""

from __future__ import annotations

import gc
import mmap
import weakref

import metalloid as ml
import numpy as np
import pytest
from metalloid import reference
from support import BF16, FLOATS, address, page_aligned, slow


class Producer:
    """Something that speaks DLPack and nothing else."""

    def __init__(self, a: np.ndarray) -> None:
        self.a = a

    def __dlpack__(self, **arguments):
        return self.a.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(64, 64), (5, 7), (1,)])
def test_an_array_is_shared(dev, dtype, shape):
    a = page_aligned(shape, dtype)
    b = dev.wrap(a)
    assert b.address == address(a)
    assert (b.shape, b.dtype.numpy, b.readonly) == (a.shape, a.dtype, False)
    assert address(np.asarray(b)) == address(a)
    a[...] = 3
    with dev.commands() as cmd:
        y = ml.ops.rms_norm(cmd, b.reshape(1, -1))
    np.testing.assert_allclose(np.asarray(y).astype(np.float32), 1, rtol=1e-5)
    with dev.commands() as cmd:
        ml.ops.rms_norm(cmd, b.reshape(1, -1), out=b.reshape(1, -1))
    np.testing.assert_allclose(a.astype(np.float32), 1, rtol=1e-5)


def test_a_mapping_is_shared(dev):
    pages = mmap.mmap(-1, 3 * mmap.PAGESIZE)
    b = dev.wrap(pages)
    assert b.dtype == ml.uint8
    assert b.shape == (3 * mmap.PAGESIZE,)
    np.asarray(b)[5] = 77
    assert pages[5] == 77


def test_a_dlpack_producer_is_shared(dev):
    a = page_aligned((32, 48), np.float32)
    b = dev.wrap(Producer(a))
    assert b.address == address(a)
    assert b.shape == (32, 48)
    np.asarray(b)[3, 4] = 6
    assert a[3, 4] == 6


def test_a_writable_memmap_reaches_the_file(dev, rng, tmp_path):
    file = tmp_path / "x.bin"
    x = rng.standard_normal((96, 128)).astype(np.float32)
    x.tofile(file)
    mapped = np.memmap(file, np.float32, mode="r+", shape=x.shape)
    b = dev.wrap(mapped)
    assert b.address == address(mapped)
    with dev.commands() as cmd:
        ml.ops.rms_norm(cmd, b, out=b)
    mapped.flush()
    expected = reference.rms_norm(x)
    np.testing.assert_allclose(np.fromfile(file, np.float32).reshape(x.shape), expected, rtol=1e-4, atol=1e-6)


def test_a_read_only_memmap_is_read_only(dev, rng, tmp_path):
    file = tmp_path / "x.bin"
    header = b"h" * mmap.PAGESIZE
    x = rng.standard_normal((10, 12)).astype(BF16)
    file.write_bytes(header + x.tobytes())
    b = dev.wrap(np.memmap(file, BF16, mode="r", offset=mmap.PAGESIZE, shape=x.shape))
    assert b.readonly
    assert not np.asarray(b).flags.writeable
    assert not b.numpy().flags.writeable
    assert b[2:].readonly
    assert memoryview(b.view(ml.uint16)).readonly
    with pytest.raises(ml.ValidationError):
        b.copy_from(x)
    with dev.commands() as cmd:
        y = ml.ops.rms_norm(cmd, b)
    assert np.isfinite(np.asarray(y).astype(np.float32)).all()
    assert file.read_bytes() == header + x.tobytes()


def misaligned():
    return page_aligned(8192, np.float32)[1:1025]


REFUSED = [
    ("misaligned", misaligned, ["aligned", str(mmap.PAGESIZE), "array()"]),
    ("strided", lambda: page_aligned((64, 64), np.float32)[:, ::2], ["contiguous", "array()"]),
    ("transposed", lambda: page_aligned((64, 32), np.float32).T, ["contiguous", "array()"]),
    ("float64", lambda: page_aligned(512, np.float64), ["float64"]),
    ("complex", lambda: page_aligned(512, np.complex64), ["complex64"]),
    ("big-endian", lambda: page_aligned(1024, ">f4"), [">f4"]),
    ("list", lambda: [1.0, 2.0], ["list"]),
    ("number", lambda: 3, ["int"]),
    ("empty", lambda: page_aligned(0, np.float32), ["0"]),
]


@pytest.mark.parametrize(("make", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_cannot_be_shared_is_refused(dev, make, words):
    before = dev.allocated_size
    with pytest.raises((ml.ValidationError, TypeError)) as raised:
        dev.wrap(make())
    message = str(raised.value)
    assert "wrap" in message, message
    for word in words:
        assert word in message, message
    assert dev.allocated_size == before


def test_a_wrapped_source_lives_as_long_as_the_buffer(dev):
    pages = mmap.mmap(-1, mmap.PAGESIZE)
    alive = weakref.ref(pages)
    a = np.frombuffer(pages, np.float32)
    del pages
    b = dev.wrap(a)
    view = b[3:9]
    del a, b
    gc.collect()
    assert alive() is not None
    np.asarray(view)[...] = 4
    assert view.tolist() == [4.0] * 6
    del view
    gc.collect()
    assert alive() is None


def test_a_wrapped_source_lives_as_long_as_the_work(dev):
    pages = mmap.mmap(-1, 16 * mmap.PAGESIZE)
    alive = weakref.ref(pages)
    x = dev.wrap(np.frombuffer(pages, np.float32).reshape(-1, 1024))
    del pages
    np.asarray(x)[...] = 2
    cmd = slow(dev, 0.3)
    y = ml.ops.rms_norm(cmd, x)
    cmd.commit()
    del x
    gc.collect()
    if cmd.status == "committed":
        assert alive() is not None
    cmd.wait()
    np.testing.assert_allclose(np.asarray(y), 1, rtol=1e-5)
    del cmd
    for _ in range(100):  # it is let go when the device notices, not at once
        gc.collect()
        dev.synchronize()
        dev.empty(1)
        if alive() is None:
            break
    assert alive() is None


def test_a_wrapped_buffer_counts_for_nothing_in_the_pool(dev):
    gc.collect()
    pooled = dev.pooled_size
    b = dev.wrap(page_aligned(1 << 20, np.float32))
    del b
    gc.collect()
    assert dev.pooled_size == pooled


def test_bytes_are_read_only(dev):
    """bytes are hardly ever page-aligned, and never writable: a copy is the way."""
    with pytest.raises(ml.ValidationError) as raised:
        dev.wrap(b"x" * 100)
    assert "array()" in str(raised.value)
