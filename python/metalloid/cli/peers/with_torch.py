"""The operations in PyTorch on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from metalloid.cli.peers import CHUNK, EPS, THETA, Inputs, Run

Tensor = torch.Tensor


def tensor(array: np.ndarray) -> Tensor:
    """The same memory as a tensor; bfloat16 goes through its bits, which is all NumPy can offer."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(result: Any) -> np.ndarray:
    return result.float().numpy()


# Formulas: what eager mode runs and torch.compile compiles.


def norm_formula(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float()
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS) * weight.float()


def rms_norm_formula(x: Tensor, weight: Tensor, scale: Tensor | None = None) -> Tensor:
    y = norm_formula(x, weight)
    return (y if scale is None else y * scale.float()).to(x.dtype)


def head_rope_formula(x: Tensor, weight: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
    x0, x1 = (x.float() if weight is None else norm_formula(x, weight)).chunk(2, -1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((x0 * cos - x1 * sin, x1 * cos + x0 * sin), -1).to(x.dtype)


def head_rope_positional_formula(
    x: Tensor, weight: Tensor | None, positions: Tensor, frequencies: Tensor
) -> Tensor:
    angles = positions.float()[:, None] * frequencies
    return head_rope_formula(x, weight, angles.cos(), angles.sin())


def vision_2d_rope_formula(x: Tensor, pos_x: Tensor, pos_y: Tensor, frequencies: Tensor) -> Tensor:
    quarters = x.float().chunk(4, -1)
    turned = []
    for (x0, x1), positions in ((quarters[:2], pos_x), (quarters[2:], pos_y)):
        angles = positions.float()[:, None, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        turned += [x0 * cos - x1 * sin, x1 * cos + x0 * sin]
    return torch.cat(turned, -1).to(x.dtype)


def im2col_formula(pixels: Tensor, patch: int) -> Tensor:
    channels, height, width = pixels.shape
    tiles = pixels.reshape(channels, height // patch, patch, width // patch, patch)
    return tiles.permute(1, 3, 0, 2, 4).reshape(-1, channels * patch * patch)


def gated_delta_formula(q: Tensor, k: Tensor, v: Tensor, state: Tensor, g: Tensor, causal: Tensor) -> Tensor:
    batch, tokens, key_heads, key_dim = q.shape
    heads, value_dim = v.shape[2:]
    group = heads // key_heads

    def by_chunk(a: Tensor) -> Tensor:  # [B, T, heads, d] -> [B, chunks, heads, 64, d]
        return a.reshape(batch, tokens // CHUNK, CHUNK, *a.shape[2:]).transpose(2, 3)

    q, k, v = by_chunk(q), by_chunk(k), by_chunk(v)
    g = g.reshape(batch, tokens // CHUNK, CHUNK, heads).transpose(2, 3)
    # The scores depend on the key head alone, so they are computed once for its group.
    scores = (q @ k.transpose(-1, -2)).repeat_interleave(group, 2)
    decay = (g[..., :, None] - g[..., None, :]).masked_fill(~causal, -torch.inf).exp()
    a = (scores * decay).bfloat16().float()
    inter = (q.repeat_interleave(group, 2) @ state.transpose(-1, -2)) * g.exp()[..., None]
    o = (inter + a @ v) * key_dim**-0.5
    return o.transpose(2, 3).reshape(batch, tokens, heads, value_dim)


# The types with fewer bits are rounded once by PyTorch as well: its kernels compute in float32.
ARITHMETIC = {"add": torch.add, "mul": torch.mul}


def silu_mul_formula(gate: Tensor, up: Tensor) -> Tensor:
    return (F.silu(gate.float()) * up.float()).to(gate.dtype)


def gelu_mul_formula(gate: Tensor, up: Tensor) -> Tensor:
    return (F.gelu(gate.float(), approximate="tanh") * up.float()).to(gate.dtype)


GATED = {"silu_mul": silu_mul_formula, "gelu_mul": gelu_mul_formula}


def _frequencies(count: int, dim: int, theta: float) -> Tensor:
    return tensor((theta ** (-2 * np.arange(count) / dim)).astype(np.float32))


def _formula(operation: str, inputs: Inputs) -> tuple[Any, tuple]:
    """The formula of an operation and its arguments."""
    if operation == "im2col_2d":
        return im2col_formula, (tensor(inputs["pixels"]), inputs["patch"])
    if operation == "gated_delta_net_chunk_o":
        # Float32 throughout, converted outside the clock: batched products of bfloat16 tend to be slower.
        arguments = (tensor(np.asarray(inputs[n], dtype=np.float32)) for n in ("q", "k", "v", "state", "g"))
        return gated_delta_formula, (*arguments, torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril())
    if operation in ARITHMETIC:
        return ARITHMETIC[operation], (tensor(inputs["a"]), tensor(inputs["b"]))
    if operation in GATED:
        return GATED[operation], (tensor(inputs["gate"]), tensor(inputs["up"]))
    x = tensor(inputs["x"])
    theta = inputs.get("theta", THETA)
    if operation == "vision_2d_rope":
        dim = x.shape[-1]
        positions = (tensor(inputs[name]) for name in ("pos_x", "pos_y"))
        return vision_2d_rope_formula, (x, *positions, _frequencies(dim // 4, dim // 2, theta))
    weight = tensor(inputs["weight"]) if "weight" in inputs else None
    if operation in ("fused_head_norm_rope", "rope_neox"):
        if "positions" in inputs:
            dim = x.shape[-1]
            positions = tensor(inputs["positions"])
            return head_rope_positional_formula, (
                x,
                weight,
                positions,
                _frequencies(dim // 2, dim, theta),
            )
        return head_rope_formula, (x, weight, tensor(inputs["cos"]), tensor(inputs["sin"]))
    scale = (tensor(inputs["scale"]),) if operation == "rms_norm_mul" else ()
    return rms_norm_formula, (x, weight, *scale)


# Eager mode into memory allocated beforehand, as far as the out= forms go.


class _Reuse:
    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.wide = torch.empty(x.shape)
        self.out = torch.empty_like(x)

    def load(self) -> Tensor:
        return self.x if self.x.dtype == torch.float32 else self.wide.copy_(self.x)

    def target(self) -> Tensor:
        return self.out if self.out.dtype == torch.float32 else self.wide

    def store(self, y: Tensor) -> Tensor:
        return y if y is self.out else self.out.copy_(y)


def _norm_into(x: Tensor, weight: Tensor, squares: Tensor, out: Tensor) -> Tensor:
    mean = torch.mul(x, x, out=squares).mean(-1, keepdim=True)
    return torch.mul(x, mean.add_(EPS).rsqrt_(), out=out).mul_(weight)


def _rotate_into(
    x0: Tensor, x1: Tensor, cos: Tensor, sin: Tensor, y0: Tensor, y1: Tensor, kept: Tensor
) -> None:
    kept.copy_(x0)  # y0 may be x0
    torch.mul(x0, cos, out=y0).addcmul_(x1, sin, value=-1)
    torch.mul(x1, cos, out=y1).addcmul_(kept, sin)


def _rms_norm_reuse(x: Tensor, weight: Tensor, scale: Tensor | None = None) -> Run:
    memory, squares, weight = _Reuse(x), torch.empty(x.shape), weight.float()

    def run() -> Tensor:
        y = _norm_into(memory.load(), weight, squares, memory.target())
        if scale is not None:
            y.mul_(scale)
        return memory.store(y)

    return run


def _head_rope_reuse(x: Tensor, weight: Tensor | None, *angles: Tensor, positional: bool) -> Run:
    memory = _Reuse(x)
    if weight is not None:
        squares, weight = torch.empty(x.shape), weight.float()
    kept = torch.empty(*x.shape[:-1], x.shape[-1] // 2)

    def run() -> Tensor:
        cos, sin = angles
        if positional:
            angle = angles[0].float()[:, None] * angles[1]
            cos, sin = angle.cos(), angle.sin()
        x, y = memory.load(), memory.target()
        if weight is not None:
            x = _norm_into(x, weight, squares, y)
        _rotate_into(*x.chunk(2, -1), cos[:, None, :], sin[:, None, :], *y.chunk(2, -1), kept)
        return memory.store(y)

    return run


def _vision_2d_rope_reuse(x: Tensor, pos_x: Tensor, pos_y: Tensor, frequencies: Tensor) -> Run:
    memory = _Reuse(x)
    kept = torch.empty(*x.shape[:-1], x.shape[-1] // 4)

    def run() -> Tensor:
        source, target = memory.load().chunk(4, -1), memory.target().chunk(4, -1)
        for first, positions in ((0, pos_x), (2, pos_y)):
            angle = positions.float()[:, None, None] * frequencies
            pair = slice(first, first + 2)
            _rotate_into(*source[pair], angle.cos(), angle.sin(), *target[pair], kept)
        return memory.store(memory.target())

    return run


def _arithmetic_reuse(operation: str, a: Tensor, b: Tensor) -> Run:
    out = torch.empty_like(a)
    return lambda: ARITHMETIC[operation](a, b, out=out)


def _gated_reuse(operation: str, gate: Tensor, up: Tensor) -> Run:
    memory, wide_up = _Reuse(gate), torch.empty(up.shape)
    options = {"approximate": "tanh"} if operation == "gelu_mul" else {}
    activation = getattr(torch.ops.aten, operation.removesuffix("_mul")).out

    def run() -> Tensor:
        source = up if up.dtype == torch.float32 else wide_up.copy_(up)
        y = activation(memory.load(), **options, out=memory.target())
        return memory.store(y.mul_(source))

    return run


def _im2col_reuse(pixels: Tensor, patch: int) -> Run:
    channels, height, width = pixels.shape
    tiles = pixels.reshape(channels, height // patch, patch, width // patch, patch).permute(1, 3, 0, 2, 4)
    out = torch.empty(tiles.shape, dtype=pixels.dtype)
    return lambda: out.copy_(tiles).view(-1, channels * patch * patch)


def _without_grad(run: Run) -> Run:
    def wrapped() -> Tensor:
        with torch.inference_mode():
            return run()

    return wrapped


def _eager(operation: str, inputs: Inputs, reuse: bool) -> Run | None:
    formula, arguments = _formula(operation, inputs)
    if not reuse:
        if operation == "rms_norm":  # PyTorch has this one as a function of its own
            x, weight = arguments
            return _without_grad(lambda: F.rms_norm(x, weight.shape, weight.to(x.dtype), EPS))
        return _without_grad(lambda: formula(*arguments))
    if operation in ("rms_norm", "rms_norm_mul"):
        return _without_grad(_rms_norm_reuse(*arguments))
    if operation in ("fused_head_norm_rope", "rope_neox"):
        return _without_grad(_head_rope_reuse(*arguments, positional="positions" in inputs))
    if operation == "vision_2d_rope":
        return _without_grad(_vision_2d_rope_reuse(*arguments))
    if operation in ARITHMETIC:
        return _without_grad(_arithmetic_reuse(operation, *arguments))
    if operation in GATED:
        return _without_grad(_gated_reuse(operation, *arguments))
    if operation == "im2col_2d":
        return _without_grad(_im2col_reuse(*arguments))
    return None  # the batched products of the delta rule need their intermediates anyway


def compiled(operation: str, inputs: Inputs) -> Run:
    """The formula through torch.compile; compiles now, which takes seconds and needs a C++ compiler."""
    formula, arguments = _formula(operation, inputs)
    torch._dynamo.reset()
    fast = torch.compile(formula, dynamic=False)
    run = _without_grad(lambda: fast(*arguments))
    run()
    return run


def _operation(name: str) -> Any:
    return lambda inputs, reuse: _eager(name, inputs, reuse)


OPERATIONS = {
    name: _operation(name)
    for name in (
        "rms_norm",
        "rms_norm_mul",
        "fused_head_norm_rope",
        "vision_2d_rope",
        "im2col_2d",
        "gated_delta_net_chunk_o",
        "rope_neox",
        "add",
        "mul",
        "silu_mul",
        "gelu_mul",
    )
}
