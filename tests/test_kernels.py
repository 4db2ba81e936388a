"""Kernels in the shape of those of real engines, tests/kernels/*.metal, against NumPy in float64.

Each runs on every device that there is and, where threads are checked, in several orders of them. Sizes are
odd, data is fresh in every run and outputs are full of junk beforehand.
"""

from __future__ import annotations

import functools
from pathlib import Path

import metalloid as ml
import numpy as np
import pytest
from support import BF16, F16, F32, U, assert_close

FOLDER = Path(__file__).parent / "kernels"
RUNS = [(name, seed) for name in ml.devices() for seed in ((0, 1, 7) if name == "simt" else (0,))]
NAMES = {F32: "float32", F16: "float16", BF16: "bfloat16"}
METAL = {F32: "float", F16: "half", BF16: "bfloat"}


@functools.cache
def library(device: str, file: str):
    return ml.Device(device).compile(FOLDER / f"{file}.metal")


class Gpu:
    """A device that runs the kernels of one file."""

    def __init__(self, device: str, file: str) -> None:
        self.dev = ml.Device(device)
        self.library = library(device, file)

    def buffer(self, value, *shape: int):
        """A copy of an array; or, of a type, an output full of junk."""
        if isinstance(value, np.ndarray):
            return self.dev.array(value)
        out = self.dev.empty(shape, value)
        out.numpy().view(np.uint8)[...] = 0xA5
        return out

    def __call__(self, name: str, *args, constants=None, **geometry) -> None:
        with self.dev.commands(name) as cmd:
            self.encode(cmd, name, *args, constants=constants, **geometry)

    def encode(self, cmd, name: str, *args, constants=None, **geometry) -> None:
        """Arrays and buffers are bound as they are, everything else is an argument by value."""
        kernel = self.library.kernel(name, constants=constants or {})
        bound = [self.dev.array(a) if isinstance(a, np.ndarray) and a.ndim else a for a in args]
        cmd.dispatch(kernel, args=bound, **geometry)


@pytest.fixture
def gpu(request):
    device, seed, file = request.param
    before = ml.check_settings().seed
    ml.set_check_settings(seed=seed)
    yield Gpu(device, file)
    ml.set_check_settings(seed=before)


def kernels(file: str):
    """Runs a test with the kernels of a file, on each device."""
    ids = [f"{device}-{seed}" if device == "simt" else device for device, seed in RUNS]
    return pytest.mark.parametrize("gpu", [(*run, file) for run in RUNS], ids=ids, indirect=True)


def normal(rng, *shape: int, dtype=F32) -> np.ndarray:
    return rng.standard_normal(shape, np.float32).astype(dtype)


def f64(a) -> np.ndarray:
    return np.asarray(a).astype(np.float64)


def record(**members) -> np.ndarray:
    """A struct argument."""
    values = {name: np.asarray(value) for name, value in members.items()}
    dtype = np.dtype([(name, v.dtype, v.shape) for name, v in values.items()], align=True)
    return np.array(tuple(members.values()), dtype)[()]


def i32(**members: int) -> dict:
    return {name: np.int32(value) for name, value in members.items()}


def u32(**members: int) -> dict:
    return {name: np.uint32(value) for name, value in members.items()}


def groups(n: int, size: int) -> int:
    return -(-n // size)


def dot_error(magnitude: np.ndarray, n: int) -> np.ndarray:
    """What a sum of n products in f32 may be off by, in any order; `magnitude` sums their absolutes."""
    return (n + 8) * U * magnitude


# Mat-vec with quantised weights.


@kernels("quantized_blocks")
@pytest.mark.parametrize("columns, rows", [(32, 1), (37 * 32, 13), (64 * 32, 8)])
def test_mat_vec_of_4_bit_blocks(gpu, rng, columns, rows):
    scale = rng.uniform(0.01, 1, (rows, columns // 32)).astype(F16)
    q = rng.integers(0, 16, (rows, columns // 32, 32), np.uint8)
    blocks = np.concatenate([scale[..., None].view(np.uint8), q[..., :16] | q[..., 16:] << 4], axis=-1)
    y = normal(rng, columns)
    out = gpu.buffer(F32, rows)
    args = record(**i32(columns=columns, rows=rows), row_bytes=np.uint64(blocks[0].nbytes))
    src0, src1, dst = (ml.reinterpret(b) for b in (gpu.buffer(blocks), gpu.buffer(y), out))
    gpu("kernel_mul_mv_q4_f32", args, src0, src1, dst, threadgroups=groups(rows, 8), threadgroup=64)
    d = f64(scale)[..., None]
    weights = (d * (f64(q) - 8)).reshape(rows, columns)
    magnitude = ((d * (f64(q) + 8)).reshape(rows, columns) * np.abs(f64(y))).sum(1)
    assert_close(out.numpy(), weights @ f64(y), dot_error(magnitude, columns))


@kernels("quantized_blocks")
@pytest.mark.parametrize("columns, rows", [(32, 1), (37 * 32, 13)])
def test_mat_vec_of_8_bit_blocks(gpu, rng, columns, rows):
    scale = rng.uniform(0.01, 1, (rows, columns // 32)).astype(F16)
    q = rng.integers(-127, 128, (rows, columns // 32, 32), np.int8)
    blocks = np.concatenate([scale[..., None].view(np.uint8), q.view(np.uint8)], axis=-1)
    y = normal(rng, columns)
    out = gpu.buffer(F32, rows)
    args = record(**i32(columns=columns, rows=rows), row_bytes=np.uint64(blocks[0].nbytes))
    gpu("kernel_mul_mv_q8_f32", args, gpu.buffer(blocks), y, out, threadgroups=rows, threadgroup=32)
    weights = (f64(scale)[..., None] * f64(q)).reshape(rows, columns)
    assert_close(out.numpy(), weights @ f64(y), dot_error(np.abs(weights) @ np.abs(f64(y)), columns))


@kernels("quantized_blocks")
@pytest.mark.parametrize("bits", [4, 8])
def test_quantisation_into_blocks(gpu, rng, bits):
    count = 21
    x = normal(rng, count, 32)
    x[3] = 0
    size = 2 + 4 * bits
    out = gpu.buffer(np.uint8, count, size)
    gpu(f"kernel_quantize_q{bits}", x, out, count, threadgroups=groups(count, 4), threadgroup=128)
    raw = out.numpy()
    scale = f64(raw[:, :2].copy().view(F16))
    if bits == 8:
        largest = np.abs(x).max(1, keepdims=True)
        want, q = f64(largest) / 127, f64(raw[:, 2:].copy().view(np.int8))
        reach = 0.5
    else:
        largest = np.take_along_axis(x, np.abs(x).argmax(1)[:, None], 1)
        want = f64(largest) / -8
        q = f64(np.concatenate([raw[:, 2:] & 15, raw[:, 2:] >> 4], axis=1)) - 8
        reach = 1.0  # a value of the other sign may be out of range by up to one step
    assert_close(scale.astype(F16), want, 4 * U * np.abs(want))
    # Rounded to the nearest step; the scale that was stored is rounded to half besides.
    slack = 2.0**-11 * np.abs(f64(x)) + 1e-6
    assert (np.abs(q * scale - f64(x)) <= reach * np.abs(want) * 1.001 + slack).all()


@kernels("quantized_affine")
@pytest.mark.parametrize(
    "dtype, group, bits", [(F32, 32, 4), (F32, 64, 8), (F16, 64, 4), (BF16, 32, 4), (BF16, 64, 2)]
)
def test_mat_vec_of_groups(gpu, rng, dtype, group, bits):
    batch, rows, columns = 3, 13, 9 * 64
    q = rng.integers(0, 2**bits, (rows, columns), np.uint32)
    shifts = np.arange(32 // bits, dtype=np.uint32) * bits
    packed = np.bitwise_or.reduce(q.reshape(rows, -1, 32 // bits) << shifts, axis=-1)
    scales = rng.uniform(0.01, 0.2, (rows, columns // group)).astype(dtype)
    biases = normal(rng, rows, columns // group, dtype=dtype)
    x = normal(rng, batch, columns, dtype=dtype)
    out = gpu.buffer(dtype, batch, rows)
    name = f"affine_qmv_{METAL[dtype]}_gs_{group}_b_{bits}"
    gpu(
        name,
        packed,
        scales,
        biases,
        x,
        out,
        columns,
        rows,
        threadgroups=(batch, groups(rows, 8)),
        threadgroup=64,
    )
    s, b = (np.repeat(f64(a), group, axis=1) for a in (scales, biases))
    magnitude = np.abs(f64(x)) @ (s * q + np.abs(b)).T
    assert_close(out.numpy(), f64(x) @ (s * q + b).T, 2 * dot_error(magnitude, columns))


# Attention.


def attention(q, k, v, scale, keep=None):
    """The result in float64, and a bound of the error of an evaluation in f32."""
    q, k, v = f64(q), f64(k), f64(v)
    scores = q @ k.swapaxes(-1, -2) * scale
    error = dot_error(np.abs(q) @ np.abs(k).swapaxes(-1, -2) * scale, q.shape[-1])
    if keep is not None:
        scores, error = np.where(keep, scores, -np.inf), np.where(keep, error, 0)
    scores -= scores.max(-1, keepdims=True)
    p = np.exp(scores)
    p /= p.sum(-1, keepdims=True)
    # Twice the error of a score: its own and that of the largest; then exp, rescaling at each step and sums.
    relative = 2 * error.max(-1, keepdims=True) + 4 * (q.shape[-1] + k.shape[-2] + 50) * U
    return p @ v, relative * (p @ np.abs(v)) * 2


@kernels("attention")
@pytest.mark.parametrize(
    "dtype, dim, keys, mask",
    [
        (F32, 64, 1, False),
        (F32, 64, 77, True),
        (F32, 128, 33, False),
        (F16, 64, 40, True),
        (BF16, 96, 5, False),
    ],
)
def test_attention_of_one_query(gpu, rng, dtype, dim, keys, mask):
    heads, shared = 6, 2
    q = normal(rng, heads, 1, dim, dtype=dtype)
    k, v = (normal(rng, heads // shared, keys, dim, dtype=dtype) for _ in "kv")
    keep = rng.random((heads, keys)) < 0.7
    keep[:, 0] = True
    out = gpu.buffer(dtype, heads, 1, dim)
    scale = np.float32(dim**-0.5)
    args = dict(queries=q, keys=k, values=v, out=out, gqa_factor=shared, N=keys, scale=scale)
    if mask:
        args["mask"] = keep
    kernel = gpu.library.kernel(f"sdpa_vector_{METAL[dtype]}_{dim}", constants={"has_mask": mask})
    args = {n: gpu.dev.array(a) if isinstance(a, np.ndarray) else a for n, a in args.items()}
    with gpu.dev.commands() as cmd:
        cmd.dispatch(kernel, threadgroups=heads, threadgroup=256, args=args)
    k, v = (np.repeat(a, shared, axis=0) for a in (k, v))
    assert_close(out.numpy(), *attention(q, k, v, scale, keep[:, None] if mask else None))


@kernels("attention")
@pytest.mark.parametrize(
    "dtype, dim, queries, keys, causal",
    [(F32, 32, 21, 45, False), (F32, 32, 37, 37, True), (F16, 64, 9, 33, False), (F16, 64, 16, 16, True)],
)
def test_flash_attention(gpu, rng, dtype, dim, queries, keys, causal):
    heads, simdgroups = 2, 2
    q = normal(rng, heads, queries, dim, dtype=dtype)
    k, v = (normal(rng, heads, keys, dim, dtype=dtype) for _ in "kv")
    out = gpu.buffer(F32, heads, queries, dim)
    scale = np.float32(dim**-0.5)
    params = record(**i32(heads=heads, queries=queries, keys=keys), scale=scale)
    memory = ml.threadgroup_memory((simdgroups * 8 + 2 * 32) * dim * dtype.itemsize)
    gpu(
        f"flash_attention_{'f32' if dtype == F32 else 'f16'}_d{dim}", params, q, k, v, out, memory,
        constants={"do_causal": causal},
        threadgroups=(groups(queries, 8 * simdgroups), heads), threadgroup=32 * simdgroups,
    )  # fmt: skip
    keep = np.tril(np.ones((queries, keys), bool)) if causal else None
    assert_close(out.numpy(), *attention(q, k, v, scale, keep))


@kernels("attention")
@pytest.mark.parametrize("dtype, dim, queries, keys", [(F32, 32, 13, 29), (BF16, 64, 8, 8), (BF16, 64, 1, 3)])
def test_attention_in_registers(gpu, rng, dtype, dim, queries, keys):
    heads = 3
    q = normal(rng, heads, queries, dim, dtype=dtype)
    k, v = (normal(rng, heads, keys, dim, dtype=dtype) for _ in "kv")
    out = gpu.buffer(dtype, heads, queries, dim)
    scale = np.float32(dim**-0.5)
    params = record(**i32(heads=heads, queries=queries, keys=keys), scale=scale)
    name = f"register_attention_{'f32' if dtype == F32 else 'bf16'}_d{dim}"
    gpu(name, params, q, k, v, out, threadgroups=(groups(queries, 8), heads), threadgroup=32)
    assert_close(out.numpy(), *attention(q, k, v, scale))


# Rows.


@kernels("softmax")
@pytest.mark.parametrize("dtype", NAMES, ids=str)
@pytest.mark.parametrize(
    "form, dim, threads", [("block", 517, 160), ("block", 3, 32), ("looped", 1001, 96), ("looped", 31, 64)]
)
def test_softmax(gpu, rng, dtype, form, dim, threads):
    x = (normal(rng, 4, dim) * 5).astype(dtype)
    out = gpu.buffer(dtype, 4, dim)
    gpu(f"{form}_softmax_{NAMES[dtype]}", x, out, dim, threadgroups=4, threadgroup=threads)
    shifted = f64(x) - f64(x).max(1, keepdims=True)
    y = np.exp(shifted)
    y /= y.sum(1, keepdims=True)
    # exp of an argument that was rounded twice, rescaled at every new maximum of a loop.
    error = y * (4 * np.abs(shifted) + 2 * np.abs(shifted).max() + dim + 40) * U + 1e-37
    assert_close(out.numpy(), y, error)


@kernels("normalization")
@pytest.mark.parametrize("dtype", NAMES, ids=str)
@pytest.mark.parametrize("dim, threads", [(1, 32), (97, 32), (1030, 224)])
def test_layer_norm(gpu, rng, dtype, dim, threads):
    x = (normal(rng, 3, dim) + 2).astype(dtype)
    w, b = normal(rng, dim, dtype=dtype), normal(rng, dim, dtype=dtype)
    out = gpu.buffer(dtype, 3, dim)
    gpu(
        f"layer_norm_{NAMES[dtype]}", x, w, b, out, np.float32(1e-3), dim, threadgroups=3, threadgroup=threads
    )
    mean = f64(x).mean(1, keepdims=True)
    d = f64(x) - mean
    inverse = 1 / np.sqrt((d**2).mean(1, keepdims=True) + 1e-3)
    y = d * inverse * f64(w)
    mean_error = dot_error(np.abs(f64(x)).mean(1, keepdims=True), dim)
    error = (
        2 * mean_error * inverse * np.abs(f64(w)) + np.abs(y) * (dim + 20) * U * 2 + np.abs(f64(b)) * 4 * U
    )
    error = error + np.abs(y) * mean_error * inverse
    assert_close(out.numpy(), y + f64(b), error)


@kernels("normalization")
@pytest.mark.parametrize("dim, threads", [(4, 32), (1028, 256), (260, 1024)])
def test_rms_norm_of_32_lanes(gpu, rng, dim, threads):
    x = normal(rng, 5, dim)
    out = gpu.buffer(F32, 5, dim)
    args = record(**i32(ne00=dim, ne00_4=dim // 4), nb01=np.uint64(4 * dim), eps=np.float32(1e-6))
    src, dst = ml.reinterpret(gpu.buffer(x)), ml.reinterpret(out)
    memory = ml.threadgroup_memory(128)
    gpu("kernel_rms_norm_f32", args, src, dst, memory, threadgroups=5, threadgroup=threads)
    y = f64(x) / np.sqrt((f64(x) ** 2).mean(1, keepdims=True) + 1e-6)
    assert_close(out.numpy(), y, np.abs(y) * (dim + 16) * U)


@kernels("arg_reduce")
@pytest.mark.parametrize("dtype", [F32, F16, np.dtype(np.int32), np.dtype(np.uint8)], ids=str)
@pytest.mark.parametrize("operation", ["argmin", "argmax"])
@pytest.mark.parametrize("dim, threads", [(1, 32), (700, 96), (33, 1024)])
def test_arg_reduce(gpu, rng, dtype, operation, dim, threads):
    x = rng.integers(0, 100, (6, dim)).astype(dtype)  # with equal elements
    out = gpu.buffer(np.uint32, 6)
    gpu(f"{operation}_{dtype.name}", x, out, dim, threadgroups=6, threadgroup=threads)
    np.testing.assert_array_equal(out.numpy(), getattr(np, operation)(x, axis=1))


# Sorting and scanning.


@kernels("bitonic_sort")
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("columns, keep", [(1, 1), (100, 100), (256, 7)])
def test_sort_of_rows(gpu, rng, order, columns, keep):
    rows, threads = 3, max(32, 1 << (columns - 1).bit_length())
    x = rng.integers(-20, 20, (rows, columns)).astype(np.float32)
    index, values = gpu.buffer(np.int32, rows, keep), gpu.buffer(F32, rows, keep)
    memory = ml.threadgroup_memory(4 * threads)
    gpu(
        f"kernel_argsort_f32_{order}", x, index, values, columns, keep, memory, memory,
        threadgroups=(1, rows), threadgroup=threads,
    )  # fmt: skip
    want = np.argsort(x if order == "asc" else -x, axis=1, kind="stable")[:, :keep]
    np.testing.assert_array_equal(index.numpy(), want)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, want, 1))


@kernels("radix_sort")
@pytest.mark.parametrize("n", [1, 1000])
def test_radix_sort(gpu, rng, n):
    size = 128
    blocks = groups(n, size)
    source = rng.integers(0, 1 << 32, n, np.uint32) >> rng.integers(0, 20, n, np.uint32)
    keys = [gpu.buffer(source), gpu.buffer(np.uint32, n)]
    values = [gpu.buffer(np.arange(n, dtype=np.uint32)), gpu.buffer(np.uint32, n)]
    counts = gpu.buffer(np.uint32, 16 * blocks)
    with gpu.dev.commands("radix sort") as cmd:
        for shift in range(0, 32, 4):
            params = record(**u32(count=n, shift=shift, groups=blocks))
            gpu.encode(cmd, "radix_count", params, keys[0], counts, threadgroups=blocks, threadgroup=size)
            gpu.encode(cmd, "radix_scan", params, counts, threadgroups=1, threadgroup=32)
            gpu.encode(
                cmd, "radix_scatter", params, keys[0], values[0], counts, keys[1], values[1],
                threadgroups=blocks, threadgroup=size,
            )  # fmt: skip
            keys.reverse()
            values.reverse()
    want = np.argsort(source, kind="stable")
    np.testing.assert_array_equal(values[0].numpy(), want)
    np.testing.assert_array_equal(keys[0].numpy(), source[want])


SCANS = {
    "sum": (np.add.accumulate, 0),
    "prod": (np.multiply.accumulate, 1),
    "max": (np.maximum.accumulate, None),
}


@kernels("scan")
@pytest.mark.parametrize(
    "operation, dtype",
    [("sum", "float32"), ("sum", "int32"), ("prod", "float32"), ("max", "int32"), ("max", "float32")],
)
@pytest.mark.parametrize("inclusive", [True, False])
def test_scan_in_two_levels(gpu, rng, operation, dtype, inclusive):
    n, threads = 1731, 96
    block = 4 * threads
    blocks = groups(n, block)
    dtype = np.dtype(dtype)
    if operation == "prod":
        x = np.exp2(rng.uniform(-0.1, 0.1, n)).astype(dtype)
    elif dtype == F32:
        x = normal(rng, n)
    else:
        x = rng.integers(-1000, 1000, n).astype(dtype)
    accumulate, start = SCANS[operation]
    start = (np.finfo if dtype == F32 else np.iinfo)(dtype).min if start is None else start
    out, totals, scanned, rest = (gpu.buffer(dtype, k) for k in (n, blocks, blocks, 1))
    way = "inclusive" if inclusive else "exclusive"
    name = f"{operation}_{dtype.name}"
    with gpu.dev.commands() as cmd:
        gpu.encode(
            cmd, f"scan_{way}_{name}", gpu.buffer(x), out, totals, n, threadgroups=blocks, threadgroup=threads
        )
        gpu.encode(
            cmd, f"scan_exclusive_{name}", totals, scanned, rest, blocks, threadgroups=1, threadgroup=32
        )
        gpu.encode(cmd, f"scan_add_{name}", out, scanned, n, threadgroups=blocks, threadgroup=threads)
    exact = f64(x) if dtype == F32 else x.astype(np.int64)
    want = accumulate(exact if inclusive else np.concatenate([[start], exact[:-1]]))
    got = out.numpy()
    if operation == "sum" and dtype == F32:
        assert_close(got, want, dot_error(np.add.accumulate(np.abs(exact)), 64))
    elif operation == "prod":
        assert_close(got, want, want * n * U)
    else:
        np.testing.assert_array_equal(got, want.astype(dtype))


@kernels("scan")
@pytest.mark.parametrize("n", [1, 3001])
def test_scan_that_looks_back(gpu, rng, n):
    x = rng.integers(0, 1000, n, np.uint32)
    blocks = groups(n, 128)
    out = gpu.buffer(np.uint32, n)
    counter, published = np.zeros(1, np.uint32), np.zeros(blocks, np.uint32)
    gpu("scan_look_back", x, out, counter, published, n, threadgroups=blocks, threadgroup=128)
    np.testing.assert_array_equal(out.numpy(), np.cumsum(x))


@kernels("histogram")
@pytest.mark.parametrize("bins, weighted", [(256, False), (10, True)])
def test_histogram(gpu, rng, bins, weighted):
    n = 4099
    x = rng.integers(0, 256, n + 1, np.uint8)  # whole vectors of four
    weight = rng.integers(0, 8, n).astype(np.float32)  # whose sums are exact
    counts, weights = (gpu.buffer(np.zeros(bins, t)) for t in (np.uint32, np.float32))
    args = {"values": gpu.buffer(x), "counts": counts, "length": n, "local": ml.threadgroup_memory(4 * bins)}
    if weighted:
        args |= {"weights": weights, "weight_of": gpu.buffer(weight)}
    kernel = gpu.library.kernel("histogram", constants={"bins": bins, "weighted": weighted})
    with gpu.dev.commands() as cmd:
        cmd.dispatch(kernel, threads=(50, 9), threadgroup=(16, 4), args=args)
    which = x[:n].astype(np.int64) * bins >> 8
    np.testing.assert_array_equal(counts.numpy(), np.bincount(which, minlength=bins))
    want = np.bincount(which, weight, minlength=bins) if weighted else np.zeros(bins)
    np.testing.assert_array_equal(weights.numpy(), want)


# Matrices.


def gemm_params(m, n, k, lda, ldb, ldc, alpha=1.0, beta=0.0):
    sizes = i32(M=m, N=n, K=k, lda=lda, ldb=ldb, ldc=ldc)
    return record(**sizes, alpha=np.float32(alpha), beta=np.float32(beta))


@kernels("gemm")
@pytest.mark.parametrize(
    "kind, dtype, bm, bn, threads", [("f32", F32, 32, 16, (8, 8)), ("f16", F16, 16, 32, (8, 8))]
)
@pytest.mark.parametrize("transpose, source", [(False, False), (True, True)])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (37, 45, 29)])
def test_gemm_in_tiles(gpu, rng, kind, dtype, bm, bn, threads, transpose, source, m, n, k):
    a, b, c = normal(rng, m, k, dtype=dtype), normal(rng, k, n, dtype=dtype), normal(rng, m, n, dtype=dtype)
    stored = np.ascontiguousarray(b.T) if transpose else b
    out = gpu.buffer(dtype, m, n)
    args = {"A": gpu.buffer(a), "B": gpu.buffer(stored), "D": out}
    args["p"] = gemm_params(m, n, k, k, stored.shape[1], n, alpha=1.5, beta=0.5)
    if source:
        args["C"] = gpu.buffer(c)
    kernel = gpu.library.kernel(
        f"gemm_tiled_{kind}", constants={"transpose_b": transpose, "use_out_source": source}
    )
    with gpu.dev.commands() as cmd:
        cmd.dispatch(kernel, threadgroups=(groups(n, bn), groups(m, bm)), threadgroup=threads, args=args)
    want, magnitude = 1.5 * (f64(a) @ f64(b)), 1.5 * (np.abs(f64(a)) @ np.abs(f64(b)))
    if source:
        want, magnitude = want + 0.5 * f64(c), magnitude + 0.5 * np.abs(f64(c))
    assert_close(out.numpy(), want, dot_error(magnitude, k))


@kernels("gemm")
@pytest.mark.parametrize(
    "kind, dtype, bm, bn, bk, simdgroups",
    [
        ("f32_32x32", F32, 32, 32, 16, 4),
        ("f16_32x32", F16, 32, 32, 16, 4),
        ("bf16_16x64", BF16, 16, 64, 8, 2),
    ],
)
@pytest.mark.parametrize("transpose", [False, True])
def test_gemm_of_simdgroup_matrices(gpu, rng, kind, dtype, bm, bn, bk, simdgroups, transpose):
    batch, m, n, k = 2, 41, 71, 37
    a, b = normal(rng, batch, m, k, dtype=dtype), normal(rng, batch, k, n, dtype=dtype)
    stored = np.ascontiguousarray(b.swapaxes(1, 2)) if transpose else b
    out = gpu.buffer(dtype, batch, m, n)
    pad = 16 // dtype.itemsize
    shared = ml.threadgroup_memory((bm * (bk + pad) + bk * (bn + pad)) * dtype.itemsize)
    staging = ml.threadgroup_memory(256 * simdgroups)
    params = gemm_params(m, n, k, k, stored.shape[2], n)
    gpu(
        f"gemm_simdgroup_{kind}", a, stored, out, params, shared, staging,
        constants={"transpose_b": transpose},
        threadgroups=(groups(n, bn), groups(m, bm), batch), threadgroup=32 * simdgroups,
    )  # fmt: skip
    assert_close(out.numpy(), f64(a) @ f64(b), dot_error(np.abs(f64(a)) @ np.abs(f64(b)), k))


@kernels("gemm")
def test_gemm_of_whole_tiles(gpu, rng):
    m, n, k = 24, 16, 40
    a, b = normal(rng, m, k), normal(rng, k, n)
    out = gpu.buffer(F32, m, n)
    gpu("gemm_8x8", a, b, out, k, threadgroups=(n // 8, m // 8), threadgroup=32)
    assert_close(out.numpy(), f64(a) @ f64(b), dot_error(np.abs(f64(a)) @ np.abs(f64(b)), k))


@kernels("mat_vec")
@pytest.mark.parametrize("name, dtype", [("f32", F32), ("f16", F16), ("bf16", BF16)])
@pytest.mark.parametrize("rows, columns", [(1, 1), (13, 301), (9, 516)])
def test_mat_vec(gpu, rng, name, dtype, rows, columns):
    m, x = normal(rng, rows, columns, dtype=dtype), normal(rng, columns)
    out = gpu.buffer(F32, rows)
    gpu(f"mat_vec_{name}", columns, rows, m, x, out, threadgroups=groups(rows, 4), threadgroup=128)
    assert_close(out.numpy(), f64(m) @ f64(x), dot_error(np.abs(f64(m)) @ np.abs(f64(x)), columns))


@kernels("mat_vec")
def test_sparse_mat_vec(gpu, rng):
    rows, columns = 83, 61
    dense = normal(rng, rows, columns) * (rng.random((rows, columns)) < 0.2)
    r, c = np.nonzero(dense)
    starts = np.searchsorted(r, np.arange(rows + 1)).astype(np.uint32)
    x, out = normal(rng, columns), gpu.buffer(F32, rows)
    args = (starts, c.astype(np.uint32), dense[r, c].astype(F32), x, out, rows)
    gpu("sparse_mat_vec", *args, threads=groups(4 * rows, 32) * 32, threadgroup=96)
    assert_close(out.numpy(), f64(dense) @ f64(x), dot_error(np.abs(f64(dense)) @ np.abs(f64(x)), columns))


@kernels("mat_vec")
def test_mat_vec_by_columns(gpu, rng):
    rows, columns = 21, 77
    m, x = normal(rng, columns, rows), normal(rng, columns)
    out = gpu.buffer(F32, rows)
    shape = np.array([rows // 3, columns], np.uint32)
    args = {
        "matrix": gpu.buffer(m),
        "x": gpu.buffer(x),
        "y": out,
        "shape": shape,
        "partial": ml.threadgroup_memory(1024),
    }
    with gpu.dev.commands() as cmd:
        cmd.dispatch(gpu.library.kernel("mat_vec_columns"), threadgroups=rows // 3, threadgroup=64, args=args)
    assert_close(out.numpy(), f64(x) @ f64(m), dot_error(np.abs(f64(x)) @ np.abs(f64(m)), columns))


@kernels("fourier")
@pytest.mark.parametrize("inverse", [False, True])
def test_fourier_transform(gpu, rng, inverse):
    x = (rng.standard_normal((3, 256)) + 1j * rng.standard_normal((3, 256))).astype(np.complex64)
    out = gpu.buffer(F32, 3, 256, 2)
    gpu("ifft_256" if inverse else "fft_256", x.view(F32), out, threadgroups=3, threadgroup=128)
    want = (np.fft.ifft if inverse else np.fft.fft)(x.astype(np.complex128))
    # Eight stages, each with a product and a sum, and a sine and cosine of relaxed accuracy.
    error = 8 * 16 * U * np.abs(x).sum(1) / (256 if inverse else 1)
    assert_close(out.numpy(), want.view(np.float64).reshape(3, 256, 2), error[:, None, None])


# Positions and indices.


@kernels("rope")
@pytest.mark.parametrize("form", ["norm", "neox"])
@pytest.mark.parametrize("dtype", [F32, F16], ids=str)
@pytest.mark.parametrize("head_dim, turned", [(64, 64), (80, 32)])
def test_rotary_embedding(gpu, rng, form, dtype, head_dim, turned):
    tokens, heads = 5, 3
    x = normal(rng, tokens, heads, head_dim, dtype=dtype)
    positions = rng.integers(0, 5000, tokens, np.int32)
    out = gpu.buffer(dtype, tokens, heads, head_dim)
    sizes = i32(head_dim=head_dim, n_dims=turned, heads=heads, tokens=tokens)
    args = record(**sizes, freq_base=np.float32(10000), freq_scale=np.float32(0.5))
    name = f"kernel_rope_{form}_{'f32' if dtype == F32 else 'f16'}"
    gpu(name, args, x, positions, out, threadgroups=(heads, tokens), threadgroup=32)
    angle = positions[:, None] * 0.5 * 10000.0 ** (-2 * np.arange(turned // 2) / turned)
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    want, error = f64(x), np.zeros(x.shape)
    first = slice(0, turned, 2) if form == "norm" else slice(0, turned // 2)
    second = slice(1, turned, 2) if form == "norm" else slice(turned // 2, turned)
    a, b = f64(x)[..., first], f64(x)[..., second]
    want[..., first], want[..., second] = a * c - b * s, a * s + b * c
    # A power is as exact as its exponent, log2(10000) = 13.3 at most, times a few roundings.
    bound = (np.abs(a) + np.abs(b)) * (64 * np.abs(angle)[:, None] + 8) * U
    error[..., first] = error[..., second] = bound
    assert_close(out.numpy(), want, error)


@kernels("indexing")
@pytest.mark.parametrize(
    "name, dtype, index",
    [
        ("f16_i32", F16, np.int32),
        ("f32_i64", F32, np.int64),
        ("bf16_i32", BF16, np.int32),
        ("u8_i64", np.uint8, np.int64),
    ],
)
def test_gather_of_rows(gpu, rng, name, dtype, index):
    vocabulary, dim = 37, 50
    table = (rng.standard_normal((vocabulary, dim)) * 50 + 100).astype(dtype)
    rows = rng.integers(-vocabulary, vocabulary, 23).astype(index)
    out = gpu.buffer(dtype, 23, dim)
    gpu(f"gather_{name}", table, rows, out, dim, vocabulary, threads=(dim, 23), threadgroup=(32, 4))
    assert (out.numpy() == table[rows]).all()


@kernels("indexing")
def test_paged_key_value_cache(gpu, rng):
    heads, dim, page, pages, tokens = 3, 40, 8, 11, 30
    params = record(**u32(heads=heads, head_dim=dim, block_size=page, max_blocks=pages))
    table = rng.permutation(pages)[: groups(tokens, page)].astype(np.uint32)
    k, v = normal(rng, tokens + 2, heads, dim, dtype=F16), normal(rng, tokens + 2, heads, dim, dtype=F16)
    slots = np.full(tokens + 2, -1, np.int32)  # two padded tokens at the end
    at = np.arange(tokens)
    slots[:tokens] = table[at // page] * page + at % page
    caches = [gpu.buffer(np.zeros((pages * page, heads, dim), F16)) for _ in "kv"]
    q, scores = normal(rng, heads, dim, dtype=F16), gpu.buffer(F32, heads, tokens)
    with gpu.dev.commands() as cmd:
        gpu.encode(cmd, "cache_scatter", params, gpu.buffer(k), gpu.buffer(v), gpu.buffer(slots), *caches,
                   threadgroups=tokens + 2, threadgroup=48)  # fmt: skip
        gpu.encode(cmd, "paged_scores", params, gpu.buffer(q), caches[0], gpu.buffer(table), scores, tokens,
                   threadgroups=(5, heads), threadgroup=64)  # fmt: skip
    for cache, source in zip(caches, (k, v), strict=True):
        want = np.zeros((pages * page, heads, dim), F16)
        want[slots[:tokens]] = source[:tokens]
        assert (cache.numpy() == want).all()
    keys = f64(k[:tokens]).swapaxes(0, 1)
    magnitude = (np.abs(keys) @ np.abs(f64(q))[..., None])[..., 0]
    assert_close(scores.numpy(), (keys @ f64(q)[..., None])[..., 0], dot_error(magnitude, dim))


@kernels("indexing")
@pytest.mark.parametrize("experts, top_k", [(5, 1), (40, 4), (64, 8)])
def test_mixture_of_experts(gpu, rng, experts, top_k):
    tokens, rows, columns = 6, 19, 45
    logits = rng.permutation(tokens * experts).reshape(tokens, experts).astype(F32) / 10
    matrices, x = normal(rng, experts, rows, columns, dtype=F16), normal(rng, tokens, columns)
    chosen, weights = gpu.buffer(np.uint32, tokens, top_k), gpu.buffer(F32, tokens, top_k)
    out = gpu.buffer(F32, tokens, rows)
    shape = [rows, columns, top_k, 0]
    with gpu.dev.commands() as cmd:
        gpu.encode(cmd, "moe_route", gpu.buffer(logits), chosen, weights, experts, top_k, threadgroups=tokens,
                   threadgroup=32)  # fmt: skip
        gpu.encode(cmd, "moe_mat_vec", gpu.buffer(matrices), gpu.buffer(x), chosen, weights, out, shape,
                   threadgroups=(groups(rows, 2), tokens), threadgroup=64)  # fmt: skip
    best = np.argsort(-logits, axis=1)[:, :top_k]
    np.testing.assert_array_equal(chosen.numpy(), best)
    w = np.exp(f64(np.take_along_axis(logits, best, 1)) - f64(logits.max(1, keepdims=True)))
    w /= w.sum(1, keepdims=True)
    assert_close(weights.numpy(), w, w * 80 * U)
    picked = f64(matrices)[best]
    want = np.einsum("tk,tkrc,tc->tr", w, picked, f64(x))
    magnitude = np.einsum("tk,tkrc,tc->tr", w, np.abs(picked), np.abs(f64(x)))
    assert_close(out.numpy(), want, dot_error(magnitude, columns + 80))


# Images, sequences and layouts.


@kernels("convolution")
@pytest.mark.parametrize("name, dtype, size", [("f32_k3", F32, 3), ("f16_k5", F16, 5)])
@pytest.mark.parametrize("bias, activation", [(True, None), (False, 1), (True, 2)])
def test_convolution(gpu, rng, name, dtype, size, bias, activation):
    channels, filters, height, width = 2, 2, 19, 33
    x, w = (
        normal(rng, channels, height, width, dtype=dtype),
        normal(rng, filters, channels, size, size, dtype=dtype),
    )
    b, out = normal(rng, filters), gpu.buffer(dtype, filters, height, width)
    params = record(**i32(channels=channels, filters=filters, height=height, width=width))
    args = {"p": params, "input": gpu.buffer(x), "weight": gpu.buffer(w), "output": out}
    if bias:
        args["bias"] = gpu.buffer(b)
    constants = {"has_bias": bias} | ({} if activation is None else {"activation": activation})
    kernel = gpu.library.kernel(f"conv2d_{name}", constants=constants)
    with gpu.dev.commands() as cmd:
        grid = (groups(width, 16), groups(height, 16), filters)
        cmd.dispatch(kernel, threadgroups=grid, threadgroup=(16, 16), args=args)
    padded = np.pad(f64(x), ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    want = np.einsum("cyxkl,fckl->fyx", patches, f64(w))
    magnitude = np.einsum("cyxkl,fckl->fyx", np.abs(patches), np.abs(f64(w)))
    if bias:
        want, magnitude = want + f64(b)[:, None, None], magnitude + np.abs(f64(b))[:, None, None]
    if activation is not None:
        want = np.maximum(want, 0) if activation == 1 else np.clip(want, -1, 1)
    assert_close(out.numpy(), want, dot_error(magnitude, channels * size**2))


@kernels("convolution")
def test_causal_convolution(gpu, rng):
    steps, channels = 7, 70
    x, state, taps = normal(rng, steps, channels), normal(rng, 3, channels), normal(rng, channels, 4)
    y, new_state = gpu.buffer(F32, steps, channels), gpu.buffer(F32, 3, channels)
    args = (x, state, taps, y, new_state, [channels, steps])
    gpu("causal_conv1d", *args, threadgroups=(groups(channels, 32), groups(steps, 4)), threadgroup=(32, 4))
    whole = np.concatenate([state, x])
    windows = f64(np.lib.stride_tricks.sliding_window_view(whole, 4, axis=0))
    v, magnitude = (windows * f64(taps)).sum(-1), np.abs(windows * f64(taps)).sum(-1)
    # The slope of v / (1 + exp(-v)) is at most 1.1.
    assert_close(
        y.numpy(), v / (1 + np.exp(-v)), dot_error(1.1 * magnitude, 4) + np.abs(v) * (np.abs(v) + 8) * 4 * U
    )
    np.testing.assert_array_equal(new_state.numpy(), whole[-3:])


@kernels("transpose")
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("rows, columns", [(1, 1), (45, 70)])
def test_transpose(gpu, rng, bits, rows, columns):
    dtype = np.dtype(f"uint{bits}")
    x = rng.integers(0, np.iinfo(dtype).max, (2, rows, columns), dtype, endpoint=True)
    out = gpu.buffer(dtype, 2, columns, rows)
    grid = (groups(columns, 32), groups(rows, 32), 2)
    gpu(f"transpose_u{bits}", x, out, [columns, rows], threadgroups=grid, threadgroup=(32, 8))
    np.testing.assert_array_equal(out.numpy(), x.swapaxes(1, 2))


@kernels("copy")
@pytest.mark.parametrize(
    "source, target",
    [("float32", F16), ("float32", BF16), ("float32", np.int32), ("int8", F32), ("uint64", np.uint64)],
    ids=lambda t: np.dtype(t).name,
)
def test_copies_between_strides(gpu, rng, source, target):
    source, target = np.dtype(source), np.dtype(target)
    base = rng.integers(-100, 100, (6, 7, 10)).astype(source)
    view = base[::2, 1:6, ::3].transpose(2, 0, 1)  # 4 x 3 x 5
    strides = np.array(view.strides, np.int64) // source.itemsize
    start = (view.ctypes.data - base.ctypes.data) // source.itemsize
    flat, name = gpu.buffer(base.ravel()), f"{source.name}{target.name}"
    want = view.astype(target)

    out = gpu.buffer(target, *view.shape)
    shape = np.array(view.shape, np.int32)
    gpu(f"g_copy_{name}", flat[start:], out, shape, strides, 3, threads=view.size, threadgroup=32)
    assert (out.numpy() == want).all()

    plane = gpu.buffer(target, *view.shape[1:])
    gpu(f"g2_copy_{name}", flat[start:], plane, strides[1:].copy(), threads=(5, 3), threadgroup=(4, 2))
    assert (plane.numpy() == want[0]).all()

    spread = gpu.buffer(np.zeros((4, 3, 12), target))
    to = np.array([36, 12, 2], np.int64)
    gpu(f"gg3_copy_{name}", flat[start:], spread, strides, to, 5, threads=(3, 3, 4), threadgroup=(2, 2, 2))
    expected = np.zeros((4, 3, 12), target)
    expected[..., 0:10:2] = want
    assert (spread.numpy() == expected).all()


# Whole arrays.


def from_key(key: int) -> np.float32:
    bits = key & 0x7FFFFFFF if key & 0x80000000 else ~key & 0xFFFFFFFF
    return np.uint32(bits).view(np.float32)


@kernels("reduction")
@pytest.mark.parametrize("n, threads", [(1, 1), (5003, 700)])
def test_reduction_with_atomics(gpu, rng, n, threads):
    x = normal(rng, n)
    extremes = gpu.buffer(np.array([0, 0xFFFFFFFF, 0], np.uint32))
    total = gpu.buffer(np.zeros(1, F32))
    gpu("reduce_extremes", x, ml.reinterpret(extremes), total, n, threads=threads, threadgroup=96)
    high, low, negative = extremes.numpy()
    assert (from_key(int(high)), from_key(int(low)), negative) == (x.max(), x.min(), (x < 0).sum())
    assert_close(total.numpy(), f64(x).sum(keepdims=True), dot_error(np.abs(f64(x)).sum(), n))

    product = gpu.buffer(np.ones(1, F32))
    x = np.exp2(rng.uniform(-0.1, 0.1, 300)).astype(F32)
    gpu("reduce_product", x, ml.reinterpret(product), 300, threads=320, threadgroup=64)
    assert_close(product.numpy(), f64(x).prod(keepdims=True), f64(x).prod() * 310 * U)


@kernels("reduction")
@pytest.mark.parametrize("name, dtype", [("f32", F32), ("f16", F16), ("i8", np.dtype(np.int8))])
@pytest.mark.parametrize("n, blocks", [(5, 1), (3001, 7)])
def test_reduction_by_the_last_threadgroup(gpu, rng, name, dtype, n, blocks):
    exact = dtype == np.int8
    x = rng.integers(-128, 128, n).astype(dtype) if exact else normal(rng, n, dtype=dtype)
    acc = np.int32 if exact else F32
    out = gpu.buffer(acc, 1)
    args = (x, gpu.buffer(acc, blocks), np.zeros(1, np.uint32), out, n)
    gpu(f"reduce_all_{name}", *args, threadgroups=blocks, threadgroup=160)
    want = f64(x).sum(keepdims=True)
    if exact:
        np.testing.assert_array_equal(out.numpy(), want)
    else:
        assert_close(out.numpy(), want, dot_error(np.abs(f64(x)).sum(), n))


@kernels("compaction")
@pytest.mark.parametrize("form", ["prefix", "ballot"])
@pytest.mark.parametrize("n", [1, 777])
def test_compaction(gpu, rng, form, n):
    x = normal(rng, n)
    out, index, count = gpu.buffer(F32, n), gpu.buffer(np.uint32, n), gpu.buffer(np.zeros(1, np.uint32))
    gpu(f"compact_{form}", x, out, index, count, np.float32(0.3), n, threads=n, threadgroup=80)
    kept = np.flatnonzero(x > np.float32(0.3))
    assert count.numpy()[0] == kept.size
    got = index.numpy()[: kept.size]
    np.testing.assert_array_equal(np.sort(got), kept)
    np.testing.assert_array_equal(out.numpy()[: kept.size], x[got])
    same = got[1:] // 16 == got[:-1] // 16  # never from two SIMD-groups
    assert (np.diff(got.astype(np.int64))[same] > 0).all()


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    counter, key = counter.astype(np.uint64), key.astype(np.uint64)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = counter[:, 0] * np.uint64(0xD2511F53), counter[:, 2] * np.uint64(0xCD9E8D57)
        counter = np.stack(
            [
                b >> np.uint64(32) ^ counter[:, 1] ^ key[0],
                b & low,
                a >> np.uint64(32) ^ counter[:, 3] ^ key[1],
                a & low,
            ],
            1,
        )
        key = key + np.array([0x9E3779B9, 0xBB67AE85], np.uint64) & low
    return counter.astype(np.uint32)


def test_philox_reference():
    # Known answers of the generator's authors.
    zero = philox(np.zeros((1, 4), np.uint32), np.zeros(2, np.uint32))
    assert [f"{v:08x}" for v in zero[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


@kernels("random")
def test_random_numbers(gpu, rng):
    seed = int(rng.integers(0, 1 << 63))
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    n, offset = 4 * 100 - 3, (1 << 32) - 50
    out = gpu.buffer(np.uint32, n)
    gpu("random_bits", out, seed, offset, n, threads=100, threadgroup=64)
    block = offset + np.arange(100, dtype=np.uint64)
    counter = np.stack([block & np.uint64(0xFFFFFFFF), block >> np.uint64(32), 0 * block, 0 * block], 1)
    np.testing.assert_array_equal(out.numpy(), philox(counter, key).ravel()[:n])

    out = gpu.buffer(F32, 150, 4)
    gpu("random_normal", out, seed, [1.5, 0.25], threads=150, threadgroup=64)
    i = np.arange(150, dtype=np.uint64)
    bits = philox(np.stack([i, 0 * i, 0 * i, 0 * i], 1), key)
    u = ((bits >> 8).astype(np.float64) + 1) * 2.0**-24
    radius, angle = np.sqrt(-2 * np.log(u[:, ::2])), 2 * np.pi * u[:, 1::2]
    want = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(150, 4)
    # The logarithm of a number near one, as the relaxed arithmetic of Metal has it, is off by 2^-21.
    error = (
        0.25 * (2.0**-20 / np.maximum(np.repeat(radius, 2, 1), 2.0**-12) + 1e-5 * np.repeat(radius, 2, 1))
        + 4 * U
    )
    assert_close(out.numpy(), 1.5 + 0.25 * want, error)


# Element by element.

FLOATS = {"float32": F32, "float16": F16, "bfloat16": BF16}
INTEGERS = {name: np.dtype(name) for name in ("uint8", "int32", "int64")}


@kernels("elementwise")
@pytest.mark.parametrize("name", [*FLOATS, *INTEGERS])
def test_binary_operations(gpu, rng, name):
    n = 301
    dtype = (FLOATS | INTEGERS)[name]
    operations = {"Add": np.add, "Remainder": np.remainder, "Maximum": np.maximum}
    if name in FLOATS:
        a, b = (rng.integers(-64, 64, n) / 8 for _ in "ab")
        operations["Divide"] = np.divide
    else:
        low = 0 if name == "uint8" else -100
        a, b = (rng.integers(low, 100, n) for _ in "ab")
        operations["LeftShift"] = np.left_shift
    a, b = a.astype(dtype), np.where(b == 0, 3, b).astype(dtype)
    for operation, reference in operations.items():
        right = np.abs(b) % 7 if operation == "LeftShift" else b
        right = right.astype(dtype)
        for form, left in (("vv", a), ("sv", a[:1])):
            out = gpu.buffer(dtype, n)
            args = (left, right, out)
            gpu(f"{form}_{operation}{name}", *args, threads=n, threadgroup=64)
            if name in FLOATS:
                want = reference(f64(left), f64(right))
                error = 4 * U * np.abs(want)
                assert_close(out.numpy(), want, error, operation)
            else:
                np.testing.assert_array_equal(out.numpy(), reference(left, right), operation)
    if name in ("float32", "int64"):
        out = gpu.buffer(np.bool_, n)
        gpu(f"vv_Greater{name}", a, b, out, threads=n, threadgroup=64)
        np.testing.assert_array_equal(out.numpy(), a > b)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))


UNARY = [
    lambda x, slope: np.maximum(x, 0),
    lambda x, slope: np.where(x < 0, x * slope, x),
    lambda x, slope: x / (1 + np.exp(-x)),
    lambda x, slope: gelu(x),
    lambda x, slope: np.tanh(x),
    lambda x, slope: np.exp(x),
]


@kernels("elementwise")
@pytest.mark.parametrize("operation", range(len(UNARY)))
@pytest.mark.parametrize("slope, accumulate, unrolled, every", [(None, False, 1, 0), (0.125, True, 3, 5)])
def test_operations_by_function_constants(gpu, rng, operation, slope, accumulate, unrolled, every):
    fours = 101
    x, y = normal(rng, fours, 4) * 2, normal(rng, fours, 4)
    factor = normal(rng, groups(fours, every)) if every else None
    out = gpu.buffer(y)
    constants = {
        "operation": operation,
        "accumulate": accumulate,
        "unrolled": unrolled,
        "broadcasts": every > 0,
        "broadcast_every": every,
    }
    if slope is not None:
        constants["slope"] = slope
    kernel = gpu.library.kernel("unary_any", constants=constants)
    args = {"x": gpu.buffer(x), "y": out, "fours": fours}
    if every:
        args["factor"] = gpu.buffer(factor)
    with gpu.dev.commands() as cmd:
        cmd.dispatch(kernel, threads=groups(fours, unrolled), threadgroup=32, args=args)
    want = UNARY[operation](f64(x), 0.25 if slope is None else slope)
    # Of the value, of the sums of which it is made, and of the argument of an exponential.
    error = (8 * np.abs(want) + 8 * np.abs(f64(x)) + 4 * np.abs(f64(x) * want)) * U + 4 * U
    if every:
        scale = np.repeat(f64(factor), every)[:fours, None]
        want, error = want * scale, error * np.abs(scale) + np.abs(want * scale) * U
    if accumulate:
        want, error = want + f64(y), error + (np.abs(want) + np.abs(f64(y))) * U
    assert_close(out.numpy(), want, error)


VERTEX = np.dtype([("position", F32, 3), ("normal", F32, 3), ("texture", F16, 2)], align=True)
PROJECTED = np.dtype({
    "names": ["screen", "normal", "texture", "facing"],
    "formats": [(F32, 4), (np.int8, 4), (np.uint16, 2), F16],
    "offsets": [0, 16, 20, 24],
    "itemsize": 32,
})  # fmt: skip
CAMERA = np.dtype({
    "names": ["view_projection", "normal_matrix", "eye", "viewport"],
    "formats": [(F32, (4, 4)), (F32, (3, 4)), (F32, 4), (F32, 2)],
    "offsets": [0, 64, 112, 128],
    "itemsize": 144,
})  # fmt: skip


@kernels("camera")
def test_projection_of_points(gpu, rng):
    n = 61
    vertices = np.zeros(n, VERTEX)
    vertices["position"], vertices["normal"] = normal(rng, n, 3), normal(rng, n, 3)
    vertices["texture"] = rng.random((n, 2))
    camera = np.zeros((), CAMERA)
    matrix = normal(rng, 4, 4)
    matrix[3] = [0.1, -0.2, 0.1, 4]
    turn = np.linalg.qr(normal(rng, 3, 3))[0].astype(F32)
    camera["view_projection"], camera["normal_matrix"][:, :3] = matrix.T, turn.T  # column by column
    camera["eye"], camera["viewport"] = [5, 6, 7, 0], [640, 480]
    out = gpu.buffer(np.uint8, n * PROJECTED.itemsize)
    raw = vertices.view(np.uint8)
    gpu("project", raw, out, camera[()], n, threadgroups=groups(n, 32), threadgroup=32)
    got = out.numpy().view(PROJECTED)

    p = f64(vertices["position"])
    clip = np.c_[p, np.ones(n)] @ f64(matrix).T
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])[np.arange(n) % 4] * 0.25
    screen = np.c_[(clip[:, :2] / clip[:, 3:] * 0.5 + 0.5) * [640, 480] + corners, clip[:, 2:] / [1, 1]]
    screen[:, 2] /= clip[:, 3]
    np.testing.assert_allclose(got["screen"], screen, rtol=1e-5, atol=1e-2)
    unit = f64(vertices["normal"]) @ f64(turn).T
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    assert np.abs(got["normal"][:, :3] - unit * 127).max() <= 0.501
    assert (got["normal"][:, 3] == 0).all()
    assert np.abs(got["texture"] - f64(vertices["texture"]) * 65535).max() <= 0.51
    view = np.array([5, 6, 7]) - p
    facing = (unit * view / np.linalg.norm(view, axis=1, keepdims=True)).sum(1)
    assert_close(got["facing"], facing, 40 * U)


def test_every_file_has_a_test():
    used = {
        parameters[2]
        for test in globals().values()
        for mark in getattr(test, "pytestmark", [])
        if mark.args[0] == "gpu"
        for parameters in mark.args[1]
    }
    assert used == {file.stem for file in FOLDER.glob("*.metal")}
    assert len(used) >= 20
