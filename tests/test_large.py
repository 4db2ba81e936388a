"""Sizes whose indices do not fit 32 bits, in an address space far larger than the memory behind it.

2^31 elements of two bytes overflow a signed index and an unsigned byte offset. METALLOID_TEST_LARGE=1 goes
past 2^32, which overflows an unsigned index too, and takes a minute or two more.
"""

from __future__ import annotations

import os

import metalloid as ml
import numpy as np
import pytest
from metalloid import reference
from support import BF16, F32, Repeated, assert_close, bits
from test_ops import (
    ELEMENTWISE,
    fused_error,
    gated_delta_arrays,
    gated_delta_error,
    norm_error,
    rope_error,
    vision_error,
)

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="maps one file many times: needs memfd"
)

LARGE = os.environ.get("METALLOID_TEST_LARGE", "0") != "0"
PAST = 1 << (32 if LARGE else 31)  # elements


@pytest.fixture
def repeated(dev, rng):
    made = []

    def make(count: int, tail: int, dtype=BF16, fill: bool = False) -> Repeated:
        big = Repeated(count, tail, dtype)
        made.append(big)
        if big.length > dev.max_buffer_length:
            pytest.skip(
                f"the device takes {dev.max_buffer_length} bytes in a buffer, this needs {big.length}"
            )
        if fill:
            pattern = rng.standard_normal(1 << 20).astype(dtype)
            big.repeated.reshape(-1, pattern.size)[...] = pattern
            big.tail[...] = rng.standard_normal(big.tail.size).astype(dtype)
        else:
            big.tail[...] = np.nan
        return big

    yield make
    dev.synchronize()
    for big in made:
        big.close()


DIM, TAIL_ROWS = 4096, 5


def rows(big: Repeated) -> np.ndarray:
    count = big.tail_start // DIM + TAIL_ROWS
    return big.array[: count * DIM].reshape(count, DIM)


def tail_rows(big: Repeated) -> np.ndarray:
    return big.tail[: TAIL_ROWS * DIM].reshape(TAIL_ROWS, DIM)


# Below, outputs are in place: each page that is touched costs, whether or not it has memory of its own. What
# becomes of the repeated pages depends on the order of the rows; the tail, past the limit, does not.


@pytest.mark.parametrize("with_scale", [False, True])
def test_rms_norm(dev, rng, repeated, with_scale):
    big = repeated(PAST, TAIL_ROWS * DIM, fill=True)
    tail = tail_rows(big).copy()
    weight = rng.standard_normal(DIM).astype(BF16)
    buffer = dev.wrap(rows(big))
    with dev.commands() as cmd:
        if with_scale:
            ml.ops.rms_norm_mul(cmd, buffer, dev.array(weight), buffer, out=buffer)
        else:
            ml.ops.rms_norm(cmd, buffer, dev.array(weight), out=buffer)
    arrays = {"x": tail, "weight": weight} | ({"scale": tail} if with_scale else {})
    oracle = reference.rms_norm_mul if with_scale else reference.rms_norm
    assert_close(tail_rows(big), oracle(**arrays), norm_error(**arrays))


@pytest.mark.parametrize("op", ["add", "gelu_mul"])
def test_elementwise(dev, repeated, op):
    big = repeated(PAST, TAIL_ROWS * DIM, fill=True)
    tail = tail_rows(big).copy()
    buffer = dev.wrap(rows(big))
    with dev.commands() as cmd:
        getattr(ml.ops, op)(cmd, buffer, buffer, out=buffer)
    _, error = ELEMENTWISE[op]
    assert_close(tail_rows(big), getattr(reference, op)(tail, tail), error(tail, tail))


@pytest.mark.parametrize("op", ["fused_head_norm_rope", "rope_neox"])
@pytest.mark.parametrize("form", ["cached", "positions"])
def test_heads(dev, rng, repeated, form, op):
    big = repeated(PAST, TAIL_ROWS * DIM, fill=True)
    shape = (-1, 16, 256)
    tail = tail_rows(big).reshape(shape).copy()
    tokens = len(rows(big))
    if form == "positions":
        tables = {"positions": rng.integers(0, 100_000, tokens).astype(np.uint32)}
    else:
        tables = {name: rng.standard_normal((tokens, 4), np.float32) for name in ("cos", "sin")}
    buffer = dev.wrap(rows(big).reshape(shape))
    with dev.commands() as cmd:
        given = {name: dev.array(a) for name, a in tables.items()}
        getattr(ml.ops, op)(cmd, buffer, **given, half_rope_dim=4, out=buffer)
    arrays = {name: a[-TAIL_ROWS:] for name, a in tables.items()} | {"half_rope_dim": 4}
    error = fused_error if op == "fused_head_norm_rope" else rope_error
    assert_close(tail_rows(big).reshape(shape), getattr(reference, op)(tail, **arrays), error(tail, **arrays))


def test_vision_2d_rope(dev, rng, repeated):
    big = repeated(PAST, TAIL_ROWS * DIM, fill=True)
    shape = (-1, 32, 128)
    tail = tail_rows(big).reshape(shape).copy()
    positions = rng.integers(1, 256, (2, len(rows(big)))).astype(np.int32)
    buffer = dev.wrap(rows(big).reshape(shape))
    with dev.commands() as cmd:
        ml.ops.vision_2d_rope(cmd, buffer, *map(dev.array, positions), out=buffer)
    arguments = tail, *positions[:, -TAIL_ROWS:]
    expected = reference.vision_2d_rope(*arguments)
    assert_close(tail_rows(big).reshape(shape), expected, vision_error(*arguments))


def test_im2col_2d(dev, repeated):
    patch, side = 16, 1 << 15
    pixels, out = repeated(PAST, patch * side, fill=True), repeated(PAST, patch * side)
    image = pixels.array[: PAST + patch * side].reshape(1, -1, side)
    columns = out.array[: PAST + patch * side].reshape(-1, patch * patch)
    with dev.commands() as cmd:
        ml.ops.im2col_2d(cmd, dev.wrap(image), patch, out=dev.wrap(columns))
    last = side // patch
    np.testing.assert_array_equal(bits(columns[-last:]), bits(reference.im2col_2d(image[:, -patch:], patch)))


@pytest.mark.skipif(not LARGE, reason="takes half a minute of arithmetic; METALLOID_TEST_LARGE=1 runs it")
def test_gated_delta_net_chunk_o(dev, rng, repeated):
    """v, state and out past 2^31 elements."""
    heads, key_dim, value_dim = 32, 64, 256
    chunk_v, chunk_state = 64 * heads * value_dim, heads * value_dim * key_dim
    v, out = repeated(1 << 31, chunk_v, fill=True), repeated(1 << 31, chunk_v)
    state = repeated(1 << 31, chunk_state, fill=True)
    chunks = (1 << 31) // chunk_v + 1
    tokens = chunks * 64
    last = gated_delta_arrays(rng, 1, 64, 1, heads, key_dim, value_dim)
    small = {"q": np.zeros((1, tokens, 1, key_dim), BF16), "g": np.zeros((1, tokens, heads), F32)}
    small["k"] = small["q"].copy()
    for name in small:
        small[name][:, -64:] = last[name]
    last["v"] = v.tail[:chunk_v].reshape(1, 64, heads, value_dim)
    last["state"] = state.tail[:chunk_state].reshape(1, 1, heads, value_dim, key_dim)
    o = out.array[: chunks * chunk_v].reshape(1, tokens, heads, value_dim)
    with dev.commands() as cmd:
        ml.ops.gated_delta_net_chunk_o(
            cmd,
            **{k: dev.array(a) for k, a in small.items()},
            v=dev.wrap(v.array[: chunks * chunk_v].reshape(o.shape)),
            state=dev.wrap(state.array[: chunks * chunk_state].reshape(1, chunks, heads, value_dim, key_dim)),
            out=dev.wrap(o),
        )
    assert_close(o[:, -64:], reference.gated_delta_net_chunk_o(**last), gated_delta_error(**last))
