"""Every operation on 32 lanes, under the checker: right results, no findings, whatever the order.

The built-in kernels are declared independent of the SIMD width: here is the proof, as test_ops.py holds the
same table against the same oracles at a width of one.
"""

from __future__ import annotations

import math
import re

import metalloid as ml
import numpy as np
import pytest
from support import bits, open_device, poisoned
from test_ops import CASES, Case, result_like


def elements(case: Case) -> int:
    """The size of the largest shape that the label names."""
    shapes = re.findall(r"\d+(?:x\d+)+", str(case))
    return max((math.prod(map(int, shape.split("x"))) for shape in shapes), default=0)


# The large cases are there for stores past the caches, which belong to a width of one.
SMALL = [case for case in CASES if elements(case) < 1 << 20]
over_small_cases = pytest.mark.parametrize("case", SMALL, ids=str)


@pytest.fixture(scope="module")
def simt() -> ml.Device:
    return open_device("simt")


@pytest.fixture
def seed(rng):
    """Another order of the threadgroups and of what is in them for each test."""
    before = ml.check_settings().seed
    ml.set_check_settings(seed=int(rng.integers(1, 1 << 32)))
    yield
    ml.set_check_settings(seed=before)


@over_small_cases
@pytest.mark.usefixtures("seed")
def test_runs_clean_and_matches_the_oracle(simt, rng, case):
    arrays = case.make(rng)
    shape, dtype = result_like(case, arrays)
    inputs = {name: simt.array(a) for name, a in arrays.items()}
    out = poisoned(simt, shape, dtype)
    with simt.commands() as cmd:
        case.encode(cmd, inputs, out=out)
    case.check(out, arrays)
    for name, a in arrays.items():
        np.testing.assert_array_equal(bits(np.asarray(inputs[name])), bits(a), err_msg=f"{name} changed")


@pytest.mark.parametrize("case", [c for c in SMALL if c.error is None], ids=str)
def test_exact_operations_give_the_same_bits_at_both_widths(dev, simt, rng, case):
    arrays = case.make(rng)
    results = []
    for device in (dev, simt):
        with device.commands() as cmd:
            y = case.encode(cmd, {name: device.array(a) for name, a in arrays.items()})
        results.append(bits(np.asarray(y)))
    np.testing.assert_array_equal(*results)


def test_dispatches_without_an_order_are_found(simt, rng):
    x = simt.array(rng.standard_normal((64, 256), np.float32))
    with pytest.raises(ml.KernelFault) as caught, simt.commands(hazards="manual") as cmd:
        y = ml.ops.rms_norm(cmd, x)
        ml.ops.rms_norm(cmd, y)
    assert caught.value.kind == "hazard"
    with simt.commands(hazards="manual") as cmd:
        y = ml.ops.rms_norm(cmd, x)
        cmd.barrier()
        ml.ops.rms_norm(cmd, y)
    with simt.commands() as cmd:
        y = ml.ops.rms_norm(cmd, x)
        ml.ops.rms_norm(cmd, y)


def test_an_output_that_is_never_written_is_found_when_it_is_read(simt):
    x = simt.empty((8, 64))
    with pytest.raises(ml.KernelFault) as caught, simt.commands() as cmd:
        ml.ops.rms_norm(cmd, x)
    assert caught.value.kind == "uninitialized-read"
    assert caught.value.variable == "x"
    with simt.commands() as cmd:
        ml.ops.rms_norm(cmd, simt.empty((8, 64), checked=False))


@pytest.mark.parametrize("case", [c for c in SMALL if c.in_place], ids=str)
@pytest.mark.usefixtures("seed")
def test_in_place_no_thread_needs_what_another_overwrites(simt, rng, case):
    arrays = case.make(rng)
    for name in case.in_place:
        inputs = {key: simt.array(a) for key, a in arrays.items()}
        with simt.commands() as cmd:
            case.encode(cmd, inputs, out=inputs[name])
        case.check(inputs[name], arrays, f"in place of {name}")
