"""Sizes whose indices do not fit 32 bits: beyond 2^32 elements of address space, on a few megabytes."""

from __future__ import annotations

import os

import metalloid as ml
import numpy as np
import pytest
from metalloid import reference
from support import BF16, F32, Repeated, assert_close, bits
from test_ops import fused_error, gated_delta_arrays, gated_delta_error, norm_error, vision_error

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="maps one file many times: needs memfd"
)

PAST = 1 << 32  # elements; their bytes pass 2^33


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


@pytest.mark.parametrize("with_scale", [False, True])
def test_rms_norm(dev, rng, repeated, with_scale):
    x, out = repeated(PAST, TAIL_ROWS * DIM, fill=True), repeated(PAST, TAIL_ROWS * DIM)
    arrays = {"weight": rng.standard_normal(DIM).astype(BF16)}
    inputs = {"x": dev.wrap(rows(x)), "weight": dev.array(arrays["weight"])}
    if with_scale:
        scale = repeated(PAST, TAIL_ROWS * DIM, fill=True)
        inputs["scale"], arrays["scale"] = dev.wrap(rows(scale)), tail_rows(scale)
    with dev.commands() as cmd:
        (ml.ops.rms_norm_mul if with_scale else ml.ops.rms_norm)(cmd, **inputs, out=dev.wrap(rows(out)))
    arrays["x"] = tail_rows(x)
    oracle = reference.rms_norm_mul if with_scale else reference.rms_norm
    assert_close(tail_rows(out), oracle(**arrays), norm_error(**arrays), "past 2^32")
    arrays["x"] = rows(x)[:TAIL_ROWS]
    if with_scale:
        arrays["scale"] = rows(scale)[:TAIL_ROWS]
    assert_close(rows(out)[:TAIL_ROWS], oracle(**arrays), norm_error(**arrays), "the first rows")


@pytest.mark.parametrize("form", ["cached", "positions"])
def test_fused_head_norm_rope(dev, rng, repeated, form):
    x, out = repeated(PAST, TAIL_ROWS * DIM, fill=True), repeated(PAST, TAIL_ROWS * DIM)
    shape = (-1, 16, 256)
    tokens = len(rows(x))
    # Both repeat as the pages do, but for the tail.
    tables = {"half_rope_dim": 4}
    if form == "positions":
        positions = np.arange(tokens) % (Repeated.UNIT // 2 // DIM)
        positions[-TAIL_ROWS:] = rng.integers(0, 100_000, TAIL_ROWS)
        tables["positions"] = positions.astype(np.uint32)
    else:
        for name in ("cos", "sin"):
            tables[name] = np.ones((tokens, 4), np.float32)
            tables[name][-TAIL_ROWS:] = rng.standard_normal((TAIL_ROWS, 4))
    with dev.commands() as cmd:
        ml.ops.fused_head_norm_rope(
            cmd,
            dev.wrap(rows(x).reshape(shape)),
            **{k: dev.array(v) if isinstance(v, np.ndarray) else v for k, v in tables.items()},
            out=dev.wrap(rows(out).reshape(shape)),
        )
    tables = {k: v[-TAIL_ROWS:] if isinstance(v, np.ndarray) else v for k, v in tables.items()}
    tail = tail_rows(x).reshape(shape)
    assert_close(
        tail_rows(out).reshape(shape),
        reference.fused_head_norm_rope(tail, **tables),
        fused_error(tail, **tables),
    )


def test_vision_2d_rope(dev, rng, repeated):
    x, out = repeated(PAST, TAIL_ROWS * DIM, fill=True), repeated(PAST, TAIL_ROWS * DIM)
    shape = (-1, 32, 128)
    pos_x, pos_y = rng.integers(0, 256, (2, len(rows(x)))).astype(np.int32)
    with dev.commands() as cmd:
        ml.ops.vision_2d_rope(
            cmd,
            dev.wrap(rows(x).reshape(shape)),
            dev.array(pos_x),
            dev.array(pos_y),
            out=dev.wrap(rows(out).reshape(shape)),
        )
    arguments = tail_rows(x).reshape(shape), pos_x[-TAIL_ROWS:], pos_y[-TAIL_ROWS:]
    assert_close(
        tail_rows(out).reshape(shape), reference.vision_2d_rope(*arguments), vision_error(*arguments)
    )


def test_im2col_2d(dev, repeated):
    patch, side = 16, 1 << 16
    pixels, out = repeated(PAST, patch * side, fill=True), repeated(PAST, patch * side)
    image = pixels.array[: PAST + patch * side].reshape(1, side + patch, side)
    columns = out.array[: PAST + patch * side].reshape(-1, patch * patch)
    with dev.commands() as cmd:
        ml.ops.im2col_2d(cmd, dev.wrap(image), patch, out=dev.wrap(columns))
    last = side // patch
    np.testing.assert_array_equal(bits(columns[-last:]), bits(reference.im2col_2d(image[:, -patch:], patch)))


def test_gated_delta_net_chunk_o(dev, rng, repeated):
    """Past 2^31 elements of v, state and out: past 2^32 would take half a minute of arithmetic."""
    heads, key_dim, value_dim = 32, 64, 256
    chunk_v, chunk_state = 64 * heads * value_dim, heads * value_dim * key_dim
    v, out = repeated(PAST // 2, chunk_v, fill=True), repeated(PAST // 2, chunk_v)
    state = repeated(PAST // 2, chunk_state, fill=True)
    chunks = PAST // 2 // chunk_v + 1
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
