"""Every operation, type and form against its float64 oracle: one row of the table per case.

A new operation adds a builder of cases here, with the bound on its f32 arithmetic, and rows in
test_preconditions.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import metalloid as ml
import ml_dtypes
import numpy as np
import pytest
from metalloid import reference
from support import BF16, F16, F32, FLOATS, Guarded, U, assert_close, bits, poisoned


@dataclass(frozen=True)
class Case:
    op: str
    label: str
    make: Callable[[np.random.Generator], dict[str, np.ndarray]]  # the arguments that are buffers
    error: Callable[..., np.ndarray] | None  # bound on the f32 arithmetic of these arguments; None: exact
    options: dict = field(default_factory=dict)  # the other arguments
    in_place: tuple[str, ...] = ()  # the arguments that out may be

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"

    def oracle(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        with np.errstate(all="ignore"):
            return getattr(reference, self.op)(**arrays, **self.options)

    def encode(self, cmd: ml.CommandEncoder, inputs: dict[str, ml.Buffer], **more) -> ml.Buffer:
        return getattr(ml.ops, self.op)(cmd, **inputs, **self.options, **more)

    def check(self, got, arrays: dict[str, np.ndarray], what: str = "result") -> None:
        got = np.asarray(got)
        expected = self.oracle(arrays)
        if self.error is None:
            assert got.shape == expected.shape
            np.testing.assert_array_equal(bits(got), bits(expected), err_msg=what)
        else:
            with np.errstate(all="ignore"):
                assert_close(got, expected, self.error(**arrays, **self.options), what)


def values(rng: np.random.Generator, shape, dtype: np.dtype) -> np.ndarray:
    """Normal values at a scale that differs from row to row, as activations do."""
    scale = np.exp2(rng.integers(-4, 5, (*shape[:-1], 1)))
    return (rng.standard_normal(shape) * scale).astype(dtype)


def weights(rng: np.random.Generator, shape, dtype: np.dtype) -> np.ndarray:
    return (rng.standard_normal(shape) * 0.5 + 1.0).astype(dtype)


# --- rms_norm and rms_norm_mul --------------------------------------------------------------------

WEIGHTED = ((F32, F32), (F16, F32), (F16, F16), (BF16, BF16), (BF16, F32))
NORM_SHAPES = ((1, 1), (5, 3), (7, 63), (2, 3, 65), (129,), (66, 64), (3, 4097), (2, 16384))
# More than 8 MiB of output in rows that keep no alignment: the path that stores past the caches.
LARGE_NORM_SHAPES = {F32: (601, 4097), F16: (1201, 4097), BF16: (1201, 4097)}


# A subnormal intermediate, such as a product with the weight, is rounded to a multiple of 2^-149. What comes
# after magnifies that: the weight, and the norm of a row of zeros or so, 1/sqrt(eps).
SUBNORMAL = 2.0**-150 * 4 * 1000


def norm_relative(dim: int) -> float:
    """The relative error of a normalised value in f32.

    A sum of dim squares is off by sqrt(dim) roundings or so, in whatever order it is taken, and half of that
    is left after the root; the root itself, eps and the products add a handful.
    """
    return (12 + np.sqrt(dim)) * U


def norm_error(x, weight=None, scale=None, *, eps=1e-6):
    y = reference.rms_norm(x, weight, eps=eps)
    if scale is not None:
        y = y * scale.astype(np.float64)
    return np.abs(y) * norm_relative(x.shape[-1]) + SUBNORMAL


def rms_norm_cases():
    for x_type, w_type in (*WEIGHTED, *((t, None) for t in FLOATS)):
        for shape in (*NORM_SHAPES, LARGE_NORM_SHAPES[x_type]):

            def make(rng, shape=shape, x_type=x_type, w_type=w_type):
                arrays = {"x": values(rng, shape, x_type)}
                if w_type is not None:
                    arrays["weight"] = weights(rng, shape[-1:], w_type)
                return arrays

            label = f"{x_type}-weight_{w_type}-{'x'.join(map(str, shape))}"
            options = {} if shape[-1] % 2 else {"eps": 1e-5}
            yield Case("rms_norm", label, make, norm_error, options, in_place=("x",))


def rms_norm_mul_cases():
    for x_type, w_type in WEIGHTED:
        for shape in (*NORM_SHAPES, LARGE_NORM_SHAPES[x_type]):

            def make(rng, shape=shape, x_type=x_type, w_type=w_type):
                return {
                    "x": values(rng, shape, x_type),
                    "weight": weights(rng, shape[-1:], w_type),
                    "scale": weights(rng, shape, x_type),
                }

            label = f"{x_type}-weight_{w_type}-{'x'.join(map(str, shape))}"
            yield Case("rms_norm_mul", label, make, norm_error, in_place=("x", "scale"))


# --- rotary embeddings ----------------------------------------------------------------------------

ANGLE = 2.0**-23  # the specified relative error of an angle, one rounding of f32 and a little


def pair_sums(n: np.ndarray, half: int, distance: int, start: int = 0, cos=1.0, sin=1.0) -> np.ndarray:
    """For each element the magnitudes that its pair is summed from, |n cos| + |partner sin|, or its own."""
    m = np.abs(n)
    first, second = slice(start, start + half), slice(start + distance, start + distance + half)
    a, b = m[..., first].copy(), m[..., second].copy()
    m[..., first], m[..., second] = a * cos + b * sin, b * cos + a * sin
    return m


def turned_error(
    n,
    relative: float,
    untouched: float,
    *,
    cos=None,
    sin=None,
    positions=None,
    theta=10000.0,
    freq_factors=None,
    half_rope_dim=None,
):
    """For n, known to `relative`, turned. `untouched` is what elements outside of pairs are known to."""
    shape, dim = n.shape, n.shape[-1]
    n = n.reshape(-1, *shape[-2:])
    if positions is None:
        half = cos.shape[-1] if half_rope_dim is None else half_rope_dim
        distance, extra = half, 4 * U
        # Tables magnify: a table's row is [1 or tokens, 1, half] against [tokens, heads, half].
        cos, sin = (np.abs(t.astype(np.float64)).reshape(-1, 1, t.shape[-1])[..., :half] for t in (cos, sin))
        m = pair_sums(n, half, distance, cos=cos, sin=sin)
    else:
        half, distance = dim // 2 if half_rope_dim is None else half_rope_dim, dim // 2
        angle = np.abs(positions.astype(np.float64))[:, None, None] / theta ** (2 * np.arange(half) / dim)
        if freq_factors is not None:
            angle = angle / freq_factors[:half].astype(np.float64)
        extra = ANGLE * angle + 1e-6
        m = pair_sums(n, half, distance)
    error = m * untouched + (SUBNORMAL if untouched else 0.0)
    for start in (0, distance):
        turned = slice(start, start + half)
        error[..., turned] = m[..., turned] * (relative + extra) + SUBNORMAL
    return error.reshape(shape)


def fused_error(x, *, weight=None, eps=1e-6, **angles):
    relative = norm_relative(x.shape[-1])
    return turned_error(reference.rms_norm(x, weight, eps=eps), relative, relative, **angles)


def rope_error(x, **angles):
    return turned_error(x.astype(np.float64), 0.0, 0.0, **angles)


# (tokens, heads, head_dim); None stands for the form without a tokens axis.
HEADS = (
    (1, 1, 64),
    (5, 3, 72),
    (3, 64, 80),
    (2, 4, 512),
    (7, 2, 2),
    (3, 3, 4),
    (2, 5, 6),
    (None, 8, 128),
    (33, 1, 256),
)
LARGE_HEADS = {F32: (149, 32, 512), F16: (301, 32, 512), BF16: (1201, 64, 72)}


def rope_cases(op, error):
    """Types, forms and shapes in full, the optional arguments drawn, with the same outcome in every run."""
    draw = random.Random(1)
    for dtype in FLOATS:
        for tokens, heads, dim in (*HEADS, LARGE_HEADS[dtype]):
            for form in ("cached", "cached_per_token", "positions", "positions_freq_factors"):
                shape = (heads, dim) if tokens is None else (tokens, heads, dim)
                w_type = draw.choice((None, dtype, F32)) if op == "fused_head_norm_rope" else None
                half = draw.choice((dim // 2, dim // 2, max(1, dim // 8), 0))
                index_type = draw.choice((np.uint32, np.int32))
                default = half > 0 if form.startswith("cached") else half == dim // 2
                options = {} if default and draw.random() < 0.5 else {"half_rope_dim": half}
                if form.startswith("positions") and draw.random() < 0.5:
                    options["theta"] = 1e6

                def make(
                    rng, form=form, shape=shape, half=half, w_type=w_type, dtype=dtype, index_type=index_type
                ):
                    tokens, dim = (1 if len(shape) == 2 else shape[0]), shape[-1]
                    width = max(half, 1)  # a table has elements even where no pair is turned
                    arrays = {"x": values(rng, shape, dtype)}
                    if w_type is not None:
                        arrays["weight"] = weights(rng, (dim,), w_type)
                    if form.startswith("cached"):
                        # A turn and a magnification: nothing says that cos^2 + sin^2 is one.
                        table = (width,) if form == "cached" else (tokens, width)
                        arrays["cos"] = rng.standard_normal(table).astype(np.float32)
                        arrays["sin"] = rng.standard_normal(table).astype(np.float32)
                        return arrays
                    low = -5000 if index_type == np.int32 else 0
                    arrays["positions"] = rng.integers(low, 100_000, tokens).astype(index_type)
                    if form.endswith("freq_factors"):
                        factors = rng.uniform(1, 8, width).astype(np.float32)
                        factors[half // 2 :] = 1e30
                        arrays["freq_factors"] = factors
                    return arrays

                label = f"{dtype}-{form}-{'x'.join(map(str, shape))}-weight_{w_type}-half_{half}"
                yield Case(op, label, make, error, options, in_place=("x",))


def vision_error(x, pos_x, pos_y, *, theta=10000.0):
    half = x.shape[-1] // 2
    quarter = half // 2
    n = x.astype(np.float64)
    m = pair_sums(pair_sums(n, quarter, quarter), quarter, quarter, half)
    error = m * 1e-6
    for start, positions in ((0, pos_x), (half, pos_y)):
        angle = np.abs(positions.astype(np.float64))[:, None, None] * theta ** (
            -2 * np.arange(quarter) / half
        )
        for pair_half in (start, start + quarter):
            part = slice(pair_half, pair_half + quarter)
            error[..., part] += m[..., part] * ANGLE * angle
    return error + SUBNORMAL


def vision_cases():
    shapes = (
        (1, 1, 4),
        (9, 3, 8),
        (5, 16, 72),
        (7, 12, 80),
        (3, 1, 64),
        (6, 2, 128),
        (2, 3, 12),
        (1, 64, 512),
    )
    large = {F32: (2049, 16, 72), F16: (4097, 16, 72), BF16: (4097, 15, 76)}
    for dtype in FLOATS:
        for turn, shape in enumerate((*shapes, large[dtype])):

            def make(rng, shape=shape, dtype=dtype, turn=turn):
                # The two index types are independent arguments, so they are drawn apart.
                types = ((np.uint32, np.uint32), (np.int32, np.int32), (np.uint32, np.int32))[turn % 3]
                return {
                    "x": values(rng, shape, dtype),
                    "pos_x": rng.integers(0, 256, shape[0]).astype(types[0]),
                    "pos_y": rng.integers(0, 256, shape[0]).astype(types[1]),
                }

            options = {"theta": 100.0} if turn % 2 else {}
            label = f"{dtype}-{'x'.join(map(str, shape))}-theta_{options.get('theta', 10000)}"
            yield Case("vision_2d_rope", label, make, vision_error, options, in_place=("x",))


# --- im2col_2d ------------------------------------------------------------------------------------


def im2col_cases():
    shapes = (
        (1, 1, 1, 1),
        (3, 14, 14, 14),
        (3, 28, 42, 14),
        (3, 48, 32, 16),
        (4, 6, 9, 3),
        (2, 5, 35, 5),
        (1, 64, 63, 1),
        (5, 74, 37, 37),
        (3, 1022, 1022, 14),
    )
    for dtype in FLOATS:
        for *shape, patch in shapes:

            def make(rng, shape=tuple(shape), dtype=dtype):
                # Any bits will do, NaN payloads and signalling NaN included: nothing may look at them.
                size = int(np.prod(shape)) * dtype.itemsize
                return {"pixels": rng.integers(0, 256, size, np.uint8).view(dtype).reshape(shape)}

            label = f"{dtype}-{'x'.join(map(str, shape))}-patch_{patch}"
            yield Case("im2col_2d", label, make, None, {"patch": patch})


# --- gated_delta_net_chunk_o ----------------------------------------------------------------------


def gated_delta_error(q, k, v, state, g, *, scale=None):
    """f32 sums, exponentials, and the elements of A that another f32 value may round the other way.

    A bf16 rounding cannot be bounded by f32 roundings: where A lies near the middle between two bf16 values,
    an error of one part in 2^24 moves it by one in 2^8. So A's own error is bounded first, and each element
    is allowed the bf16 values that its interval rounds to, mostly a single one.
    """
    q, k, v, state, g = (a.astype(np.float64) for a in (q, k, v, state, g))
    batch, tokens, key_heads, key_dim = q.shape
    heads, value_dim = v.shape[2:]
    scale = key_dim**-0.5 if scale is None else scale

    def by_chunk(a):
        return a.reshape(batch, tokens // 64, 64, *a.shape[2:]).swapaxes(2, 3)

    q, k = (by_chunk(np.repeat(a, heads // key_heads, axis=2)) for a in (q, k))
    v, g = by_chunk(v), by_chunk(g[..., None])[..., 0]
    # Products of bf16 are exact in f32; a sum of n of them is off by at most n roundings of the sum of
    # magnitudes. exp is off by a few roundings, and by those of its argument times the argument.
    inter_size = (np.abs(q) @ np.abs(state).swapaxes(-1, -2)) * np.exp(g)[..., None]
    inter_error = inter_size * (key_dim + 6 + 3 * np.abs(g)[..., None]) * U
    causal = np.tri(64, dtype=bool)
    difference = np.where(causal, g[..., :, None] - g[..., None, :], 0.0)
    decay = np.where(causal, np.exp(difference), 0.0)
    a = (q @ k.swapaxes(-1, -2)) * decay
    a_error = (np.abs(q) @ np.abs(k).swapaxes(-1, -2)) * decay * (key_dim + 6 + 4 * np.abs(difference)) * U
    rounded, low, high = (t.astype(BF16).astype(np.float64) for t in (a, a - a_error, a + a_error))
    slack = np.maximum(high - rounded, rounded - low)
    intra_error = slack @ np.abs(v) + (np.abs(rounded) @ np.abs(v)) * 64 * U
    o_size = inter_size + np.abs(rounded) @ np.abs(v)
    error = (inter_error + intra_error + 3 * U * o_size) * abs(scale)
    return error.swapaxes(2, 3).reshape(batch, tokens, heads, value_dim)


def gated_delta_arrays(rng, batch, tokens, key_heads, heads, key_dim, value_dim):
    def unit(*shape):
        a = rng.standard_normal(shape)
        return (a / np.linalg.norm(a, axis=-1, keepdims=True)).astype(BF16)

    steps = -rng.gamma(0.6, 0.4, (batch, tokens // 64, 64, heads))
    return {
        "q": unit(batch, tokens, key_heads, key_dim),
        "k": unit(batch, tokens, key_heads, key_dim),
        "v": rng.standard_normal((batch, tokens, heads, value_dim)).astype(BF16),
        "state": rng.standard_normal((batch, tokens // 64, heads, value_dim, key_dim)).astype(BF16),
        "g": np.cumsum(steps, axis=2).reshape(batch, tokens, heads).astype(np.float32),
    }


def gated_delta_cases():
    for turn, sizes in enumerate(
        (
            (1, 64, 1, 1, 64, 32),
            (2, 128, 2, 6, 128, 64),
            (1, 192, 3, 3, 64, 96),
            (1, 64, 1, 4, 256, 256),
            (2, 64, 2, 2, 128, 160),
            (1, 128, 16, 32, 128, 128),
            (3, 256, 1, 3, 256, 32),
        )
    ):
        label = "B{}-T{}-Hg{}-H{}-K{}-V{}".format(*sizes)
        options = ({}, {"scale": -0.375})[turn % 2]
        yield Case(
            "gated_delta_net_chunk_o",
            label,
            lambda rng, sizes=sizes: gated_delta_arrays(rng, *sizes),
            gated_delta_error,
            options,
        )


# --- elementwise ----------------------------------------------------------------------------------


def arithmetic_error(operation):
    """One rounding. A subnormal result is rounded to a multiple of 2^-149."""

    def error(a, b):
        return np.abs(operation(a, b)) * U + 2.0**-149

    return error


def gated_error(operation, argument):
    """`argument` is what the exponential of the operation gets; an error of it is one of the exponential."""

    def error(gate, up):
        t = argument(gate.astype(np.float64))
        relative = 10 + 6 * np.minimum(np.abs(t), 110)
        size = np.abs(operation(gate, up))
        # The exponential is 0 or subnormal where the gate is far below 0, and a multiple of 2^-149.
        return size * relative * U + 2.0**-148 * (1 + 110 * np.abs(up.astype(np.float64)))

    return error


def gelu_argument(gate):
    return np.sqrt(8 / np.pi) * (gate + 0.044715 * gate**3)


ELEMENTWISE = {
    "add": (("a", "b"), arithmetic_error(reference.add)),
    "mul": (("a", "b"), arithmetic_error(reference.mul)),
    "silu_mul": (("gate", "up"), gated_error(reference.silu_mul, lambda gate: gate)),
    "gelu_mul": (("gate", "up"), gated_error(reference.gelu_mul, gelu_argument)),
}
# Around the 16 or 32 elements that are taken at once, the blocks of 4096 and 16384, and past the caches.
ELEMENTWISE_SHAPES = ((1,), (3, 5), (31,), (32,), (2, 3, 7, 11), (65, 63), (4097,), (3, 5461), (5, 16384))
LARGE_ELEMENTWISE = {F32: (1031, 2053), F16: (2063, 2053), BF16: (2063, 2053)}


def elementwise_cases():
    for op, (names, error) in ELEMENTWISE.items():
        for dtype in FLOATS:
            for shape in (*ELEMENTWISE_SHAPES, LARGE_ELEMENTWISE[dtype]):

                def make(rng, names=names, shape=shape, dtype=dtype):
                    return {name: values(rng, shape, dtype) for name in names}

                yield Case(op, f"{dtype}-{'x'.join(map(str, shape))}", make, error, in_place=names)


CASES = [
    *rms_norm_cases(),
    *rms_norm_mul_cases(),
    *rope_cases("fused_head_norm_rope", fused_error),
    *rope_cases("rope_neox", rope_error),
    *vision_cases(),
    *im2col_cases(),
    *gated_delta_cases(),
    *elementwise_cases(),
]
over_cases = pytest.mark.parametrize("case", CASES, ids=str)


def result_like(case: Case, arrays: dict[str, np.ndarray]) -> tuple[tuple[int, ...], np.dtype]:
    first = next(iter(arrays.values())) if case.op != "gated_delta_net_chunk_o" else arrays["v"]
    return case.oracle(arrays).shape, first.dtype


@over_cases
def test_matches_the_oracle(dev, rng, case):
    arrays = case.make(rng)
    shape, dtype = result_like(case, arrays)
    inputs = {name: dev.array(a) for name, a in arrays.items()}
    out = poisoned(dev, shape, dtype)
    with dev.commands() as cmd:
        allocated = case.encode(cmd, inputs)
        assert case.encode(cmd, inputs, out=out) is out
        assert cmd.dispatch_count == 2
    case.check(out, arrays)
    assert allocated.shape == shape
    assert allocated.dtype == dtype
    np.testing.assert_array_equal(
        bits(np.asarray(allocated)), bits(np.asarray(out)), err_msg="out= and allocated"
    )
    for name, a in arrays.items():
        np.testing.assert_array_equal(bits(np.asarray(inputs[name])), bits(a), err_msg=f"{name} changed")


@over_cases
def test_works_on_views_without_alignment(dev, rng, case):
    arrays = case.make(rng)
    shape, dtype = result_like(case, arrays)
    inputs = {name: Guarded(dev, a, lead=1) for name, a in arrays.items()}
    out = Guarded(dev, np.full(shape, np.nan, dtype), lead=3)
    with dev.commands() as cmd:
        case.encode(cmd, {name: g.view for name, g in inputs.items()}, out=out.view)
    case.check(out.view, arrays)
    out.assert_guards_intact("out")
    for name, guarded in inputs.items():
        guarded.assert_guards_intact(name)
        np.testing.assert_array_equal(
            bits(np.asarray(guarded.view)), bits(arrays[name]), err_msg=f"{name} changed"
        )


@pytest.mark.parametrize(
    ("case", "name"), [pytest.param(c, n, id=f"{c}-{n}") for c in CASES for n in c.in_place]
)
def test_works_in_place(dev, rng, case, name):
    arrays = case.make(rng)
    inputs = {key: dev.array(a) for key, a in arrays.items()}
    with dev.commands() as cmd:
        assert case.encode(cmd, inputs, out=inputs[name]) is inputs[name]
    case.check(inputs[name], arrays)


def with_special_values(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """x with NaN, infinities, subnormals, zeros and large values, one kind per row."""
    smallest = float(np.finfo(np.float32).tiny) if x.dtype != F16 else 2.0**-14
    rows = x.reshape(-1, x.shape[-1])
    for i in range(min(len(rows), 64)):
        row, somewhere = rows[i], rng.integers(0, x.shape[-1], 2)
        match (i + rng.integers(0, 7) * (len(rows) == 1)) % 7:
            case 0:
                row[somewhere[0]] = np.nan
            case 1:
                row[somewhere[0]] = -np.inf
            case 2:
                row[somewhere] = np.inf
            case 3:  # nothing but subnormals
                row[:] = (rng.uniform(-1, 1, row.shape) * smallest).astype(x.dtype)
            case 4:
                row[:] = -0.0
            case 5:  # near the largest f16; for the others as large as a square in f32 allows
                row[:] = (rng.uniform(-1, 1, row.shape) * (65504.0 if x.dtype == F16 else 1e15)).astype(
                    x.dtype
                )
            case _:  # one value that dwarfs the rest
                row[somewhere[0]] = 3e4 if x.dtype == F16 else 1e12
    return x


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.op not in ("im2col_2d", "gated_delta_net_chunk_o")], ids=str
)
def test_special_values_propagate_as_in_the_oracle(dev, rng, case):
    arrays = case.make(rng)
    first = next(iter(arrays))
    arrays[first] = with_special_values(rng, arrays[first])
    inputs = {name: dev.array(a) for name, a in arrays.items()}
    with dev.commands() as cmd:
        out = case.encode(cmd, inputs)
    case.check(out, arrays)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise_on_all_that_is_large_or_small(dev, op, dtype):
    """Pairs from the whole range of the type: what is finite must not pass through inf or NaN."""
    info = ml_dtypes.finfo(dtype)
    steps = np.exp2(np.arange(info.minexp - info.nmant, info.maxexp, 1.0))
    steps = np.concatenate(
        [steps, 1.37 * steps[:-1], np.arange(0.5, 120, 0.25), [0, float(info.max), np.inf]]
    )
    some = np.concatenate([steps, -steps, [np.nan]]).astype(dtype)
    names, error = ELEMENTWISE[op]
    arrays = dict(zip(names, np.broadcast_arrays(some[:, None], some[None, ::5]), strict=True))
    arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    with dev.commands() as cmd:
        y = getattr(ml.ops, op)(cmd, **{name: dev.array(a) for name, a in arrays.items()})
    with np.errstate(all="ignore"):
        assert_close(np.asarray(y), getattr(reference, op)(**arrays), error(**arrays))


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise_takes_one_array_twice(dev, rng, op):
    _, error = ELEMENTWISE[op]
    a = values(rng, (7, 143), F32)
    x = dev.array(a)
    with dev.commands() as cmd:
        y = getattr(ml.ops, op)(cmd, x, x)
        getattr(ml.ops, op)(cmd, x, x, out=x)
    assert_close(np.asarray(y), getattr(reference, op)(a, a), error(a, a))
    np.testing.assert_array_equal(bits(np.asarray(x)), bits(np.asarray(y)))


def test_elementwise_takes_an_array_without_axes(dev):
    with dev.commands() as cmd:
        y = ml.ops.add(cmd, dev.array(np.float32(2)), dev.array(np.float32(3)))
    assert y.shape == ()
    assert y.item() == 5


@pytest.mark.parametrize("heads", [3, 4096])  # stored through the caches and past them
@pytest.mark.parametrize("form", ["cached", "positions"])
@pytest.mark.parametrize("half", [0, 5, 24])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_rope_neox_moves_what_has_no_partner_bit_for_bit(dev, rng, dtype, half, form, heads):
    """NaN payloads included, into another buffer and in place."""
    tokens, dim = 17, 64
    count = tokens * heads * dim
    x = rng.integers(0, 256, count * dtype.itemsize, np.uint8).view(dtype).reshape(tokens, heads, dim)
    distance = half if form == "cached" else dim // 2
    left = np.ones(dim, bool)
    left[:half] = left[distance : distance + half] = False
    if form == "cached":
        tables = {name: dev.array(np.ones(max(half, 1), F32)) for name in ("cos", "sin")}
    else:
        tables = {"positions": dev.array(np.arange(tokens, dtype=np.int32))}
    given = dev.array(x)
    with dev.commands() as cmd:
        y = ml.ops.rope_neox(cmd, given, **tables, half_rope_dim=half)
        ml.ops.rope_neox(cmd, given, **tables, half_rope_dim=half, out=given)
    for got in (y, given):
        np.testing.assert_array_equal(bits(np.asarray(got))[..., left], bits(x)[..., left])


@pytest.mark.parametrize("form", ["cached", "positions"])
def test_rope_neox_turns_as_the_fused_operation_does(dev, rng, form):
    """On f32 the norm and then the rotation give what the fused operation gives, but for the last bits."""
    tokens, heads, dim = 9, 5, 128
    x = dev.array(values(rng, (tokens, heads, dim), F32))
    if form == "cached":
        tables = {name: dev.array(rng.standard_normal((tokens, 64), F32)) for name in ("cos", "sin")}
    else:
        tables = {"positions": dev.array(rng.integers(0, 100_000, tokens).astype(np.int32)), "theta": 1e6}
    with dev.commands() as cmd:
        fused = np.asarray(ml.ops.fused_head_norm_rope(cmd, x, **tables))
        apart = np.asarray(ml.ops.rope_neox(cmd, ml.ops.rms_norm(cmd, x), **tables))
    np.testing.assert_allclose(apart, fused, rtol=0, atol=8 * U * np.abs(fused).max())


def test_gated_delta_never_evaluates_masked_differences(dev, rng):
    """Decay so strong that exp(g_i - g_j) overflows above the diagonal must not show in the result."""
    arrays = gated_delta_arrays(rng, 1, 128, 2, 4, 64, 64)
    arrays["g"].reshape(2, 64, 4)[:, 30:] -= 300.0
    inputs = {name: dev.array(a) for name, a in arrays.items()}
    with dev.commands() as cmd:
        o = ml.ops.gated_delta_net_chunk_o(cmd, **inputs)
    assert np.isfinite(np.asarray(o)).all()
    assert_close(o, reference.gated_delta_net_chunk_o(**arrays), gated_delta_error(**arrays))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gated_delta_keeps_what_is_not_finite_where_it_belongs(dev, rng, bad):
    """One bad element of v reaches its own column, head and chunk, from its row on; no other."""
    arrays = gated_delta_arrays(rng, 1, 192, 1, 2, 64, 32)
    expected = reference.gated_delta_net_chunk_o(**arrays)
    error = gated_delta_error(**arrays)
    arrays["v"][0, 100, 1, 7] = bad
    inputs = {name: dev.array(a) for name, a in arrays.items()}
    with dev.commands() as cmd:
        o = np.asarray(ml.ops.gated_delta_net_chunk_o(cmd, **inputs))
    assert not np.isfinite(o[0, 100:128, 1, 7]).any()
    # Rows 64 to 99 multiply it by a masked zero, or skip it: either is right.
    affected = np.zeros(o.shape, bool)
    affected[0, 64:128, 1, 7] = True
    assert_close(np.where(affected, 0, o), np.where(affected, 0, expected), error)
