from __future__ import annotations

import gc
import re

import metalloid as ml
import ml_dtypes
import numpy as np
import pytest
from support import run_python

ALL_DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "uint64": np.uint64,
    "bool": np.bool_,
}


def dtype_object(name: str) -> ml.DType:
    return getattr(ml, "bool_" if name == "bool" else name)


# --- element types ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_DTYPES)
def test_dtype(dev, name):
    dtype, numpy_type = dtype_object(name), np.dtype(ALL_DTYPES[name])
    assert isinstance(dtype, ml.DType)
    assert dtype.name == name
    assert dtype.itemsize == numpy_type.itemsize
    assert dtype.numpy == numpy_type
    assert name in repr(dtype)
    assert dtype == dtype_object(name)
    assert hash(dtype) == hash(dtype_object(name))
    assert sum(dtype == dtype_object(other) for other in ALL_DTYPES) == 1
    for spelling in (dtype, numpy_type, ALL_DTYPES[name], name):
        assert dev.empty(2, spelling).dtype == dtype
        assert dev.zeros((2, 3), dtype=spelling).dtype == dtype


@pytest.mark.parametrize("bad", ["float64", np.float64, np.complex64, object, "S4", ">f4", "nonsense", 3])
def test_a_type_that_no_buffer_has_is_refused(dev, bad):
    with pytest.raises((ml.ValidationError, TypeError)) as raised:
        dev.empty(2, bad)
    assert "dtype" in str(raised.value)


# --- devices ------------------------------------------------------------------------------------


def test_devices_and_default():
    assert "cpu" in ml.devices() or "metal" in ml.devices()
    assert all(isinstance(ml.Device(name), ml.Device) for name in ml.devices())


def test_properties(dev):
    assert dev.name in ml.devices()
    assert dev.description and isinstance(dev.description, str)
    assert dev.max_buffer_length >= 1 << 30
    assert dev.max_threadgroup_memory_length >= 32 << 10
    assert len(dev.max_threads_per_threadgroup) == 3
    assert all(n >= 1 for n in dev.max_threads_per_threadgroup)
    assert dev.thread_execution_width == (1 if dev.name == "cpu" else 32)
    assert dev.has_unified_memory is True
    assert dev.shader_compiler
    assert dev.name in repr(dev)
    if dev.name == "cpu":
        assert dev.kernel_variant.startswith(("x86-64-v3", "x86-64-v4", "aarch64"))


def test_kernels_are_listed(dev):
    kernels = dev.kernels()
    assert kernels and all(isinstance(k, str) for k in kernels)
    assert len(set(kernels)) == len(kernels)
    for family in (
        "rms_norm",
        "fused_head_norm_rope",
        "vision_2d_rope",
        "im2col_2d",
        "gated_delta_net_chunk_o",
        "add",
        "mul",
        "silu_mul",
        "gelu_mul",
        "rope_neox",
    ):
        assert any(k.startswith(family) for k in kernels), family


def test_an_unknown_device_is_refused():
    with pytest.raises(ml.DeviceError) as raised:
        ml.Device("abacus")
    assert "abacus" in str(raised.value)
    assert all(name in str(raised.value) for name in ml.devices())


def test_the_environment_names_the_device():
    name = ml.devices()[-1]
    chosen = run_python("import metalloid as ml; print(ml.Device().name)", METALLOID_DEVICE=name)
    assert chosen.stdout == f"{name}\n", chosen.stderr
    explicit = run_python(
        f"import metalloid as ml; print(ml.Device({name!r}).name)", METALLOID_DEVICE="abacus"
    )
    assert explicit.stdout == f"{name}\n", explicit.stderr
    unknown = run_python(
        """
        import metalloid as ml
        try:
            ml.Device()
        except ml.DeviceError as e:
            print(e)
        """,
        METALLOID_DEVICE="abacus",
    )
    assert "abacus" in unknown.stdout, unknown.stderr
    assert "METALLOID_DEVICE" in unknown.stdout


def test_importing_loads_none_of_the_peers():
    loaded = run_python(
        "import sys, metalloid; print([m for m in ('torch', 'mlx', 'rich', 'typer') if m in sys.modules])"
    )
    assert loaded.stdout == "[]\n", loaded.stderr


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert ml.__version__ == version("metalloid")
    assert re.match(r"\d+\.\d+\.\d+", ml.__version__)


def test_loading_the_kernels_leaves_subnormals_alone():
    """A library linked with -ffast-math flushes subnormals to zero in the whole process."""
    checked = run_python(
        """
        import metalloid as ml, numpy as np
        dev = ml.Device()
        x = dev.array(np.full((256, 256), 1e-40, np.float32))
        with dev.commands() as cmd:
            ml.ops.rms_norm(cmd, x)
        print(float(np.float32(1e-40) * np.float32(0.5)) != 0)
        """
    )
    assert checked.stdout == "True\n", checked.stderr


# --- memory -------------------------------------------------------------------------------------


def test_memory_is_counted_and_pooled(dev):
    gc.collect()
    dev.synchronize()
    dev.empty_cache()
    assert dev.pooled_size == 0
    before = dev.allocated_size
    buffer = dev.empty(1 << 20)
    assert dev.allocated_size >= before + (4 << 20)
    del buffer
    gc.collect()
    assert dev.allocated_size == before
    assert dev.pooled_size >= 4 << 20
    dev.empty_cache()
    assert dev.pooled_size == 0


def test_a_freed_allocation_is_used_again(dev):
    dev.empty_cache()
    first = dev.empty((1000, 1000))
    where = first.address
    del first
    gc.collect()
    assert dev.empty((1000, 1000)).address == where


def test_a_thousand_allocations_keep_the_pool_small(dev, rng):
    sizes = rng.integers(1, 1 << 16, 50)
    held = dev.allocated_size

    def allocate_all():
        for n in sizes:
            dev.empty(int(n))

    allocate_all()
    gc.collect()
    pooled = dev.pooled_size
    for _ in range(20):
        allocate_all()
    gc.collect()
    assert dev.allocated_size == held
    assert dev.pooled_size == pooled


def test_memory_that_work_still_uses_is_not_handed_out(dev):
    """Buffers freed right after commit must not be reused before the work has read them."""
    dev.empty_cache()
    for value in range(20):
        x = dev.array(np.full((512, 1024), value + 1, np.float32))
        weight = dev.array(np.full(1024, value + 1, np.float32))
        cmd = dev.commands()
        y = ml.ops.rms_norm(cmd, x, weight)
        cmd.commit()
        del x, weight
        poison = [dev.empty((512, 1024)), dev.empty(1024)]
        for p in poison:
            np.asarray(p)[...] = np.nan
        np.testing.assert_allclose(np.asarray(y), value + 1, rtol=1e-5)


def test_an_allocation_beyond_the_limit_is_refused(dev):
    with pytest.raises(ml.Error) as raised:
        dev.empty(dev.max_buffer_length // 4 + (1 << 20))
    assert str(dev.max_buffer_length) in str(raised.value)
    for absurd in ((1 << 40, 1 << 40), (-1,), (3, -2)):
        with pytest.raises((ml.ValidationError, TypeError)):
            dev.empty(absurd)


def test_zeros_are_zero_in_memory_that_was_used(dev):
    dirty = dev.empty(5000)
    np.asarray(dirty)[...] = np.nan
    del dirty
    gc.collect()
    assert (np.asarray(dev.zeros(5000)) == 0).all()
