"""What Python sees of the faults that a checked device finds: the fields, the modes and the settings."""

from __future__ import annotations

import copy
import pickle
import threading
import time
import warnings

import metalloid as ml
import numpy as np
import pytest
from support import needs_compiler, open_device, run_python

pytestmark = [
    needs_compiler,
    pytest.mark.skipif("simt" not in ml.devices(), reason="no checked device"),
]

SOURCE = """#include <metal_stdlib>
using namespace metal;

kernel void copy_past(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                      uint i [[thread_position_in_grid]]) {
  y[i + 1] = x[i];  // one too far
}

kernel void copy(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                 uint i [[thread_position_in_grid]]) {
  y[i] = x[i];
}

kernel void race(device uint* y [[buffer(0)]], threadgroup uint* sum [[threadgroup(0)]],
                 uint i [[thread_position_in_grid]], uint lane [[thread_index_in_threadgroup]]) {
  if (lane == 0)
    sum[0] = i;  // the others
  threadgroup_barrier(mem_flags::mem_none);
  y[i] = sum[0];  // do not wait for it
}

kernel void two(device uint* y [[buffer(0)]], device uint* z [[buffer(1)]],
                uint i [[thread_position_in_grid]]) {
  y[0] = i;
  z[0] = i;
}

kernel void add_one(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) { y[i] += 1.0f; }

kernel void spin(device atomic_uint* flag [[buffer(0)]]) {
  while (atomic_load_explicit(flag, memory_order_relaxed) == 0u) {}
}

kernel void divide(device float* y [[buffer(0)]], uint i [[thread_position_in_grid]]) {
  y[i] = 1.0f / y[i];
}
"""


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(SOURCE.split("\n"), 1) if text in line)


@pytest.fixture(scope="module")
def simt() -> ml.Device:
    return open_device("simt")


@pytest.fixture(scope="module")
def library(simt) -> ml.Library:
    return simt.compile(SOURCE, name="faults.metal")


@pytest.fixture(autouse=True)
def as_before(simt):
    """Modes and settings are the process's, so every test puts them back."""
    before, mode = ml.check_settings(), simt.check_mode
    yield
    simt.check_mode = mode
    simt.clear_faults()
    ml.set_check_settings(
        enabled=before.enabled, non_finite=before.non_finite, seed=before.seed, time_limit=before.time_limit
    )


def run(dev, kernel, *args, threads=64) -> None:
    with dev.commands() as cmd:
        cmd.dispatch(kernel, threads=threads, threadgroup=32, args=args)


def fault_of(dev, kernel, *args, threads=64) -> ml.KernelFault:
    with pytest.raises(ml.KernelFault) as raised:
        run(dev, kernel, *args, threads=threads)
    return raised.value


@pytest.fixture
def x(simt):
    return simt.array(np.arange(64, dtype=np.float32))


@pytest.fixture
def y(simt):
    return simt.zeros(64)


# --- fields -------------------------------------------------------------------------------------


def test_the_device(simt):
    assert (simt.name, simt.checked, simt.check_mode, simt.thread_execution_width) == (
        "simt",
        True,
        "raise",
        32,
    )
    assert not ml.Device("cpu").checked


def test_the_fields_of_an_access(simt, library, x, y):
    fault = fault_of(simt, library.kernel("copy_past"), x, y)
    assert (fault.kind, fault.kernel, fault.variable) == ("out-of-bounds", "copy_past", "y")
    assert (fault.address_space, fault.offset, fault.element, fault.bytes) == ("device", 256, 64, 4)
    assert (fault.count, fault.seed, fault.fatal) == (1, 0, True)
    (side,) = fault.threads
    assert isinstance(side, ml.FaultThread)
    assert (side.threadgroup, side.simdgroup, side.lane, side.thread) == ((1, 0, 0), 0, 31, (31, 0, 0))
    assert (side.dispatch, side.action) == (0, "writes")
    assert (fault.file, fault.line) == ("faults.metal", line_of("one too far"))
    assert fault.code == "y[i + 1] = x[i];  // one too far"
    assert (fault.second_file, fault.second_line, fault.second_code) == ("", 0, "")
    assert fault.faults == (fault,)
    for part in (
        "out-of-bounds",
        "copy_past",
        "y",
        "256",
        "faults.metal",
        str(fault.line),
        fault.code,
        "SEED",
    ):
        assert part in str(fault), part
    assert fault.message and "\n" not in fault.message


def test_the_fields_of_two_sides(simt, library):
    y = simt.zeros(32, "uint32")
    fault = fault_of(simt, library.kernel("race"), y, ml.threadgroup_memory(4), threads=32)
    assert fault.kind in ("threadgroup-race", "barrier-flags")
    assert (fault.variable, fault.address_space, fault.element) == ("sum", "threadgroup", 0)
    assert len(fault.threads) == 2 and fault.threads[0].lane != fault.threads[1].lane
    lines = {line_of("the others"), line_of("do not wait")}
    assert {fault.line, fault.second_line} == lines
    assert {fault.code, fault.second_code} == {SOURCE.split("\n")[i - 1].strip() for i in lines}
    assert fault.file == fault.second_file == "faults.metal"
    assert fault.count == 31 and not fault.fatal


def test_all_faults_of_a_command_buffer(simt, library):
    y, z = simt.zeros(4, "uint32"), simt.zeros(4, "uint32")
    fault = fault_of(simt, library.kernel("two"), y, z, threads=32)
    assert fault.faults[0] is fault
    assert sorted(f.variable for f in fault.faults) == ["y", "z"]
    assert all(f.kind == "device-race" and f.line for f in fault.faults)
    assert all(str(f).count("device-race") == 1 for f in fault.faults[1:])


def test_the_dispatch_is_told(simt, library, x, y):
    with pytest.raises(ml.KernelFault) as raised, simt.commands() as cmd:
        for _ in range(3):
            cmd.dispatch(library.kernel("copy"), threads=64, threadgroup=32, args=[x, y])
        cmd.dispatch(library.kernel("copy_past"), threads=64, threadgroup=32, args=[x, y])
    assert raised.value.threads[0].dispatch == 3


def test_the_class():
    assert issubclass(ml.KernelFault, ml.Error) and not issubclass(ml.KernelFault, ml.DeviceError)
    assert issubclass(ml.KernelFaultWarning, UserWarning)
    made = ml.KernelFault("by hand")
    assert (made.kind, made.variable, made.line, made.count, made.threads, made.faults) == (
        "",
        "",
        0,
        1,
        (),
        (),
    )


def test_a_fault_can_be_copied_and_sent(simt, library, x, y):
    fault = fault_of(simt, library.kernel("copy_past"), x, y)
    for again in (pickle.loads(pickle.dumps(fault)), copy.copy(fault)):
        assert (str(again), again.kind, again.threads) == (str(fault), fault.kind, fault.threads)


# --- who hears of it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hear",
    [
        lambda cmd, y: cmd.wait(),
        lambda cmd, y: cmd.wait(timeout=60),
        lambda cmd, y: np.asarray(y),
        lambda cmd, y: y.numpy(),
        lambda cmd, y: y.tolist(),
        lambda cmd, y: np.from_dlpack(y),
        lambda cmd, y: y[3].item(),
    ],
    ids=["wait", "timeout", "asarray", "numpy", "tolist", "dlpack", "view"],
)
def test_waits_and_reads_raise(simt, library, x, y, hear):
    cmd = simt.commands()
    cmd.dispatch(library.kernel("copy_past"), threads=64, threadgroup=32, args=[x, y])
    cmd.commit()
    for _ in range(2):
        with pytest.raises(ml.KernelFault, match="copy_past"):
            hear(cmd, y)
    assert cmd.status == "error"


def test_a_memoryview_cannot_hide_it(simt, library, x, y):
    with pytest.raises(ml.KernelFault):
        run(simt, library.kernel("copy_past"), x, y)
    with pytest.raises((BufferError, ml.KernelFault), match="copy_past"):
        memoryview(y)


def test_everything_else_stays_usable(simt, library, x, y):
    other = simt.array(np.ones(64, np.float32))
    for _ in range(5):
        fault_of(simt, library.kernel("copy_past"), x, y)
        run(simt, library.kernel("copy"), other, y)
        np.testing.assert_array_equal(y.numpy(), 1)
        np.testing.assert_array_equal(other.numpy(), 1)
    y.copy_from(np.zeros(64))
    assert not y.numpy().any()


def test_nothing_beyond_the_view_is_written(simt, library, x):
    whole = simt.array(np.full(100, 7, np.float32))
    fault = fault_of(simt, library.kernel("copy_past"), x, whole[10:74])
    assert (fault.offset, fault.element) == (256, 64)
    whole.copy_from(np.full(100, 7))  # what it wrote before does not matter, only that this is possible
    run(simt, library.kernel("copy"), x, whole[10:74])
    assert (whole.numpy()[:10] == 7).all() and (whole.numpy()[74:] == 7).all()


def test_views_of_one_buffer_are_bound_by_their_own_ends(simt, library):
    whole = simt.array(np.arange(128, dtype=np.float32))
    with pytest.raises(ml.KernelFault) as raised, simt.commands() as cmd:
        cmd.dispatch(library.kernel("copy"), threads=64, threadgroup=32, args=[whole[:64], whole[64:]])
        cmd.dispatch(library.kernel("copy"), threads=64, threadgroup=32, args=[whole[:64], whole[64:96]])
    assert (raised.value.variable, raised.value.offset, raised.value.threads[0].dispatch) == ("y", 128, 1)


def test_threads_hear_of_their_own_work_only(simt, library, x):
    wrong: list[str] = []

    def work(kernel, fails):
        y = simt.zeros(64)
        for _ in range(10):
            try:
                run(simt, library.kernel(kernel), x, y)
                failed = False
            except ml.KernelFault as fault:
                failed = fault.kernel == kernel
            if failed != fails:
                wrong.append(kernel)
            y.copy_from(np.zeros(64))

    threads = [threading.Thread(target=work, args=a) for a in (("copy", False), ("copy_past", True)) * 2]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    # x is read by all, and copying from it is what failed last for some.
    assert wrong == []


# --- uninitialised memory -----------------------------------------------------------------------


def test_memory_that_nobody_wrote(simt, library, y):
    fault = fault_of(simt, library.kernel("copy"), simt.empty(64), y)
    assert (fault.kind, fault.variable, fault.line) == ("uninitialized-read", "x", line_of("y[i] = x[i];"))
    written = simt.empty(64)
    np.asarray(written)[...] = 3
    run(simt, library.kernel("copy"), written, y)
    assert (y.numpy() == 3).all()
    by_a_kernel = simt.empty(64)
    run(simt, library.kernel("copy"), written, by_a_kernel)
    run(simt, library.kernel("copy"), by_a_kernel, y)
    partly = simt.empty(64)
    partly[:40].copy_from(np.zeros(40))
    assert fault_of(simt, library.kernel("copy"), partly, y).element == 40


def test_memory_that_may_be_anything(simt, library, y):
    for _ in range(3):
        with pytest.raises(ml.KernelFault):  # the pool has its memory next
            run(simt, library.kernel("copy"), simt.empty(64), y)
        run(simt, library.kernel("copy"), simt.empty(64, checked=False), y)
    for made in (simt.zeros(64), simt.array(np.ones(64, np.float32)), simt.array([1.0] * 64)):
        run(simt, library.kernel("copy"), made, y)


def test_operations_are_checked_too(simt):
    with pytest.raises(ml.KernelFault) as raised, simt.commands() as cmd:
        ml.ops.rms_norm(cmd, simt.empty((4, 64)))
    assert (raised.value.kind, raised.value.kernel) == ("uninitialized-read", "rms_norm_f32")
    x = simt.array(np.full((4, 64), 3, np.float32))
    with simt.commands() as cmd:
        y = ml.ops.rms_norm(cmd, x)
        z = ml.ops.rms_norm(cmd, y)
    np.testing.assert_allclose(z.numpy(), 1, rtol=1e-5)


# --- modes --------------------------------------------------------------------------------------


def test_collecting(simt, library, x, y):
    simt.check_mode = "collect"
    assert simt.check_mode == "collect"
    run(simt, library.kernel("copy_past"), x, y)
    run(simt, library.kernel("two"), simt.zeros(4, "uint32"), simt.zeros(4, "uint32"))
    y.numpy()
    assert [(f.kind, f.kernel) for f in simt.faults] == [
        ("out-of-bounds", "copy_past"),
        ("device-race", "two"),
        ("device-race", "two"),
    ]
    assert all(isinstance(f, ml.KernelFault) and f.line and f.threads for f in simt.faults)
    simt.clear_faults()
    assert simt.faults == []


def test_collecting_needs_no_wait(simt, library, x, y):
    simt.check_mode = "collect"
    cmd = simt.commands()
    cmd.dispatch(library.kernel("copy_past"), threads=64, threadgroup=32, args=[x, y])
    cmd.commit()
    deadline = time.monotonic() + 30
    while not simt.faults and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [f.kernel for f in simt.faults] == ["copy_past"]


@pytest.mark.parametrize("hear", [lambda cmd, y: cmd.wait(), lambda cmd, y: y.numpy()], ids=["wait", "read"])
def test_warning(simt, library, x, y, hear):
    simt.check_mode = "warn"
    cmd = simt.commands()
    cmd.dispatch(library.kernel("copy_past"), threads=64, threadgroup=32, args=[x, y])
    cmd.commit()
    with pytest.warns(ml.KernelFaultWarning, match="copy_past") as heard:
        hear(cmd, y)
    assert len(heard) == 1 and heard[0].filename == __file__
    assert simt.faults == []
    with warnings.catch_warnings():  # once is enough
        warnings.simplefilter("error")
        cmd.wait()
        y.numpy()


def test_a_warning_may_be_an_error(simt, library, x, y):
    simt.check_mode = "warn"
    with warnings.catch_warnings(), pytest.raises(ml.KernelFaultWarning):
        warnings.simplefilter("error")
        run(simt, library.kernel("copy_past"), x, y)


def test_not_to_be_told(simt, library, x, y):
    simt.check_mode = "off"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(simt, library.kernel("copy_past"), x, y)
        y.numpy()
    assert simt.faults == []


@pytest.mark.parametrize("wrong", ["", "loud", "RAISE"])
def test_a_mode_is_one_of_four(simt, wrong):
    with pytest.raises(ml.ValidationError, match="raise, warn, collect, off"):
        simt.check_mode = wrong
    assert simt.check_mode == "raise"


def test_other_failures_are_raised_in_every_mode(simt, library, x):
    simt.check_mode = "off"
    with pytest.raises(ml.ValidationError):
        run(simt, library.kernel("copy"), x)


# --- settings -----------------------------------------------------------------------------------


def test_settings(simt):
    before = ml.check_settings()
    assert (before.enabled, before.non_finite) == (True, False)
    ml.set_check_settings(seed=7, time_limit=2.5)
    now = ml.check_settings()
    assert (now.enabled, now.non_finite, now.seed, now.time_limit) == (True, False, 7, 2.5)
    assert "seed=7" in repr(now)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ml.ValidationError, match="time_limit"):
            ml.set_check_settings(time_limit=wrong)
    with pytest.raises(TypeError):
        ml.set_check_settings(7)


@pytest.mark.parametrize("seed", [1, 2, 12345])
def test_the_seed_is_in_the_report_and_nothing_depends_on_it(simt, library, x, y, seed):
    ml.set_check_settings(seed=seed)
    fault = fault_of(simt, library.kernel("copy_past"), x, y)
    assert fault.seed == seed and f"METALLOID_SEED={seed}" in str(fault)
    assert (fault.kind, fault.offset) == ("out-of-bounds", 256)
    race = fault_of(
        simt, library.kernel("race"), simt.zeros(32, "uint32"), ml.threadgroup_memory(4), threads=32
    )
    assert {race.line, race.second_line} == {line_of("the others"), line_of("do not wait")}


def test_a_runaway_kernel_ends(simt, library):
    ml.set_check_settings(time_limit=0.3)
    flag = simt.zeros(1, "uint32")
    start = time.monotonic()
    with pytest.raises(ml.KernelFault) as raised, simt.commands() as cmd:
        cmd.dispatch(library.kernel("spin"), threads=1, threadgroup=1, args=[flag])
    assert time.monotonic() - start < 10
    assert (raised.value.kind, raised.value.fatal) == ("runaway", True)
    assert raised.value.line == line_of("while (atomic_load")


def test_numbers_that_are_not_finite(simt, library):
    values = np.ones(64, np.float32)
    values[40] = 0
    y = simt.array(values)
    run(simt, library.kernel("divide"), y)
    assert np.isinf(y.numpy()[40])
    y.copy_from(values)
    ml.set_check_settings(non_finite=True)
    fault = fault_of(simt, library.kernel("divide"), y)
    assert (fault.kind, fault.line) == ("non-finite", line_of("1.0f / y[i]"))


def test_checks_can_be_switched_off(simt, library, x):
    ml.set_check_settings(enabled=False)
    assert not simt.checked
    y = simt.zeros(64, "uint32")
    run(simt, library.kernel("two"), y, simt.zeros(4, "uint32"), threads=32)
    run(simt, library.kernel("add_one"), simt.empty(64))
    ml.set_check_settings(enabled=True)
    assert simt.checked


VARIABLES = """#include <metal_stdlib>
using namespace metal;
kernel void many(device uint* y [[buffer(0)]], uint i [[thread_position_in_threadgroup]]) {
  threadgroup uint a[2000], b[2000], c[2000];
  for (uint k = i; k < 2000; k += 64) a[k] = k, b[k] = 2 * k, c[k] = 3 * k;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = i; k < 2000; k += 64) y[k] = a[1999 - k] + b[k] + c[1999 - k];
}
"""


def test_unchecked_threadgroup_variables_have_room():
    shown = run_python(
        """
        import metalloid as ml, numpy as np
        from test_faults import VARIABLES
        dev = ml.Device("simt")
        y = dev.zeros(2000, "uint32")
        with dev.commands() as cmd:
            cmd.dispatch(dev.compile(VARIABLES).kernel("many"), threads=64, threadgroup=64, args=[y])
        k = np.arange(2000)
        print(np.array_equal(y.numpy(), 4 * (1999 - k) + 2 * k))
        """,
        METALLOID_CHECK="off",
    )
    assert shown.stdout == "True\n", shown.stderr


def test_settings_from_the_environment():
    shown = run_python(
        "import metalloid as ml; print(ml.check_settings(), ml.Device('simt').checked)",
        METALLOID_CHECK="off",
        METALLOID_CHECK_NAN="1",
        METALLOID_SEED="99",
        METALLOID_TIME_LIMIT="1.5",
    )
    assert shown.stdout == "CheckSettings(enabled=False, non_finite=True, seed=99, time_limit=1.5) False\n", (
        shown.stderr
    )
