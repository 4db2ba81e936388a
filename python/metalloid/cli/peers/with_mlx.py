"""The operations in MLX. It allocates its results itself, so there is no form that reuses memory."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from metalloid.cli.peers import CHUNK, EPS, THETA, Inputs, Run


def array(a: np.ndarray) -> mx.array:
    if a.dtype.name == "bfloat16":
        return mx.array(a.astype(np.float32)).astype(mx.bfloat16)
    return mx.array(a)


def to_numpy(result: mx.array) -> np.ndarray:
    return np.array(result.astype(mx.float32))


def _frequencies(count: int, dim: int, theta: float) -> mx.array:
    return mx.array((theta ** (-2 * np.arange(count) / dim)).astype(np.float32))


def _rms_norm(inputs: Inputs) -> Any:
    x, weight = array(inputs["x"]), array(inputs["weight"])
    if "scale" not in inputs:
        return lambda: mx.fast.rms_norm(x, weight, EPS)
    scale = array(inputs["scale"])
    return lambda: mx.fast.rms_norm(x, weight, EPS) * scale


def _head_rope(inputs: Inputs) -> Any:
    x = array(inputs["x"])
    weight = array(inputs["weight"]).astype(mx.float32) if "weight" in inputs else None
    half = x.shape[-1] // 2
    if "positions" in inputs:
        positions = array(inputs["positions"]).astype(mx.float32)
        frequencies = _frequencies(half, x.shape[-1], inputs.get("theta", THETA))
    else:
        cos, sin = array(inputs["cos"])[:, None, :], array(inputs["sin"])[:, None, :]

    def run() -> mx.array:
        if "positions" in inputs:
            angles = (positions[:, None] * frequencies)[:, None, :]
            c, s = mx.cos(angles), mx.sin(angles)
        else:
            c, s = cos, sin
        y = x.astype(mx.float32)
        if weight is not None:
            y = mx.fast.rms_norm(y, weight, EPS)
        y0, y1 = y[..., :half], y[..., half:]
        return mx.concatenate((y0 * c - y1 * s, y1 * c + y0 * s), -1).astype(x.dtype)

    return run


def _vision_2d_rope(inputs: Inputs) -> Any:
    x = array(inputs["x"])
    positions = [array(inputs[name]).astype(mx.float32)[:, None, None] for name in ("pos_x", "pos_y")]
    frequencies = _frequencies(x.shape[-1] // 4, x.shape[-1] // 2, inputs.get("theta", THETA))

    def run() -> mx.array:
        quarters = mx.split(x.astype(mx.float32), 4, -1)
        turned = []
        for (x0, x1), position in ((quarters[:2], positions[0]), (quarters[2:], positions[1])):
            angles = position * frequencies
            cos, sin = mx.cos(angles), mx.sin(angles)
            turned += [x0 * cos - x1 * sin, x1 * cos + x0 * sin]
        return mx.concatenate(turned, -1).astype(x.dtype)

    return run


def _im2col(inputs: Inputs) -> Any:
    pixels, patch = array(inputs["pixels"]), inputs["patch"]
    channels, height, width = pixels.shape

    def run() -> mx.array:
        tiles = pixels.reshape(channels, height // patch, patch, width // patch, patch)
        return tiles.transpose(1, 3, 0, 2, 4).reshape(-1, channels * patch * patch)

    return run


def _gated_delta(inputs: Inputs) -> Any:
    q, k, v, state, g = (mx.array(np.asarray(inputs[n], np.float32)) for n in ("q", "k", "v", "state", "g"))
    batch, tokens, key_heads, key_dim = q.shape
    heads, value_dim = v.shape[2:]
    causal = mx.array(np.tri(CHUNK, dtype=bool))

    def by_chunk(a: mx.array) -> mx.array:
        return a.reshape(batch, tokens // CHUNK, CHUNK, *a.shape[2:]).swapaxes(2, 3)

    def run() -> mx.array:
        qs, ks, vs, gs = by_chunk(q), by_chunk(k), by_chunk(v), by_chunk(g[..., None])[..., 0]
        scores = mx.repeat(qs @ ks.swapaxes(-1, -2), heads // key_heads, 2)
        decay = mx.exp(mx.where(causal, gs[..., :, None] - gs[..., None, :], -mx.inf))
        a = (scores * decay).astype(mx.bfloat16).astype(mx.float32)
        inter = mx.repeat(qs, heads // key_heads, 2) @ state.swapaxes(-1, -2) * mx.exp(gs)[..., None]
        o = (inter + a @ vs) * key_dim**-0.5
        return o.swapaxes(2, 3).reshape(batch, tokens, heads, value_dim)

    return run


def _elementwise(formula: Any, *names: str) -> Any:
    def build(inputs: Inputs) -> Any:
        x, y = (array(inputs[name]) for name in names)
        return lambda: formula(x.astype(mx.float32), y.astype(mx.float32)).astype(x.dtype)

    return build


def _gelu_mul(gate: mx.array, up: mx.array) -> mx.array:
    u = np.sqrt(2 / np.pi).item() * (gate + 0.044715 * gate * gate * gate)
    return 0.5 * gate * (1 + mx.tanh(u)) * up


def _operation(build: Any) -> Any:
    def factory(inputs: Inputs, reuse: bool) -> Run | None:
        if reuse:
            return None
        # Compiled, so that MLX fuses what it can; eval, because it is lazy.
        formula = mx.compile(build(inputs))

        def run() -> mx.array:
            result = formula()
            mx.eval(result)
            return result

        return run

    return factory


OPERATIONS = {
    "rms_norm": _operation(_rms_norm),
    "rms_norm_mul": _operation(_rms_norm),
    "fused_head_norm_rope": _operation(_head_rope),
    "vision_2d_rope": _operation(_vision_2d_rope),
    "im2col_2d": _operation(_im2col),
    "gated_delta_net_chunk_o": _operation(_gated_delta),
    "rope_neox": _operation(_head_rope),
    "add": _operation(_elementwise(lambda a, b: a + b, "a", "b")),
    "mul": _operation(_elementwise(lambda a, b: a * b, "a", "b")),
    "silu_mul": _operation(_elementwise(lambda gate, up: gate * mx.sigmoid(gate) * up, "gate", "up")),
    "gelu_mul": _operation(_elementwise(_gelu_mul, "gate", "up")),
}
