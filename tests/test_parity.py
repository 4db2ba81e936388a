"""The same numbers as PyTorch and the modules of transformers, where they are installed.

All with random weights on the CPU, in float32, so that what is compared is the formula and not a rounding.
"""

from __future__ import annotations

import metalloid as ml
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install '.[peers]')")


@pytest.fixture(autouse=True)
def _seed(rng):
    torch.manual_seed(int(rng.integers(1 << 32)))


def model(name: str):
    """A modelling module of transformers; it is skipped where this version does not have it."""
    pytest.importorskip("transformers", reason="transformers is not installed (pip install '.[peers]')")
    return pytest.importorskip(
        f"transformers.models.{name}.modeling_{name}", reason=f"transformers has no {name}"
    )


def config(name: str, cls: str, **arguments):
    module = pytest.importorskip(f"transformers.models.{name}.configuration_{name}")
    return getattr(module, cls)(**arguments)


def give(dev, tensor) -> ml.Buffer:
    return dev.array(tensor.detach().contiguous())


def run(dev, op, *arguments, **more) -> np.ndarray:
    with dev.commands() as cmd:
        y = op(cmd, *arguments, **more)
    return np.asarray(y)


def assert_same(got, expected, tolerance=2e-6) -> None:
    """Both are float32 results of a few roundings, of values around one to ten."""
    expected = expected.detach().numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


# --- RMS norm -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [63, 64, 4096])
@pytest.mark.parametrize("weighted", [True, False])
def test_torch_rms_norm(dev, dim, weighted):
    x, weight = torch.randn(9, dim), torch.randn(dim) if weighted else None
    expected = torch.nn.functional.rms_norm(x, (dim,), weight, 1e-6)
    weight = {"weight": give(dev, weight)} if weighted else {}
    assert_same(run(dev, ml.ops.rms_norm, give(dev, x), **weight), expected, 1e-5)


def test_torch_rms_norm_bf16(dev):
    """PyTorch rounds before the weight and after it, we only at the end: two units in the last place."""
    x, weight = torch.randn(33, 1000).bfloat16(), torch.randn(1000).bfloat16()
    expected = torch.nn.functional.rms_norm(x, (1000,), weight, 1e-6).float().numpy()
    got = run(dev, ml.ops.rms_norm, give(dev, x), give(dev, weight)).astype(np.float32)
    np.testing.assert_allclose(got, expected, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "cls", "one_plus"),
    [
        ("llama", "LlamaRMSNorm", False),
        ("qwen2", "Qwen2RMSNorm", False),
        ("qwen3", "Qwen3RMSNorm", False),
        ("gemma", "GemmaRMSNorm", True),
        ("gemma2", "Gemma2RMSNorm", True),
        ("gemma3", "Gemma3RMSNorm", True),
        ("gemma4", "Gemma4RMSNorm", False),
        ("qwen3_next", "Qwen3NextRMSNorm", True),
    ],
)
def test_transformers_rms_norm(dev, name, cls, one_plus):
    norm = getattr(model(name), cls)(640, eps=1e-5)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(640))
        x = torch.randn(2, 7, 640)
        expected = norm(x)
    weight = norm.weight + 1 if one_plus else norm.weight
    assert_same(run(dev, ml.ops.rms_norm, give(dev, x), give(dev, weight), eps=1e-5), expected, 1e-5)


def test_gemma4_value_norm_has_no_weight(dev):
    norm = model("gemma4").Gemma4RMSNorm(256, eps=1e-6, with_scale=False)
    x = torch.randn(5, 4, 256)
    assert_same(run(dev, ml.ops.rms_norm, give(dev, x)), norm(x), 1e-5)


# --- rotary embeddings --------------------------------------------------------------------------


def rotated_by(module, x, cos, sin):
    """x `[tokens, heads, dim]` through a module's apply_rotary_pos_emb, whichever of its two forms it has."""
    arguments = x.transpose(0, 1)[None], cos, sin
    try:
        y = module.apply_rotary_pos_emb(arguments[0], *arguments)[0]
    except TypeError:
        y = module.apply_rotary_pos_emb(*arguments)
    return y[0].transpose(0, 1)


POSITIONS = torch.tensor([[0, 1, 2, 77, 1023, 4095]])


@pytest.mark.parametrize(
    ("name", "cls", "config_cls"),
    [
        ("gemma", "GemmaRotaryEmbedding", "GemmaConfig"),
        ("qwen2", "Qwen2RotaryEmbedding", "Qwen2Config"),
        ("qwen3", "Qwen3RotaryEmbedding", "Qwen3Config"),
        ("llama", "LlamaRotaryEmbedding", "LlamaConfig"),
    ],
)
@pytest.mark.parametrize("form", ["cached", "positions"])
@pytest.mark.parametrize("normed", [True, False])
def test_transformers_head_norm_and_rotary(dev, name, cls, config_cls, form, normed):
    """Norm of each head, then rotation, as the attention of Qwen3 and Gemma 3 treats queries and keys."""
    heads, dim = 5, 128
    module = model(name)
    conf = config(name, config_cls, hidden_size=heads * dim, num_attention_heads=heads, head_dim=dim)
    x, weight = torch.randn(POSITIONS.shape[1], heads, dim), torch.randn(dim)
    cos, sin = getattr(module, cls)(conf)(x, POSITIONS)
    source = torch.nn.functional.rms_norm(x, (dim,), weight, 1e-6) if normed else x
    expected = rotated_by(module, source, cos, sin)
    if form == "cached":
        tables = {"cos": give(dev, cos[0, :, : dim // 2]), "sin": give(dev, sin[0, :, : dim // 2])}
        tolerance = 1e-5
    else:
        parameters = getattr(conf, "rope_parameters", None) or {"rope_theta": conf.rope_theta}
        tables = {"positions": give(dev, POSITIONS[0].int()), "theta": parameters["rope_theta"]}
        tolerance = 4095 * 2**-22 * 4  # the angles of both sides are rounded to f32
    if normed:
        got = run(dev, ml.ops.fused_head_norm_rope, give(dev, x), weight=give(dev, weight), **tables)
    else:
        got = run(dev, ml.ops.rope_neox, give(dev, x), **tables)
    assert_same(got, expected, tolerance)


def test_gemma4_proportional_rotary(dev):
    """Global layers of Gemma 4: a quarter of the pairs turn, the distance stays head_dim/2."""
    module = model("gemma4")
    heads, dim, theta = 3, 512, 1_000_000.0
    conf = config(
        "gemma4",
        "Gemma4TextConfig",
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        hidden_size=heads * dim,
        num_attention_heads=heads,
        global_head_dim=dim,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {
                "rope_type": "proportional",
                "rope_theta": theta,
                "partial_rotary_factor": 0.25,
            },
        },
    )
    x = torch.randn(POSITIONS.shape[1], heads, dim)
    cos, sin = module.Gemma4TextRotaryEmbedding(conf)(x, POSITIONS, layer_type="full_attention")
    assert cos.shape[-1] == dim
    expected = rotated_by(module, torch.nn.functional.rms_norm(x, (dim,), None, 1e-6), cos, sin)
    got = run(
        dev,
        ml.ops.fused_head_norm_rope,
        give(dev, x),
        positions=give(dev, POSITIONS[0].int()),
        theta=theta,
        half_rope_dim=dim // 8,
    )
    assert_same(got, expected, 4095 * 2**-22 * 4)
    assert_same(got[..., dim // 8 : dim // 2], expected[..., dim // 8 : dim // 2], 1e-5)


def test_partial_rotary_of_qwen3_next(dev):
    """The leading quarter of a head turns as a domain of its own: the cached form with half_rope_dim."""
    module = model("qwen3_next")
    heads, dim = 4, 256
    conf = config(
        "qwen3_next",
        "Qwen3NextConfig",
        hidden_size=heads * dim,
        num_attention_heads=heads,
        head_dim=dim,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.25},
    )
    x, weight = torch.randn(POSITIONS.shape[1], heads, dim), torch.randn(dim)
    cos, sin = module.Qwen3NextRotaryEmbedding(conf)(x, POSITIONS)
    half = cos.shape[-1] // 2
    assert half == dim // 8
    expected = rotated_by(module, torch.nn.functional.rms_norm(x, (dim,), weight, 1e-6), cos, sin)
    got = run(
        dev,
        ml.ops.fused_head_norm_rope,
        give(dev, x),
        cos=give(dev, cos[0, :, :half]),
        sin=give(dev, sin[0, :, :half]),
        weight=give(dev, weight),
    )
    assert_same(got, expected, 1e-5)


@pytest.mark.parametrize("dim", [64, 72, 80])
def test_gemma4_vision_rotary(dev, dim):
    module = model("gemma4")
    heads, seq, theta = 4, 50, 100.0
    conf = config(
        "gemma4",
        "Gemma4VisionConfig",
        hidden_size=heads * dim,
        num_attention_heads=heads,
        head_dim=dim,
        rope_parameters={"rope_type": "axial", "rope_theta": theta},
    )
    x, positions = torch.randn(seq, heads, dim), torch.randint(0, 64, (1, seq, 2))
    cos, sin = module.Gemma4VisionRotaryEmbedding(conf)(x, positions)
    expected = module.apply_multidimensional_rope(x[None], cos, sin, positions)[0]
    got = run(
        dev,
        ml.ops.vision_2d_rope,
        give(dev, x),
        give(dev, positions[0, :, 0].int()),
        give(dev, positions[0, :, 1].int()),
        theta=theta,
    )
    assert_same(got, expected, 64 * 2**-22 * 4)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_qwen_vision_rotary(dev, name):
    """Qwen pairs (i, i + dim/2), half of the pairs for rows: ours with the inner quarters swapped."""
    module = model(name)
    heads, dim, seq = 4, 80, 40
    x, positions = torch.randn(seq, heads, dim), torch.randint(0, 64, (seq, 2))
    inverse = 1.0 / (10_000.0 ** (torch.arange(0, dim // 2, 2, dtype=torch.float) / (dim // 2)))
    angles = (positions[:, :, None].float() * inverse).flatten(1)
    cos, sin = (f(torch.cat([angles, angles], dim=-1)) for f in (torch.cos, torch.sin))
    expected, _ = module.apply_rotary_pos_emb_vision(x, x, cos, sin)

    def swap(t):
        return t.reshape(seq, heads, 2, 2, dim // 4).transpose(2, 3).reshape(seq, heads, dim)

    got = run(
        dev,
        ml.ops.vision_2d_rope,
        give(dev, swap(x)),
        give(dev, positions[:, 0].int()),
        give(dev, positions[:, 1].int()),
    )
    assert_same(got, swap(expected), 64 * 2**-22 * 4)


# --- unfold -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "patch"), [((3, 56, 84), 14), ((3, 64, 48), 16), ((5, 9, 6), 3)])
def test_torch_unfold(dev, shape, patch):
    x = torch.randn(shape)
    expected = torch.nn.functional.unfold(x[None], patch, stride=patch)[0].T
    np.testing.assert_array_equal(run(dev, ml.ops.im2col_2d, give(dev, x), patch), expected.numpy())


def test_patch_embedding_of_a_vision_tower(dev):
    """A strided convolution is im2col and one matrix product."""
    conv = torch.nn.Conv2d(3, 32, 14, stride=14)
    x = torch.randn(3, 70, 98)
    expected = conv(x[None])[0].flatten(1).T
    columns = run(dev, ml.ops.im2col_2d, give(dev, x), 14)
    got = columns @ conv.weight.detach().reshape(32, -1).numpy().T + conv.bias.detach().numpy()
    assert_same(got, expected, 1e-5)


# --- elementwise --------------------------------------------------------------------------------

TORCH_ELEMENTWISE = {
    "add": torch.add,
    "mul": torch.mul,
    "silu_mul": lambda gate, up: torch.nn.functional.silu(gate) * up,
    "gelu_mul": lambda gate, up: torch.nn.functional.gelu(gate, approximate="tanh") * up,
}


@pytest.mark.parametrize("op", TORCH_ELEMENTWISE)
def test_torch_elementwise(dev, op):
    x, y = 4 * torch.randn(2, 33, 1003)
    got = run(dev, getattr(ml.ops, op), give(dev, x), give(dev, y))
    # PyTorch takes 1 + tanh, which cancels where the gate is far below 0.
    assert_same(got, TORCH_ELEMENTWISE[op](x, y), 4e-6 if op == "gelu_mul" else 2e-6)


@pytest.mark.parametrize("op", ["add", "mul"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_torch_arithmetic_gives_the_same_bits(dev, op, dtype):
    x, y = (4 * torch.randn(2, 33, 1003)).to(dtype)
    got = run(dev, getattr(ml.ops, op), give(dev, x), give(dev, y))
    assert torch.equal(torch.from_numpy(got.astype(np.float32)), TORCH_ELEMENTWISE[op](x, y).float())


# --- gated delta rule ---------------------------------------------------------------------------


def values_and_states(q, k, v, g, beta):
    """Everything of the chunked gated delta rule that comes before its output stage, in float32.

    Returns the corrected values `[B, T, H, V]`, the state `[B, chunks, H, V, K]` before each chunk, and g
    summed within each chunk.
    """
    batch, tokens, heads, key_dim = k.shape
    chunks = tokens // 64

    def by_chunk(t):
        return t.reshape(batch, chunks, 64, heads, -1).permute(0, 1, 3, 2, 4)

    k, v, beta = by_chunk(k), by_chunk(v), by_chunk(beta)
    g = by_chunk(g)[..., 0].cumsum(-1)
    lower = torch.ones(64, 64, dtype=torch.bool).tril(-1)
    decay = (g[..., :, None] - g[..., None, :]).masked_fill(~lower, -torch.inf).exp()
    system = torch.eye(64) + (beta * k) @ k.transpose(-1, -2) * decay
    solved_v = torch.linalg.solve_triangular(system, beta * v, upper=False)
    solved_k = torch.linalg.solve_triangular(system, beta * k * g.exp()[..., None], upper=False)
    state = torch.zeros(batch, heads, v.shape[-1], key_dim)
    states, corrected = [], []
    for n in range(chunks):
        states.append(state)
        new = solved_v[:, n] - solved_k[:, n] @ state.transpose(-1, -2)
        corrected.append(new)
        to_end = (g[:, n, :, -1:] - g[:, n]).exp()[..., None]
        state = state * g[:, n, :, -1].exp()[..., None, None] + new.transpose(-1, -2) @ (k[:, n] * to_end)
    corrected = torch.stack(corrected, 1).permute(0, 1, 3, 2, 4).reshape(batch, tokens, heads, -1)
    return corrected, torch.stack(states, 1), g.permute(0, 1, 3, 2).reshape(batch, tokens, heads)


@pytest.mark.parametrize(("key_heads", "heads"), [(2, 2), (2, 6)])
def test_chunked_gated_delta_rule(dev, key_heads, heads):
    """The module's whole result, from our output stage on the values and states that lead up to it."""
    module = model("qwen3_next")
    batch, tokens, key_dim, value_dim = 2, 256, 64, 96
    q, k = torch.randn(2, batch, tokens, key_heads, key_dim)
    q, k = (torch.nn.functional.normalize(t, dim=-1).bfloat16().float() for t in (q, k))
    v = torch.randn(batch, tokens, heads, value_dim)
    g, beta = -torch.rand(batch, tokens, heads) * 0.2, torch.rand(batch, tokens, heads)
    wide_q, wide_k = (t.repeat_interleave(heads // key_heads, dim=2) for t in (q, k))
    rule = module.torch_chunk_gated_delta_rule
    expected, _ = getattr(rule, "__wrapped__", rule)(wide_q, wide_k, v, g, beta, chunk_size=64)
    corrected, states, cumulative = values_and_states(wide_q, wide_k, v, g, beta)
    got = run(
        dev,
        ml.ops.gated_delta_net_chunk_o,
        *(give(dev, t.bfloat16()) for t in (q, k, corrected, states)),
        give(dev, cumulative),
    ).astype(np.float32)
    # bf16 values, states, A and result: each is off by 2^-9, in sums that a few terms make up.
    size = expected.abs().max().item()
    np.testing.assert_allclose(got, expected.numpy(), rtol=2**-6, atol=size * 2**-7)
    assert (
        np.sqrt(np.mean((got - expected.numpy()) ** 2)) < 2**-8 * expected.square().mean().sqrt().item() * 2
    )


# --- tensors ------------------------------------------------------------------------------------

TORCH_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}


@pytest.mark.parametrize("name", TORCH_TYPES)
def test_torch_shares_a_buffer(dev, name):
    b = dev.zeros((4, 6), name)
    t = torch.from_dlpack(b)
    assert t.dtype == TORCH_TYPES[name]
    assert tuple(t.shape) == (4, 6)
    assert t.data_ptr() == b.address
    t[2, 3] = 1
    assert b[2][3].item() == 1
    part = torch.from_dlpack(b[1:3])
    assert part.data_ptr() == b.address + b.nbytes // 4
    del b
    t[0, 0] = 1
    assert int(t.sum()) == 2


@pytest.mark.parametrize("name", TORCH_TYPES)
def test_a_buffer_copies_a_tensor(dev, name):
    t = (torch.rand(5, 7) * 3).to(TORCH_TYPES[name])
    b = dev.array(t)
    assert b.dtype.name == name
    assert b.tolist() == t.tolist()
    assert dev.array(t.T).tolist() == t.T.tolist()
    assert b.address != t.data_ptr()


def test_a_buffer_wraps_a_tensor(dev):
    from support import page_aligned

    t = torch.from_numpy(page_aligned((64, 64), np.float32))
    b = dev.wrap(t)
    assert b.address == t.data_ptr()
    with dev.commands() as cmd:
        t.fill_(3)
        ml.ops.rms_norm(cmd, b, out=b)
    assert torch.allclose(t, torch.ones(64, 64))
    half = torch.from_numpy(page_aligned(4096, np.int16)).view(torch.bfloat16)
    assert dev.wrap(half).dtype == ml.bfloat16
    with pytest.raises(ml.ValidationError) as raised:
        dev.wrap(t[:, 1:])
    assert "array()" in str(raised.value)
