"""What every built-in operation computes, in NumPy and float64.

These are the oracles that the tests, the demo and the benchmarks compare with. Each function has the name and
the arguments of its operation in `metalloid.ops`, less the command encoder and `out`, and takes anything that
`numpy.asarray` takes, a `metalloid.Buffer` included. The results are float64 and never rounded to the storage
type, except that `im2col_2d`, which only moves elements, keeps the type of its input.

They are written to be read: no blocking, no clever use of memory. The gated delta rule takes `B*H*T*64`
float64 values of scratch, several times over.
"""

from __future__ import annotations

import math

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "add",
    "fused_head_norm_rope",
    "gated_delta_net_chunk_o",
    "gelu_mul",
    "im2col_2d",
    "mul",
    "rms_norm",
    "rms_norm_mul",
    "rope_neox",
    "silu_mul",
    "vision_2d_rope",
]

CHUNK = 64  # tokens in one chunk of the gated delta rule


def _f64(x: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(x).astype(np.float64)


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(f"metalloid.reference: {message}")


def rms_norm(x: ArrayLike, weight: ArrayLike | None = None, *, eps: float = 1e-6) -> NDArray[np.float64]:
    """`x / sqrt(mean(x^2) + eps) * weight`, the mean running over the last axis."""
    x = _f64(x)
    y = x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + eps)
    return y if weight is None else y * _f64(weight)


def rms_norm_mul(
    x: ArrayLike, weight: ArrayLike, scale: ArrayLike, *, eps: float = 1e-6
) -> NDArray[np.float64]:
    """`rms_norm(x, weight) * scale`, where scale has the shape of x."""
    return rms_norm(x, weight, eps=eps) * _f64(scale)


def _rotate(x0: NDArray, x1: NDArray, cos: NDArray, sin: NDArray) -> tuple[NDArray, NDArray]:
    return x0 * cos - x1 * sin, x1 * cos + x0 * sin


def rope_neox(
    x: ArrayLike,
    *,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    theta: float = 10000.0,
    freq_factors: ArrayLike | None = None,
    half_rope_dim: int | None = None,
) -> NDArray[np.float64]:
    """Rotary embedding of every head; x is `[tokens, heads, head_dim]` or one token of it.

    With `cos` and `sin` the pairs are `(i, i + half_rope_dim)`; with `positions` they are
    `(i, i + head_dim/2)` and the angle is `position / theta^(2i/head_dim) / freq_factors[i]`. Both have
    `half_rope_dim` pairs; every other element is passed through.
    """
    _need((cos is None) == (sin is None), "cos and sin go together")
    _need((cos is None) != (positions is None), "give either cos and sin or positions")
    y = _f64(x)
    _need(y.ndim in (2, 3), f"x has {y.ndim} axes, needs 2 or 3")
    heads = y.reshape(-1, *y.shape[-2:])
    head_dim = heads.shape[-1]
    if positions is None:
        half = np.shape(cos)[-1] if half_rope_dim is None else half_rope_dim
        distance = half
        c, s = _f64(cos)[..., :half], _f64(sin)[..., :half]
        c, s = np.atleast_2d(c)[:, None, :], np.atleast_2d(s)[:, None, :]
    else:
        half = head_dim // 2 if half_rope_dim is None else half_rope_dim
        distance = head_dim // 2
        angles = np.atleast_1d(_f64(positions))[:, None] / theta ** (2 * np.arange(half) / head_dim)
        if freq_factors is not None:
            angles = angles / _f64(freq_factors)[:half]
        c, s = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    _need(distance * 2 <= head_dim and half <= distance, f"half_rope_dim is {half}, head_dim {head_dim}")
    first, second = slice(0, half), slice(distance, distance + half)
    heads[..., first], heads[..., second] = _rotate(heads[..., first], heads[..., second], c, s)
    return heads.reshape(y.shape)


def fused_head_norm_rope(
    x: ArrayLike,
    *,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    theta: float = 10000.0,
    freq_factors: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    half_rope_dim: int | None = None,
    eps: float = 1e-6,
) -> NDArray[np.float64]:
    """`rope_neox(rms_norm(x, weight), ...)`: RMS norm of every head, then a rotary embedding."""
    return rope_neox(
        rms_norm(x, weight, eps=eps),
        cos=cos,
        sin=sin,
        positions=positions,
        theta=theta,
        freq_factors=freq_factors,
        half_rope_dim=half_rope_dim,
    )


def vision_2d_rope(
    x: ArrayLike, pos_x: ArrayLike, pos_y: ArrayLike, *, theta: float = 10000.0
) -> NDArray[np.float64]:
    """Rotary embedding in two dimensions; x is `[seq, heads, head_dim]`.

    The first half of each head turns by `pos_x`, the second by `pos_y`, each with pairs `(i, i + head_dim/4)`
    and `angle = position * theta^(-2i/(head_dim/2))`.
    """
    y = _f64(x)
    half = y.shape[-1] // 2
    quarter = half // 2
    _need(quarter * 4 == y.shape[-1], f"head_dim is {y.shape[-1]}, needs a multiple of 4")
    frequencies = theta ** (-2 * np.arange(quarter) / half)
    for start, positions in ((0, pos_x), (half, pos_y)):
        angles = _f64(positions)[:, None, None] * frequencies
        first, second = slice(start, start + quarter), slice(start + quarter, start + half)
        y[..., first], y[..., second] = _rotate(y[..., first], y[..., second], np.cos(angles), np.sin(angles))
    return y


def im2col_2d(pixels: ArrayLike, patch: int) -> NDArray:
    """The `patch` x `patch` tiles of an image `[C, H, W]` as rows `[(H/patch)*(W/patch), C*patch*patch]`."""
    pixels = np.asarray(pixels)
    channels, height, width = pixels.shape
    _need(
        height % patch == 0 and width % patch == 0,
        f"an image of {height}x{width} does not divide into {patch}x{patch} patches",
    )
    tiles = pixels.reshape(channels, height // patch, patch, width // patch, patch)
    return tiles.transpose(1, 3, 0, 2, 4).reshape(-1, channels * patch * patch)


def gated_delta_net_chunk_o(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    state: ArrayLike,
    g: ArrayLike,
    *,
    scale: float | None = None,
) -> NDArray[np.float64]:
    """Output stage of the chunked gated delta rule, in chunks of 64 tokens.

    q and k are `[B, T, Hg, K]`, v is `[B, T, H, V]`, state `[B, T/64, H, V, K]` and g, summed within each
    chunk, `[B, T, H]`. Value head h uses key head `h / (H/Hg)`. For the rows of one chunk

        A[i, j] = (q_i . k_j) * exp(g_i - g_j)  for i >= j, else 0
        o[i]    = (exp(g_i) * (q_i @ state^T) + round_bf16(A)[i] @ v) * scale

    where the rounding of A to bfloat16 is part of the definition, not an error: it is what feeds the matrix
    product. `scale` is `K^-0.5` unless given.
    """
    q, k, v, state, g = (_f64(a) for a in (q, k, v, state, g))
    batch, tokens, key_heads, key_dim = q.shape
    heads, value_dim = v.shape[2:]
    _need(tokens % CHUNK == 0, f"T is {tokens}, needs a multiple of {CHUNK}")
    _need(heads % key_heads == 0, f"{heads} value heads do not divide into {key_heads} key heads")
    chunks = tokens // CHUNK

    def by_chunk(a: NDArray) -> NDArray:  # [B, T, heads, d] -> [B, chunks, heads, 64, d]
        return a.reshape(batch, chunks, CHUNK, *a.shape[2:]).swapaxes(2, 3)

    q, k = (by_chunk(np.repeat(a, heads // key_heads, axis=2)) for a in (q, k))
    v = by_chunk(v)
    g = g.reshape(batch, chunks, CHUNK, heads).swapaxes(2, 3)

    inter = (q @ state.swapaxes(-1, -2)) * np.exp(g)[..., None]
    causal = np.tri(CHUNK, dtype=bool)
    # The masked differences are positive where g falls, and may overflow: they never reach exp.
    decay = np.exp(np.where(causal, g[..., :, None] - g[..., None, :], 0.0))
    a = np.where(causal, (q @ k.swapaxes(-1, -2)) * decay, 0.0)
    o = inter + a.astype(bfloat16).astype(np.float64) @ v
    o = o.swapaxes(2, 3).reshape(batch, tokens, heads, value_dim)
    return o * (1.0 / math.sqrt(key_dim) if scale is None else scale)


def add(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """`a + b`, of one shape."""
    return _f64(a) + _f64(b)


def mul(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """`a * b`, of one shape."""
    return _f64(a) * _f64(b)


def _times_sigmoid(gate: NDArray, t: NDArray) -> NDArray:
    """`gate / (1 + exp(-t))`, and 0 where gate is -inf."""
    sigmoid = np.where(t < 0, np.exp(-np.abs(t)), 1.0) / (1.0 + np.exp(-np.abs(t)))
    # From -1000 on the sigmoid is 0 in float64.
    return np.maximum(gate, -1000.0) * sigmoid


def silu_mul(gate: ArrayLike, up: ArrayLike) -> NDArray[np.float64]:
    """`silu(gate) * up` with `silu(v) = v / (1 + exp(-v))`."""
    gate = _f64(gate)
    return _times_sigmoid(gate, gate) * _f64(up)


def gelu_mul(gate: ArrayLike, up: ArrayLike) -> NDArray[np.float64]:
    """`gelu(gate) * up` with `gelu(v) = v / 2 * (1 + tanh(sqrt(2/pi) * (v + 0.044715 v^3)))`.

    Written as `v / (1 + exp(-2 u))`, as `(1 + tanh(u)) / 2` would cancel for u far below 0.
    """
    gate = _f64(gate)
    u = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
    return _times_sigmoid(gate, 2 * u) * _f64(up)
