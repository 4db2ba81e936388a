"""Every precondition of every operation: its message, and that a refusal leaves everything as it was."""

from __future__ import annotations

import metalloid as ml
import numpy as np
import pytest
from support import BF16, F16, F32, bits

# For each operation a call that works, as arrays and other arguments. Rows below change one thing.
VALID = {
    "rms_norm": {"x": np.ones((4, 8), F32), "weight": np.ones(8, F32)},
    "rms_norm_mul": {"x": np.ones((4, 8), F32), "weight": np.ones(8, F32), "scale": np.ones((4, 8), F32)},
    "fused_head_norm_rope": {
        "x": np.ones((3, 2, 8), F32),
        "cos": np.ones((3, 4), F32),
        "sin": np.ones((3, 4), F32),
        "weight": np.ones(8, F32),
    },
    "rope_neox": {
        "x": np.ones((3, 2, 8), F32),
        "cos": np.ones((3, 4), F32),
        "sin": np.ones((3, 4), F32),
    },
    "vision_2d_rope": {
        "x": np.ones((3, 2, 8), F32),
        "pos_x": np.ones(3, np.int32),
        "pos_y": np.ones(3, np.uint32),
    },
    "im2col_2d": {"pixels": np.ones((3, 8, 12), F32), "patch": 4},
    "gated_delta_net_chunk_o": {
        "q": np.ones((1, 128, 2, 64), BF16),
        "k": np.ones((1, 128, 2, 64), BF16),
        "v": np.ones((1, 128, 4, 32), BF16),
        "state": np.ones((1, 2, 4, 32, 64), BF16),
        "g": np.ones((1, 128, 4), F32),
    },
    "add": {"a": np.ones((4, 8), F32), "b": np.ones((4, 8), F32)},
    "mul": {"a": np.ones((4, 8), F32), "b": np.ones((4, 8), F32)},
    "silu_mul": {"gate": np.ones((4, 8), F32), "up": np.ones((4, 8), F32)},
    "gelu_mul": {"gate": np.ones((4, 8), F32), "up": np.ones((4, 8), F32)},
}
POSITIONAL = {
    "cos": None,
    "sin": None,
    "positions": np.ones(3, np.int32),
}  # the other form of the operations on heads


def ones(shape, dtype=F32):
    return np.ones(shape, dtype)


# (operation, what changes, the argument at fault, what the message says it got, what it says is needed)
EPS = [
    (op, {"eps": eps}, "eps", got, "finite")
    for op in ("rms_norm", "rms_norm_mul", "fused_head_norm_rope")
    for eps, got in ((0.0, "0"), (-1e-6, "-1e-06"), (float("nan"), "nan"), (float("inf"), "inf"))
]
THETA = [
    (op, {**more, "theta": theta}, "theta", got, "finite")
    for op, more in (("fused_head_norm_rope", POSITIONAL), ("rope_neox", POSITIONAL), ("vision_2d_rope", {}))
    for theta, got in ((0.0, "0"), (-10.0, "-10"), (float("nan"), "nan"), (float("inf"), "inf"))
]
# A row of a head is held in threadgroup memory.
THREADGROUP_MEMORY = [
    (op, {**more, "x": ones((3, 1, dim))}, "x", f"[3, 1, {dim}]", "a smaller last axis")
    for op, more, dim in (
        ("fused_head_norm_rope", {**POSITIONAL, "weight": None}, 4096),
        ("rope_neox", POSITIONAL, 4096),
        ("vision_2d_rope", {"pos_x": np.ones(3, np.int32), "pos_y": np.ones(3, np.int32)}, 8192),
    )
]
# Of both operations on heads.
HEADS = [
    ({"x": ones(8)}, "x", "1", "3"),
    ({"x": ones((1, 3, 2, 8))}, "x", "4", "3"),
    ({"x": ones((3, 2, 8), np.int32)}, "x", "int32", "float32"),
    ({"x": ones((3, 2, 7))}, "x", "7", "even"),
    ({"x": ones((0, 2, 8))}, "x", "0", "1"),
    ({"x": ones((3, 0, 8))}, "x", "0", "1"),
    ({"x": ones((3, 2, 0))}, "x", "0", "1"),
    ({"half_rope_dim": 5}, "half_rope_dim", "5", "4"),
    ({"half_rope_dim": -1}, "half_rope_dim", "-1", "0"),
    ({"cos": ones(5), "sin": ones(5)}, "half_rope_dim", "5", "4"),
    ({"cos": ones((3, 3)), "sin": ones((3, 3)), "half_rope_dim": 4}, "cos", "[3, 3]", "4"),
    ({"sin": ones((3, 3))}, "sin", "[3, 3]", "4"),
    ({"cos": ones((2, 4)), "sin": ones((2, 4))}, "cos", "[2, 4]", "3"),
    ({"cos": ones((3, 4), F16)}, "cos", "float16", "float32"),
    ({"sin": ones((3, 4), BF16)}, "sin", "bfloat16", "float32"),
    ({"sin": None}, "sin", "", "cos"),
    ({"cos": None}, "cos", "", "sin"),
    ({"cos": None, "sin": None}, "", "neither", "positions"),
    ({"positions": ones(3, np.int32)}, "", "both", "positions"),
    ({"freq_factors": ones(4)}, "freq_factors", "", "positions"),
    (POSITIONAL | {"positions": ones(2, np.int32)}, "positions", "2 elements", "3"),
    (POSITIONAL | {"positions": ones(3)}, "positions", "float32", "int32"),
    (POSITIONAL | {"positions": ones(3, np.int64)}, "positions", "int64", "int32"),
    (POSITIONAL | {"freq_factors": ones(3)}, "freq_factors", "3 elements", "4"),
    (POSITIONAL | {"freq_factors": ones(4, F16)}, "freq_factors", "float16", "float32"),
    (POSITIONAL | {"half_rope_dim": 5}, "half_rope_dim", "5", "4"),
    ({"out": ones((3, 2, 6))}, "out", "[3, 2, 6]", "[3, 2, 8]"),
    ({"out": ones((3, 2, 8), F16)}, "out", "float16", "float32"),
]
ELEMENTWISE = [
    (op, {name: array}, name, got, need)
    for op, first, second in (
        ("add", "a", "b"),
        ("mul", "a", "b"),
        ("silu_mul", "gate", "up"),
        ("gelu_mul", "gate", "up"),
    )
    for name, array, got, need in (
        (first, ones((4, 8), np.int32), "int32", "float32"),
        (first, ones((0, 8)), "[0, 8]", "1"),
        (first, ones((4, 0)), "[4, 0]", "1"),
        (second, ones((4, 8), F16), "float16", f"float32 (the type of {first})"),
        (second, ones((4, 8), np.int32), "int32", f"float32 (the type of {first})"),
        (second, ones((4, 7)), "[4, 7]", f"[4, 8] (as {first})"),
        (second, ones((8, 4)), "[8, 4]", f"[4, 8] (as {first})"),
        (second, ones(8), "[8]", f"[4, 8] (as {first})"),
        (second, ones(()), "[]", f"[4, 8] (as {first})"),
        ("out", ones((4, 7)), "[4, 7]", f"[4, 8] (as {first})"),
        ("out", ones(32), "[32]", f"[4, 8] (as {first})"),
        ("out", ones((4, 8), BF16), "bfloat16", f"float32 (the type of {first})"),
    )
]
ROWS = [
    *EPS,
    *THETA,
    *THREADGROUP_MEMORY,
    *ELEMENTWISE,
    # rms_norm
    ("rms_norm", {"weight": ones(7)}, "weight", "7 elements", "8 (the last axis of x)"),
    ("rms_norm", {"weight": ones(9)}, "weight", "9 elements", "8 (the last axis of x)"),
    ("rms_norm", {"weight": ones(8, F16)}, "weight", "float16", "float32"),
    ("rms_norm", {"x": ones((4, 8), F16), "weight": ones(8, BF16)}, "weight", "bfloat16", "float16"),
    ("rms_norm", {"x": ones((4, 8), BF16), "weight": ones(8, F16)}, "weight", "float16", "bfloat16"),
    ("rms_norm", {"x": ones((4, 8), np.int32)}, "x", "int32", "float32"),
    ("rms_norm", {"x": ones((0, 8))}, "x", "0", "1"),
    ("rms_norm", {"x": ones((4, 0)), "weight": None}, "x", "0", "1"),
    ("rms_norm", {"x": ones(())}, "x", "0", "1"),
    ("rms_norm", {"out": ones((4, 7))}, "out", "[4, 7]", "[4, 8]"),
    ("rms_norm", {"out": ones((8, 4))}, "out", "[8, 4]", "[4, 8]"),
    ("rms_norm", {"out": ones((4, 8), F16)}, "out", "float16", "float32"),
    # rms_norm_mul
    ("rms_norm_mul", {"weight": ones(7)}, "weight", "7 elements", "8 (the last axis of x)"),
    ("rms_norm_mul", {"weight": ones(8, BF16)}, "weight", "bfloat16", "float32"),
    ("rms_norm_mul", {"scale": ones((4, 7))}, "scale", "[4, 7]", "[4, 8]"),
    ("rms_norm_mul", {"scale": ones((4, 8), BF16)}, "scale", "bfloat16", "type of x"),
    ("rms_norm_mul", {"x": ones((4, 8), np.uint8)}, "x", "uint8", "float32"),
    ("rms_norm_mul", {"x": ones((0, 8)), "scale": ones((0, 8))}, "x", "0", "1"),
    ("rms_norm_mul", {"out": ones((2, 2, 8))}, "out", "[2, 2, 8]", "[4, 8]"),
    ("rms_norm_mul", {"out": ones((4, 8), BF16)}, "out", "bfloat16", "float32"),
    # fused_head_norm_rope, beside those of HEADS
    ("fused_head_norm_rope", {"weight": ones(6)}, "weight", "6 elements", "8"),
    ("fused_head_norm_rope", {"weight": ones(8, F16)}, "weight", "float16", "float32"),
    *((op, *row) for op in ("fused_head_norm_rope", "rope_neox") for row in HEADS),
    # vision_2d_rope
    ("vision_2d_rope", {"x": ones((6, 8))}, "x", "2", "3"),
    ("vision_2d_rope", {"x": ones((3, 2, 8), np.int8)}, "x", "int8", "float32"),
    ("vision_2d_rope", {"x": ones((3, 2, 6))}, "x", "6", "4"),
    ("vision_2d_rope", {"x": ones((0, 2, 8))}, "x", "0", "1"),
    ("vision_2d_rope", {"x": ones((3, 0, 8))}, "x", "0", "1"),
    ("vision_2d_rope", {"x": ones((3, 2, 0))}, "x", "0", "1"),
    ("vision_2d_rope", {"pos_x": ones(2, np.int32)}, "pos_x", "2 elements", "3"),
    ("vision_2d_rope", {"pos_y": ones(4, np.int32)}, "pos_y", "4 elements", "3"),
    ("vision_2d_rope", {"pos_x": ones(3)}, "pos_x", "float32", "int32"),
    ("vision_2d_rope", {"pos_y": ones(3, np.uint8)}, "pos_y", "uint8", "int32"),
    ("vision_2d_rope", {"out": ones((3, 2, 4))}, "out", "[3, 2, 4]", "[3, 2, 8]"),
    ("vision_2d_rope", {"out": ones((3, 2, 8), BF16)}, "out", "bfloat16", "float32"),
    # im2col_2d
    ("im2col_2d", {"pixels": ones((8, 12))}, "pixels", "2", "3"),
    ("im2col_2d", {"pixels": ones((3, 8, 12), np.uint8)}, "pixels", "uint8", "float32"),
    ("im2col_2d", {"pixels": ones((0, 8, 12))}, "pixels", "0", "1"),
    ("im2col_2d", {"pixels": ones((3, 0, 12))}, "pixels", "0", "1"),
    ("im2col_2d", {"pixels": ones((3, 8, 0))}, "pixels", "0", "1"),
    ("im2col_2d", {"pixels": ones((3, 10, 12))}, "pixels", "10", "4"),
    ("im2col_2d", {"pixels": ones((3, 8, 13))}, "pixels", "13", "4"),
    ("im2col_2d", {"patch": 0}, "patch", "0", "1"),
    ("im2col_2d", {"patch": -4}, "patch", "-4", "1"),
    ("im2col_2d", {"out": ones((6, 47))}, "out", "[6, 47]", "[6, 48]"),
    ("im2col_2d", {"out": ones((6, 48), F16)}, "out", "float16", "float32"),
    # gated_delta_net_chunk_o
    *(
        (
            "gated_delta_net_chunk_o",
            {name: ones(VALID["gated_delta_net_chunk_o"][name].shape, F16)},
            name,
            "float16",
            t,
        )
        for name, t in (
            ("q", "bfloat16"),
            ("k", "bfloat16"),
            ("v", "bfloat16"),
            ("state", "bfloat16"),
            ("g", "float32"),
        )
    ),
    ("gated_delta_net_chunk_o", {"q": ones((128, 2, 64), BF16)}, "q", "3", "4"),
    (
        "gated_delta_net_chunk_o",
        {"k": ones((1, 128, 1, 64), BF16)},
        "k",
        "[1, 128, 1, 64]",
        "[1, 128, 2, 64]",
    ),
    ("gated_delta_net_chunk_o", {"v": ones((1, 64, 4, 32), BF16)}, "v", "64", "128"),
    ("gated_delta_net_chunk_o", {"v": ones((1, 128, 32), BF16)}, "v", "3", "4"),
    (
        "gated_delta_net_chunk_o",
        {"state": ones((1, 1, 4, 32, 64), BF16)},
        "state",
        "[1, 1, 4, 32, 64]",
        "[1, 2, 4, 32, 64]",
    ),
    ("gated_delta_net_chunk_o", {"g": ones((1, 128, 2))}, "g", "[1, 128, 2]", "[1, 128, 4]"),
    ("gated_delta_net_chunk_o", {"scale": float("nan")}, "scale", "nan", "finite"),
    ("gated_delta_net_chunk_o", {"scale": float("-inf")}, "scale", "-inf", "finite"),
    (
        "gated_delta_net_chunk_o",
        {"out": ones((1, 128, 4, 64), BF16)},
        "out",
        "[1, 128, 4, 64]",
        "[1, 128, 4, 32]",
    ),
    ("gated_delta_net_chunk_o", {"out": ones((1, 128, 4, 32))}, "out", "float32", "bfloat16"),
]


def gated_delta(batch=1, tokens=128, key_heads=2, heads=4, key_dim=64, value_dim=32):
    return {
        "q": ones((batch, tokens, key_heads, key_dim), BF16),
        "k": ones((batch, tokens, key_heads, key_dim), BF16),
        "v": ones((batch, tokens, heads, value_dim), BF16),
        "state": ones((batch, tokens // 64, heads, value_dim, key_dim), BF16),
        "g": ones((batch, tokens, heads)),
    }


# Sizes that agree with each other and that the operation does not support.
ROWS += [
    ("gated_delta_net_chunk_o", gated_delta(**sizes), argument, got, need)
    for sizes, argument, got, need in (
        ({"key_dim": 32}, "q", "32", "64, 128 or 256"),
        ({"key_dim": 192}, "q", "192", "64, 128 or 256"),
        ({"value_dim": 48}, "v", "48", "32"),
        ({"value_dim": 288}, "v", "288", "256"),
        ({"tokens": 100}, "q", "100", "64"),
        ({"heads": 3}, "v", "3", "2"),
        ({"batch": 0}, "q", "0", "1"),
        ({"tokens": 0}, "q", "0", "1"),
        ({"key_heads": 0}, "q", "0", "1"),
        ({"heads": 0}, "v", "0", "1"),
        ({"value_dim": 0}, "v", "0", "1"),
    )
]


def upload(dev, arguments):
    return {k: dev.array(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}


def assert_refused(dev, op, arguments, error=ml.ValidationError) -> str:
    """Encodes a good call, then this one, and checks that only the good one happened. Returns the message."""
    good = upload(dev, VALID[op])
    buffers = {k: v for k, v in arguments.items() if isinstance(v, ml.Buffer)}
    before = {k: bits(np.asarray(v)).copy() for k, v in buffers.items()}
    with dev.commands() as cmd:
        out = getattr(ml.ops, op)(cmd, **good)
        with pytest.raises(error) as raised:
            getattr(ml.ops, op)(cmd, **arguments)
        assert cmd.dispatch_count == 1
        assert cmd.status == "encoding"
    assert cmd.status == "completed"
    for name, content in before.items():
        np.testing.assert_array_equal(bits(np.asarray(buffers[name])), content, err_msg=f"{name} changed")
    assert np.isfinite(np.asarray(out).astype(np.float32)).all()
    return str(raised.value)


def row_id(row) -> str:
    op, change, *_ = row
    said = [
        f"{k}={list(v.shape)}:{v.dtype}" if isinstance(v, np.ndarray) else f"{k}={v}"
        for k, v in change.items()
    ]
    return f"{op}-{','.join(said)}"


@pytest.mark.parametrize(("op", "change", "argument", "got", "need"), ROWS, ids=map(row_id, ROWS))
def test_a_broken_precondition_is_refused(dev, op, change, argument, got, need):
    arguments = upload(dev, {k: v for k, v in (VALID[op] | change).items() if v is not None})
    message = assert_refused(dev, op, arguments)
    start = f"{op}: {argument}"
    assert message.startswith(start), message
    rest = message[len(start) :]
    assert got in rest and need in rest, message
    assert rest.rfind(need) > rest.find(got), f"what it got comes before what it needs: {message}"


def test_the_message_is_word_for_word(dev):
    arguments = upload(dev, {"x": ones((2, 4096)), "weight": ones(4095)})
    message = assert_refused(dev, "rms_norm", arguments)
    assert message == "rms_norm: weight has 4095 elements, needs 4096 (the last axis of x)"


# Outputs that share memory with an input: each operation, each input.
IN_PLACE = {
    "rms_norm": {"x"},
    "rms_norm_mul": {"x", "scale"},
    "fused_head_norm_rope": {"x"},
    "rope_neox": {"x"},
    "vision_2d_rope": {"x"},
    "add": {"a", "b"},
    "mul": {"a", "b"},
    "silu_mul": {"gate", "up"},
    "gelu_mul": {"gate", "up"},
}
OVERLAPS = [
    (op, name, kind)
    for op, arguments in VALID.items()
    for name, a in arguments.items()
    if isinstance(a, np.ndarray)
    for kind in ("same start", "shifted")
    if not (kind == "same start" and name in IN_PLACE.get(op, ()))
]


@pytest.mark.parametrize(("op", "name", "kind"), OVERLAPS)
def test_an_output_that_overlaps_an_input_is_refused(dev, op, name, kind):
    arguments = upload(dev, VALID[op])
    with dev.commands() as cmd:
        like = getattr(ml.ops, op)(cmd, **arguments)
    # One block that holds the input and, over it, an output of the right shape and type.
    source = VALID[op][name]
    shift = 0 if kind == "same start" else max(like.itemsize, source.dtype.itemsize)
    block = dev.zeros(source.nbytes + like.nbytes + shift, ml.uint8)
    arguments[name] = block[: source.nbytes].view(source.dtype).reshape(source.shape)
    arguments[name].copy_from(source)
    arguments["out"] = block[shift : shift + like.nbytes].view(like.dtype).reshape(like.shape)
    message = assert_refused(dev, op, arguments)
    assert message.startswith(f"{op}: out"), message
    assert name in message.removeprefix(f"{op}: out"), message


def test_neighbours_do_not_overlap(dev):
    block = dev.zeros((3, 4, 8))
    block[1].copy_from(np.ones((4, 8)))
    with dev.commands() as cmd:
        ml.ops.rms_norm(cmd, block[1], out=block[0])
        ml.ops.rms_norm(cmd, block[1], out=block[2])
    np.testing.assert_allclose(np.asarray(block), 1, rtol=1e-5)


@pytest.mark.parametrize("op", VALID)
def test_a_read_only_output_is_refused(dev, tmp_path, op):
    arguments = upload(dev, VALID[op])
    with dev.commands() as cmd:
        like = getattr(ml.ops, op)(cmd, **arguments)
    file = tmp_path / "out.bin"
    file.write_bytes(bytes(like.nbytes))
    pages = dev.wrap(np.memmap(file, np.uint8, mode="r"))
    arguments["out"] = pages.view(like.dtype).reshape(like.shape)
    message = assert_refused(dev, op, arguments)
    assert message.startswith(f"{op}: out"), message
    assert "read-only" in message, message


@pytest.mark.parametrize(
    ("op", "name"),
    [(op, name) for op, arguments in VALID.items() for name, a in arguments.items() if np.ndim(a)],
)
def test_only_buffers_are_taken(dev, op, name):
    arguments = upload(dev, VALID[op]) | {name: VALID[op][name]}
    message = assert_refused(dev, op, arguments, (ml.ValidationError, TypeError))
    assert message.startswith(f"{op}: {name} "), message
    assert "ndarray" in message and "Buffer" in message, message


def test_unknown_arguments_are_refused(dev):
    arguments = upload(dev, VALID["rms_norm"])
    assert_refused(dev, "rms_norm", {**arguments, "epsilon": 1e-6}, TypeError)
    with dev.commands() as cmd, pytest.raises(TypeError):
        ml.ops.rms_norm(cmd, arguments["x"], arguments["weight"], 1e-6)  # eps goes by keyword
