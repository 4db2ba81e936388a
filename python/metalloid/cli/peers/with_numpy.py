"""The operations in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from metalloid.cli.peers import CHUNK, EPS, THETA, Inputs, Run

F32 = np.dtype(np.float32)


class _Storage:
    """Widens an input to float32 and narrows a result, into memory kept between runs if `reuse`."""

    def __init__(self, like: NDArray, reuse: bool) -> None:
        self.dtype = like.dtype
        self.reuse = reuse
        self.work = np.empty(like.shape, F32) if reuse else None
        self.out = np.empty_like(like) if reuse and like.dtype != F32 else None

    def widen(self, x: NDArray, into: NDArray | None = None) -> NDArray:
        if x.dtype == F32:
            return x
        if into is None:
            return x.astype(F32)
        np.copyto(into, x)
        return into

    def narrow(self, y: NDArray) -> NDArray:
        if self.dtype == F32:
            return y
        if self.out is None:
            return y.astype(self.dtype)
        np.copyto(self.out, y, casting="unsafe")
        return self.out


def _normalise(x: NDArray, weight: NDArray | None, out: NDArray | None) -> NDArray:
    # einsum sums the squares without storing them.
    mean = np.einsum("...i,...i->...", x, x) / x.shape[-1]
    y = np.multiply(x, (1 / np.sqrt(mean + np.float32(EPS)))[..., None], out=out)
    if weight is not None:
        y *= weight
    return y


def rms_norm(inputs: Inputs, reuse: bool) -> Run:
    x = inputs["x"]
    storage = _Storage(x, reuse)
    weight, scale = (
        None if (a := inputs.get(name)) is None else a.astype(F32) if name == "weight" else a
        for name in ("weight", "scale")
    )
    second = np.empty(x.shape, F32) if reuse and scale is not None and x.dtype != F32 else None

    def run() -> NDArray:
        y = _normalise(storage.widen(x, storage.work), weight, storage.work)
        if scale is not None:
            y *= storage.widen(scale, second)
        return storage.narrow(y)

    return run


class _Rotation:
    """Rotates pairs of views; works in place, and keeps its scratch if `reuse`."""

    def __init__(self, shape: tuple[int, ...], reuse: bool) -> None:
        self.scratch = (np.empty(shape, F32), np.empty(shape, F32)) if reuse else (None, None)

    def __call__(
        self, x0: NDArray, x1: NDArray, cos: NDArray, sin: NDArray, y0: NDArray, y1: NDArray
    ) -> None:
        a = np.multiply(x1, sin, out=self.scratch[0])
        b = np.multiply(x0, sin, out=self.scratch[1])
        np.multiply(x0, cos, out=y0)
        y0 -= a
        np.multiply(x1, cos, out=y1)
        y1 += b


def _head_rope(inputs: Inputs, reuse: bool, *, normed: bool) -> Run:
    x, positions = inputs["x"], inputs.get("positions")
    weight = None if inputs.get("weight") is None else inputs["weight"].astype(F32)
    half = x.shape[-1] // 2
    storage = _Storage(x, reuse)
    rotate = _Rotation((*x.shape[:-1], half), reuse)
    wide = None
    if reuse and x.dtype != F32:
        wide = storage.work if normed else np.empty(x.shape, F32)
    if positions is not None:
        theta = inputs.get("theta", THETA)
        frequencies = (theta ** (-2 * np.arange(half) / x.shape[-1])).astype(F32)

    def run() -> NDArray:
        if positions is None:
            cos, sin = inputs["cos"], inputs["sin"]
        else:
            angles = positions.astype(F32)[:, None] * frequencies
            cos, sin = np.cos(angles), np.sin(angles)
        source = storage.widen(x, wide)
        if normed:
            source = y = _normalise(source, weight, storage.work)
        else:
            y = np.empty(x.shape, F32) if storage.work is None else storage.work
        halves = (a[..., part] for a in (source, y) for part in (slice(half), slice(half, None)))
        x0, x1, y0, y1 = halves
        rotate(x0, x1, cos[:, None, :], sin[:, None, :], y0, y1)
        return storage.narrow(y)

    return run


def fused_head_norm_rope(inputs: Inputs, reuse: bool) -> Run:
    return _head_rope(inputs, reuse, normed=True)


def rope_neox(inputs: Inputs, reuse: bool) -> Run:
    return _head_rope(inputs, reuse, normed=False)


def vision_2d_rope(inputs: Inputs, reuse: bool) -> Run:
    x = inputs["x"]
    theta = inputs.get("theta", THETA)
    half, quarter = x.shape[-1] // 2, x.shape[-1] // 4
    frequencies = (theta ** (-2 * np.arange(quarter) / half)).astype(F32)
    storage = _Storage(x, reuse)
    rotate = _Rotation((*x.shape[:-1], quarter), reuse)
    wide = np.empty(x.shape, F32) if reuse and x.dtype != F32 else None

    def run() -> NDArray:
        source = storage.widen(x, wide)
        y = np.empty(x.shape, F32) if storage.work is None else storage.work
        for start, positions in ((0, inputs["pos_x"]), (half, inputs["pos_y"])):
            angles = positions.astype(F32)[:, None, None] * frequencies
            first, second = slice(start, start + quarter), slice(start + quarter, start + half)
            rotate(
                source[..., first],
                source[..., second],
                np.cos(angles),
                np.sin(angles),
                y[..., first],
                y[..., second],
            )
        return storage.narrow(y)

    return run


def im2col_2d(inputs: Inputs, reuse: bool) -> Run:
    pixels, patch = inputs["pixels"], inputs["patch"]
    channels, height, width = pixels.shape
    tiles = pixels.reshape(channels, height // patch, patch, width // patch, patch).transpose(1, 3, 0, 2, 4)
    out = np.empty(tiles.shape, pixels.dtype) if reuse else None

    def run() -> NDArray:
        if out is None:
            return tiles.reshape(-1, channels * patch * patch)
        np.copyto(out, tiles)
        return out.reshape(-1, channels * patch * patch)

    return run


def gated_delta_net_chunk_o(inputs: Inputs, reuse: bool) -> Run:
    # Given float32 once, outside the clock: NumPy has no matrix product of bfloat16.
    q, k, v, state, g = (np.asarray(inputs[name], dtype=F32) for name in ("q", "k", "v", "state", "g"))
    batch, tokens, key_heads, key_dim = q.shape
    heads, value_dim = v.shape[2:]
    group, chunks = heads // key_heads, tokens // CHUNK
    causal = np.tri(CHUNK, dtype=bool)
    scale = np.float32(key_dim**-0.5)
    head_shape = (batch, chunks, heads, CHUNK)
    a_out, inter_out, o_out = (
        (np.empty((*head_shape, n), F32) for n in (CHUNK, value_dim, value_dim)) if reuse else (None,) * 3
    )
    scores_out = np.empty((batch, chunks, key_heads, CHUNK, CHUNK), F32) if reuse else None

    def by_chunk(a: NDArray) -> NDArray:  # [B, T, heads, d] -> [B, chunks, heads, 64, d]
        return a.reshape(batch, chunks, CHUNK, *a.shape[2:]).swapaxes(2, 3)

    def run() -> NDArray:
        qs, ks, vs = by_chunk(q), by_chunk(k), by_chunk(v)
        gs = g.reshape(batch, chunks, CHUNK, heads).swapaxes(2, 3)
        # The scores depend on the key head alone, so they are computed once for its group.
        scores = np.matmul(qs, ks.swapaxes(-1, -2), out=scores_out)
        decay = np.subtract(gs[..., :, None], gs[..., None, :], out=a_out)
        decay[..., ~causal] = -np.inf
        a = np.exp(decay, out=decay)
        a *= np.repeat(scores, group, axis=2)
        a = a.astype(bfloat16).astype(F32)
        qs = np.repeat(qs, group, axis=2)
        inter = np.matmul(qs, state.swapaxes(-1, -2), out=inter_out)
        inter *= np.exp(gs)[..., None]
        o = np.matmul(a, vs, out=o_out)
        o += inter
        o *= scale
        return o.swapaxes(2, 3).reshape(batch, tokens, heads, value_dim)

    return run


def _elementwise(formula: Callable[[NDArray, NDArray, NDArray | None], NDArray], *names: str):
    """`formula(x, y, work)` may use `work`, which is not x, for its result."""

    def factory(inputs: Inputs, reuse: bool) -> Run:
        a, b = (inputs[name] for name in names)
        storage = _Storage(a, reuse)
        narrow = reuse and a.dtype != F32
        first, second = (np.empty(a.shape, F32) if narrow else None for _ in range(2))
        return lambda: storage.narrow(
            formula(storage.widen(a, first), storage.widen(b, second), storage.work)
        )

    return factory


def _silu_mul(gate: NDArray, up: NDArray, work: NDArray | None) -> NDArray:
    y = np.negative(gate, out=work)
    np.exp(y, out=y)
    y += F32.type(1)
    np.divide(gate, y, out=y)
    y *= up
    return y


def _gelu_mul(gate: NDArray, up: NDArray, work: NDArray | None) -> NDArray:
    y = np.multiply(gate, gate, out=work)
    y *= F32.type(np.sqrt(2 / np.pi) * 0.044715)
    y += F32.type(np.sqrt(2 / np.pi))
    y *= gate
    np.tanh(y, out=y)
    y += F32.type(1)
    y *= gate
    y *= F32.type(0.5)
    y *= up
    return y


OPERATIONS = {
    "rms_norm": rms_norm,
    "rms_norm_mul": rms_norm,
    "fused_head_norm_rope": fused_head_norm_rope,
    "vision_2d_rope": vision_2d_rope,
    "im2col_2d": im2col_2d,
    "gated_delta_net_chunk_o": gated_delta_net_chunk_o,
    "rope_neox": rope_neox,
    "add": _elementwise(lambda a, b, work: np.add(a, b, out=work), "a", "b"),
    "mul": _elementwise(lambda a, b, work: np.multiply(a, b, out=work), "a", "b"),
    "silu_mul": _elementwise(_silu_mul, "gate", "up"),
    "gelu_mul": _elementwise(_gelu_mul, "gate", "up"),
}
