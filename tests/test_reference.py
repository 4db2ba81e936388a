"""The oracles themselves, against plain loops over the text of the specification."""

from __future__ import annotations

import math

import numpy as np
import pytest
from metalloid import reference
from ml_dtypes import bfloat16


def test_rms_norm_by_hand():
    y = reference.rms_norm(np.array([[3.0, 4.0]]), np.array([1.0, 10.0]), eps=1e-9)
    rms = math.sqrt(12.5)
    np.testing.assert_allclose(y, [[3 / rms, 40 / rms]], rtol=1e-9)
    assert y.dtype == np.float64
    np.testing.assert_allclose(
        reference.rms_norm_mul([[3.0, 4.0]], [1.0, 10.0], [[2.0, 0.5]], eps=1e-9), y * [[2, 0.5]]
    )


@pytest.mark.parametrize("half", [None, 3, 1, 0])
@pytest.mark.parametrize("form", ["cached", "positions"])
def test_fused_head_norm_rope_by_loops(rng, form, half):
    tokens, heads, dim, eps, theta = 3, 2, 8, 1e-5, 500.0
    pairs = dim // 2 if half is None else half
    x, weight = rng.standard_normal((tokens, heads, dim)), rng.standard_normal(dim)
    positions, factors = np.array([0, 5, 99]), rng.uniform(1, 3, max(pairs, 1))
    cos, sin = rng.standard_normal((2, tokens, max(pairs, 1)))
    expected = np.empty_like(x)
    for t in range(tokens):
        for h in range(heads):
            n = [
                v * w / math.sqrt(sum(u * u for u in x[t, h]) / dim + eps)
                for v, w in zip(x[t, h], weight, strict=True)
            ]
            expected[t, h] = n
            for i in range(pairs):
                j = i + (pairs if form == "cached" else dim // 2)
                angle = positions[t] / theta ** (2 * i / dim) / factors[i]
                c, s = (cos[t, i], sin[t, i]) if form == "cached" else (math.cos(angle), math.sin(angle))
                expected[t, h, i], expected[t, h, j] = n[i] * c - n[j] * s, n[j] * c + n[i] * s
    tables = (
        {"cos": cos, "sin": sin} if form == "cached" else {"positions": positions, "freq_factors": factors}
    )
    y = reference.fused_head_norm_rope(x, **tables, theta=theta, weight=weight, half_rope_dim=half, eps=eps)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    one = {k: v[1:2] if k != "freq_factors" else v for k, v in tables.items()}
    single = reference.fused_head_norm_rope(
        x[1], **one, theta=theta, weight=weight, half_rope_dim=half, eps=eps
    )
    np.testing.assert_allclose(single, expected[1], rtol=1e-12, atol=1e-12)


def test_elementwise_by_hand():
    np.testing.assert_array_equal(reference.add([1.5, 2], [2, -3]), [3.5, -1])
    np.testing.assert_array_equal(reference.mul([1.5, 2], [2, -3]), [3, -6])
    for v in (-30.0, -3.0, -0.25, 0.0, 1.0, 7.5, 40.0):
        silu = v / (1 + math.exp(-v))
        gelu = v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
        np.testing.assert_allclose(reference.silu_mul(v, 3.0), 3 * silu, rtol=1e-14)
        np.testing.assert_allclose(reference.gelu_mul(v, 3.0), 3 * gelu, rtol=1e-13, atol=1e-15)
    for oracle in (reference.silu_mul, reference.gelu_mul):
        np.testing.assert_array_equal(oracle([-np.inf, -1e90, np.inf, np.nan], 2.0), [0, 0, np.inf, np.nan])


@pytest.mark.parametrize("half", [3, 1, 0])
def test_rope_neox_leaves_out_the_norm(rng, half):
    x, positions = rng.standard_normal((3, 2, 8)), np.array([0, 5, 99])
    y = reference.rope_neox(x, positions=positions, half_rope_dim=half)
    expected = x.copy()
    for t, h, i in np.ndindex(3, 2, half):
        turned = complex(x[t, h, i], x[t, h, i + 4]) * np.exp(1j * positions[t] / 10_000.0 ** (2 * i / 8))
        expected[t, h, i], expected[t, h, i + 4] = turned.real, turned.imag
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_vision_2d_rope_by_loops(rng):
    seq, heads, dim, theta = 4, 2, 12, 100.0
    x = rng.standard_normal((seq, heads, dim))
    pos_x, pos_y = rng.integers(0, 50, (2, seq))
    expected = np.empty_like(x)
    for t in range(seq):
        for h in range(heads):
            for start, position in ((0, pos_x[t]), (dim // 2, pos_y[t])):
                for i in range(dim // 4):
                    a, b = start + i, start + i + dim // 4
                    angle = position * theta ** (-2 * i / (dim // 2))
                    x0, x1 = x[t, h, a], x[t, h, b]
                    expected[t, h, a] = x0 * math.cos(angle) - x1 * math.sin(angle)
                    expected[t, h, b] = x1 * math.cos(angle) + x0 * math.sin(angle)
    np.testing.assert_allclose(
        reference.vision_2d_rope(x, pos_x, pos_y, theta=theta), expected, rtol=1e-12, atol=1e-12
    )


def test_im2col_2d_by_loops(rng):
    channels, height, width, p = 2, 6, 9, 3
    pixels = rng.integers(0, 1 << 16, (channels, height, width)).astype(np.uint16).view(bfloat16)
    y = reference.im2col_2d(pixels, p)
    assert y.dtype == bfloat16
    for m in range(y.shape[0]):
        for k in range(y.shape[1]):
            c, dy, dx = k // (p * p), k // p % p, k % p
            source = pixels[c, m // (width // p) * p + dy, m % (width // p) * p + dx]
            assert y[m, k].tobytes() == source.tobytes()


def test_gated_delta_net_chunk_o_by_loops(rng):
    batch, tokens, key_heads, heads, key_dim, value_dim = 2, 128, 2, 4, 3, 2
    q, k = rng.standard_normal((2, batch, tokens, key_heads, key_dim)).astype(bfloat16)
    v = rng.standard_normal((batch, tokens, heads, value_dim)).astype(bfloat16)
    state = rng.standard_normal((batch, tokens // 64, heads, value_dim, key_dim)).astype(bfloat16)
    steps = rng.uniform(0, 0.3, (batch, tokens // 64, 64, heads))
    steps[:, :, 40] = 800.0
    g = -np.cumsum(steps, axis=2).reshape(batch, tokens, heads).astype(np.float32)
    y = reference.gated_delta_net_chunk_o(q, k, v, state, g, scale=0.3)
    assert np.isfinite(y).all()  # exp(g_i - g_j) overflows for i < 40 <= j
    for b, t, h in [(0, 0, 0), (0, 63, 1), (0, 64, 2), (1, 100, 3), (1, 127, 0)]:
        n, kh = t // 64, h // (heads // key_heads)
        o = np.zeros(value_dim)
        for d in range(value_dim):
            o[d] = sum(float(q[b, t, kh, e]) * float(state[b, n, h, d, e]) for e in range(key_dim))
        o *= math.exp(g[b, t, h])
        for j in range(n * 64, t + 1):
            a = sum(float(q[b, t, kh, e]) * float(k[b, j, kh, e]) for e in range(key_dim))
            a *= math.exp(float(g[b, t, h]) - float(g[b, j, h]))
            o += float(bfloat16(a)) * v[b, j, h].astype(np.float64)
        np.testing.assert_allclose(y[b, t, h], o * 0.3, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(
        reference.gated_delta_net_chunk_o(q, k, v, state, g), y / 0.3 / math.sqrt(key_dim), rtol=1e-12
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: reference.fused_head_norm_rope(np.ones((1, 4))),
        lambda: reference.fused_head_norm_rope(np.ones((1, 4)), cos=np.ones(2)),
        lambda: reference.fused_head_norm_rope(np.ones((1, 4)), cos=np.ones(3), sin=np.ones(3)),
        lambda: reference.vision_2d_rope(np.ones((1, 1, 6)), [1], [1]),
        lambda: reference.im2col_2d(np.ones((1, 4, 6)), 4),
    ],
)
def test_the_oracles_refuse_what_has_no_meaning(call):
    with pytest.raises(ValueError, match=r"^metalloid\.reference: "):
        call()
