from __future__ import annotations

import gc
import weakref

import metalloid as ml
import numpy as np
import pytest
from support import BF16, F16, F32, address, bits, slow
from test_device import ALL_DTYPES

over_dtypes = pytest.mark.parametrize("dtype", [np.dtype(t) for t in ALL_DTYPES.values()], ids=ALL_DTYPES)


def any_bits(rng, shape, dtype) -> np.ndarray:
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0, 256, int(np.prod(shape)) * dtype.itemsize, np.uint8).view(dtype).reshape(shape)


# --- making and reading -------------------------------------------------------------------------


@over_dtypes
@pytest.mark.parametrize(
    "shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (2, 1, 2, 1, 2, 1, 2, 1), (0,), (4, 0, 2)]
)
def test_an_array_comes_back(dev, rng, dtype, shape):
    a = any_bits(rng, shape, dtype)
    b = dev.array(a)
    assert (b.shape, b.ndim, b.size, b.nbytes, b.itemsize) == (a.shape, a.ndim, a.size, a.nbytes, a.itemsize)
    assert b.dtype.numpy == dtype
    assert b.device is dev or b.device.name == dev.name
    assert b.offset == 0
    assert b.readonly is False
    back = np.asarray(b)
    assert back.dtype == dtype and back.shape == a.shape
    np.testing.assert_array_equal(bits(back), bits(a))


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a[::2, ::3],
        lambda a: a.T,
        lambda a: a[::-1, ::-1],
        lambda a: np.broadcast_to(a[:1], (9, a.shape[1])),
        lambda a: np.asfortranarray(a),
    ],
)
def test_any_strides_are_copied(dev, rng, make):
    a = make(rng.standard_normal((8, 9)).astype(np.float32))
    np.testing.assert_array_equal(np.asarray(dev.array(a)), a)


def test_array_likes_are_copied(dev):
    assert dev.array([[1.5, 2.0], [3.0, 4.0]], dtype=ml.float32).tolist() == [[1.5, 2.0], [3.0, 4.0]]
    assert dev.array([1, 2, 3], dtype="int32").tolist() == [1, 2, 3]
    assert dev.array(b"abc").tolist() == [97, 98, 99]
    assert dev.array(memoryview(b"abc")).dtype == ml.uint8
    assert dev.array(range(4), dtype=np.uint16).tolist() == [0, 1, 2, 3]
    assert dev.array(np.float32(2.5)).item() == 2.5
    original = dev.array([1.0, 2.0], dtype=ml.float32)
    copy = dev.array(original)
    np.asarray(copy)[0] = 9
    assert original.tolist() == [1.0, 2.0]


def test_array_converts_on_request_only(dev, rng):
    a = rng.standard_normal(100)
    np.testing.assert_array_equal(np.asarray(dev.array(a, dtype=ml.bfloat16)), a.astype(BF16))
    np.testing.assert_array_equal(np.asarray(dev.array(a, dtype=np.float16)), a.astype(F16))
    with pytest.raises((ml.ValidationError, TypeError)) as raised:
        dev.array(a)
    assert "float64" in str(raised.value) and "float32" in str(raised.value)


def test_the_source_may_change_afterwards(dev):
    a = np.ones(10, np.float32)
    b = dev.array(a)
    a[:] = 2
    assert b.tolist() == [1.0] * 10


def test_tolist_item_len_repr(dev):
    b = dev.array(np.arange(6, dtype=np.int16).reshape(2, 3))
    assert b.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert len(b) == 2
    assert b[1][2].item() == 5
    assert dev.array(np.array(7, np.uint64)).item() == 7
    assert dev.array(np.array([True])).item() is True
    assert dev.array(np.array([1.5], BF16)).item() == 1.5
    assert dev.array(np.array([1.5, -2.0], BF16)).tolist() == [1.5, -2.0]
    with pytest.raises(ml.ValidationError):
        b.item()
    with pytest.raises(TypeError):
        len(dev.array(np.float32(1)))
    assert "int16" in repr(b) and "2, 3" in repr(b)


def test_copy_from(dev, rng):
    b = dev.empty((3, 4), ml.bfloat16)
    a = rng.standard_normal((4, 3)).astype(np.float32).T
    b.copy_from(a)
    np.testing.assert_array_equal(np.asarray(b), a.astype(BF16))
    other = dev.array(rng.standard_normal((3, 4)).astype(BF16))
    b.copy_from(other)
    np.testing.assert_array_equal(np.asarray(b), np.asarray(other))
    with pytest.raises(ml.ValidationError) as raised:
        b.copy_from(np.ones((4, 3)))
    assert "[4, 3]" in str(raised.value) or "(4, 3)" in str(raised.value)


# --- views --------------------------------------------------------------------------------------


def test_indices_and_slices_are_views(dev):
    a = np.arange(4 * 3 * 2, dtype=np.int32).reshape(4, 3, 2)
    b = dev.array(a)
    for index in (0, 3, -1, slice(1, 3), slice(None), slice(-2, None), slice(2, 2), slice(1, 99)):
        view = b[index]
        expected = a[index]
        assert view.shape == expected.shape
        assert view.tolist() == expected.tolist()
        assert view.size == 0 or view.address == b.address + address(expected) - address(a)
    assert b[1][2].tolist() == a[1][2].tolist()
    assert b[2].offset == 2 * 3 * 2 * 4
    b[1].copy_from(np.full((3, 2), 7))
    a[1] = 7
    assert b.tolist() == a.tolist()
    for bad in (4, -5):
        with pytest.raises(IndexError):
            b[bad]
    for bad in (slice(None, None, 2), slice(None, None, -1), "x", 1.0):
        with pytest.raises((ml.ValidationError, TypeError)):
            b[bad]
    assert [row.tolist() for row in b] == a.tolist()


def test_reshape_view_flatten(dev):
    a = np.arange(24, dtype=np.float32)
    b = dev.array(a)
    assert b.reshape(2, 12).tolist() == a.reshape(2, 12).tolist()
    assert b.reshape((2, 3, 4)).tolist() == a.reshape(2, 3, 4).tolist()
    assert b.reshape(4, -1).shape == (4, 6)
    assert b.reshape(2, 12).flatten().shape == (24,)
    assert b.reshape(2, 12).address == b.address
    assert b.view(ml.uint8).shape == (96,)
    assert b.reshape(2, 12).view(np.int16).tolist() == a.reshape(2, 12).view(np.int16).tolist()
    assert b[3:9].view("float16").view(ml.float32).tolist() == a[3:9].tolist()
    for refused in (
        lambda: b.reshape(5, 5),
        lambda: b.reshape(-1, -1),
        lambda: b.reshape(7, -1),
        lambda: b.view(ml.uint8)[:7].view(ml.float32),
    ):
        with pytest.raises(ml.ValidationError):
            refused()


def test_a_view_off_its_natural_alignment_is_refused(dev):
    """No kernel may read a float32 at byte 1, so there is no such view."""
    whole = dev.zeros(64, ml.uint8)
    with pytest.raises(ml.ValidationError) as raised:
        whole[1:33].view(ml.float32)
    assert "align" in str(raised.value) or "multiple" in str(raised.value)


def test_a_view_keeps_its_memory(dev):
    a = np.arange(1 << 16, dtype=np.float32)
    whole = dev.array(a)
    view = whole[100:200]
    host = np.asarray(whole[300:400])
    numpy_view = whole.numpy()[500:600]
    memory = memoryview(whole[700:800])
    del whole
    gc.collect()
    for _ in range(4):  # what would land in memory that was given back too early
        np.asarray(dev.empty(1 << 16))[...] = -1
    np.testing.assert_array_equal(np.asarray(view), a[100:200])
    np.testing.assert_array_equal(host, a[300:400])
    np.testing.assert_array_equal(numpy_view, a[500:600])
    assert memory.tolist() == a[700:800].tolist()
    host[...] = 5
    assert (host == 5).all()


def test_a_buffer_may_outlive_its_device_object():
    device = ml.Device()
    b = device.array(np.arange(5, dtype=np.float32))
    del device
    gc.collect()
    assert b.tolist() == [0, 1, 2, 3, 4]
    assert b.device.name in ml.devices()
    assert b.device.empty(3).shape == (3,)


# --- zero copy ----------------------------------------------------------------------------------


@over_dtypes
def test_numpy_shares_the_memory(dev, rng, dtype):
    a = any_bits(rng, (5, 7), dtype)
    b = dev.array(a)
    for host in (np.asarray(b), b.numpy(), np.asarray(b, dtype=dtype), np.array(b, copy=False)):
        assert host.dtype == dtype
        assert address(host) == b.address
        assert host.flags.writeable and host.flags.c_contiguous
    host = np.asarray(b[2:4])
    assert address(host) == b.address + 2 * 7 * dtype.itemsize
    host[...] = np.zeros(1, dtype)
    assert not bits(np.asarray(b))[2:4].any()
    copy = np.array(b)
    assert address(copy) != b.address
    np.testing.assert_array_equal(bits(copy), bits(np.asarray(b)))


def test_asarray_with_another_type_copies(dev):
    b = dev.array(np.arange(4, dtype=np.float32))
    assert np.asarray(b, dtype=np.float64).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError):
        np.array(b, dtype=np.float64, copy=False)


def test_array_interface(dev):
    b = dev.array(np.arange(6, dtype=np.float32).reshape(2, 3))
    interface = b.__array_interface__
    assert interface["data"] == (b.address, False)
    assert tuple(interface["shape"]) == (2, 3)
    assert interface["typestr"] == "<f4"
    assert interface["version"] == 3


@over_dtypes
def test_memoryview(dev, rng, dtype):
    a = any_bits(rng, (3, 4), dtype)
    b = dev.array(a)
    if dtype == BF16:
        with pytest.raises(BufferError) as raised:
            memoryview(b)
        assert "bfloat16" in str(raised.value)
        return
    m = memoryview(b)
    assert (m.shape, m.strides, m.itemsize, m.nbytes) == (a.shape, a.strides, a.itemsize, a.nbytes)
    assert m.c_contiguous and not m.readonly
    assert np.dtype(m.format) == dtype
    assert address(np.asarray(m)) == b.address
    assert bytes(m) == a.tobytes()
    assert m.tobytes() == a.tobytes()


def test_the_buffer_protocol_writes_through(dev):
    b = dev.zeros(8, ml.uint8)
    memoryview(b)[2:5] = b"abc"
    assert bytes(b) == b"\0\0abc\0\0\0"
    np.frombuffer(b, np.uint8)[0] = 1
    assert b[0].item() == 1


@over_dtypes
def test_dlpack(dev, rng, dtype):
    """With NumPy as the consumer; tensors of PyTorch, which has bfloat16, are in test_parity.py."""
    b = dev.array(any_bits(rng, (3, 5), dtype))
    assert b.__dlpack_device__() == (1, 0)  # kDLCPU
    if dtype == BF16:
        with pytest.raises((BufferError, RuntimeError, TypeError, ValueError)):
            np.from_dlpack(b)
        return
    for part in (b, b[1:]):
        host = np.from_dlpack(part)
        assert host.dtype == dtype and host.shape == part.shape
        assert address(host) == part.address
    del b, part
    gc.collect()
    assert host.shape == (2, 5) and bits(host).size == 10


def test_dlpack_copies_on_request(dev):
    b = dev.zeros(4)
    copy = np.from_dlpack(b, copy=True)
    assert address(copy) != b.address
    copy[...] = 1
    assert b.tolist() == [0.0] * 4


def test_readers_wait_for_committed_work(dev):
    readers = {
        "asarray": lambda b: np.asarray(b).min(),
        "numpy": lambda b: b.numpy().min(),
        "memoryview": lambda b: np.asarray(memoryview(b)).min(),
        "tolist": lambda b: min(b.flatten()[:4].tolist()),
        "item": lambda b: b[0][0].item(),
        "dlpack": lambda b: np.from_dlpack(b).min(),
        "array": lambda b: np.asarray(dev.array(b)).min(),
        "view": lambda b: np.asarray(b[3:]).min(),
    }
    x = dev.array(np.full((64, 64), 3, np.float32))
    for name, read in readers.items():
        y = dev.zeros((64, 64))
        cmd = slow(dev, 0.1)
        ml.ops.rms_norm(cmd, x, out=y)
        cmd.commit()
        assert read(y) == pytest.approx(1, rel=1e-5), name
        assert cmd.status == "completed", name


def test_writers_wait_for_committed_work(dev):
    x = dev.array(np.ones((64, 64), np.float32))
    cmd = slow(dev, 0.1)
    y = ml.ops.rms_norm(cmd, x)
    cmd.commit()
    x.copy_from(np.full((64, 64), np.nan))
    assert cmd.status == "completed"
    np.testing.assert_allclose(np.asarray(y), 1, rtol=1e-5)


def test_a_buffer_takes_a_weak_reference_and_dies(dev):
    b = dev.empty(4)
    try:
        reference = weakref.ref(b)
    except TypeError:
        pytest.skip("buffers take no weak references")
    del b
    gc.collect()
    assert reference() is None


def test_buffers_need_a_device():
    with pytest.raises(TypeError):
        ml.Buffer()


def test_element_types_of_results(dev):
    x = dev.array(np.ones((2, 4), F32))
    with dev.commands() as cmd:
        assert ml.ops.rms_norm(cmd, x).dtype == ml.float32
