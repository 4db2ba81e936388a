"""
The operations. Each records itself into a CommandEncoder or a Graph, checks all of its arguments before that, and
returns its output: ``out`` if given, else a new buffer.
"""

import metalloid._core


def rms_norm(cmd: metalloid._core.Encoder, x: metalloid._core.Buffer, weight: metalloid._core.Buffer | None = None, *, eps: float = 1e-06, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    Root-mean-square normalisation: ``y = x * rsqrt(mean(x**2) + eps) * weight``, the mean over the last axis.

    x, y    [..., dim], float32, float16 or bfloat16
    weight  [dim], of x's type or float32; without it the factor is left out
    eps     added to the mean square; finite, above 0

    ``out`` may be ``x``. Sums are float32; y is rounded once.

    Raises ValidationError if a shape or type does not fit. Zhang and Sennrich 2019, arXiv:1910.07467.
    """

def rms_norm_mul(cmd: metalloid._core.Encoder, x: metalloid._core.Buffer, weight: metalloid._core.Buffer, scale: metalloid._core.Buffer, *, eps: float = 1e-06, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    RMS norm times another array, in one pass: ``y = rms_norm(x, weight) * scale``.

    x, scale, y  [..., dim], of one type: float32, float16 or bfloat16
    weight       [dim], of x's type or float32
    eps          added to the mean square; finite, above 0

    ``out`` may be ``x`` or ``scale``. The product is not rounded in between.

    Raises ValidationError if a shape or type does not fit. Zhang and Sennrich 2019, arXiv:1910.07467.
    """

def fused_head_norm_rope(cmd: metalloid._core.Encoder, x: metalloid._core.Buffer, *, cos: metalloid._core.Buffer | None = None, sin: metalloid._core.Buffer | None = None, positions: metalloid._core.Buffer | None = None, theta: float = 10000.0, freq_factors: metalloid._core.Buffer | None = None, weight: metalloid._core.Buffer | None = None, half_rope_dim: int | None = None, eps: float = 1e-06, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    RMS norm of every head of every token, then a rotary embedding, in one pass.

    x, y           [tokens, heads, head_dim] or [heads, head_dim], float32, float16 or bfloat16; head_dim even
    weight         [head_dim], of x's type or float32; without it the norm has no weight
    half_rope_dim  number of rotated pairs, 0 to head_dim / 2; the other elements are only normalised
    eps            added to the mean square; finite, above 0

    Either with tables of angles: pairs are (i, i + half_rope_dim), half_rope_dim defaults to the last axis of cos,

    cos, sin       [half_rope_dim] or [tokens, half_rope_dim], float32

    or with positions: pairs are (i, i + head_dim / 2), half_rope_dim defaults to head_dim / 2, and the angle is
    ``positions[t] / theta**(2 * i / head_dim) / freq_factors[i]`` radians,

    positions      [tokens], int32 or uint32
    theta          base of the frequencies; finite, above 0
    freq_factors   [half_rope_dim], float32, optional

    A pair turns as ``y0 = x0*cos - x1*sin``, ``y1 = x1*cos + x0*sin``. ``out`` may be ``x``.

    Raises ValidationError if a shape or type does not fit, or for both forms or neither.
    Zhang and Sennrich 2019, arXiv:1910.07467; Su et al. 2021, arXiv:2104.09864.
    """

def rope_neox(cmd: metalloid._core.Encoder, x: metalloid._core.Buffer, *, cos: metalloid._core.Buffer | None = None, sin: metalloid._core.Buffer | None = None, positions: metalloid._core.Buffer | None = None, theta: float = 10000.0, freq_factors: metalloid._core.Buffer | None = None, half_rope_dim: int | None = None, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    Rotary embedding of every head of every token: ``fused_head_norm_rope`` without the norm.

    x, y           [tokens, heads, head_dim] or [heads, head_dim], float32, float16 or bfloat16; head_dim even
    half_rope_dim  number of rotated pairs, 0 to head_dim / 2; the other elements are copied bit for bit

    Either with tables of angles: pairs are (i, i + half_rope_dim), half_rope_dim defaults to the last axis of cos,

    cos, sin       [half_rope_dim] or [tokens, half_rope_dim], float32

    or with positions: pairs are (i, i + head_dim / 2), half_rope_dim defaults to head_dim / 2, and the angle is
    ``positions[t] / theta**(2 * i / head_dim) / freq_factors[i]`` radians,

    positions      [tokens], int32 or uint32
    theta          base of the frequencies; finite, above 0
    freq_factors   [half_rope_dim], float32, optional

    A pair turns as ``y0 = x0*cos - x1*sin``, ``y1 = x1*cos + x0*sin``. ``out`` may be ``x``.

    Raises ValidationError if a shape or type does not fit, or for both forms or neither.
    Su et al. 2021, arXiv:2104.09864.
    """

def vision_2d_rope(cmd: metalloid._core.Encoder, x: metalloid._core.Buffer, pos_x: metalloid._core.Buffer, pos_y: metalloid._core.Buffer, *, theta: float = 10000.0, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    Two-dimensional rotary embedding of vision towers.

    x, y          [seq, heads, head_dim], float32, float16 or bfloat16; head_dim a multiple of 4
    pos_x, pos_y  [seq], int32 or uint32
    theta         base of the frequencies; finite, above 0

    The first half of a head turns by pos_x, the second by pos_y. In each half the pairs are (i, i + head_dim / 4),
    and the angle is ``pos * theta**(-2 * i / (head_dim / 2))`` radians. ``out`` may be ``x``.

    Raises ValidationError if a shape or type does not fit.
    Su et al. 2021, arXiv:2104.09864; Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191.
    """

def im2col_2d(cmd: metalloid._core.Encoder, pixels: metalloid._core.Buffer, patch: int, *, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    Unfolds an image into patches that do not overlap, as vision towers embed them. Moves bits, computes nothing.

    pixels  [channels, height, width], float32, float16 or bfloat16
    patch   height and width of a patch; divides both sizes of the image
    y       [height / patch * width / patch, channels * patch * patch], of pixels' type

    Row ``patch_y * (width / patch) + patch_x`` holds that patch, channel by channel, row by row.

    Raises ValidationError if a shape or type does not fit. Dosovitskiy et al. 2020, arXiv:2010.11929.
    """

def gated_delta_net_chunk_o(cmd: metalloid._core.Encoder, q: metalloid._core.Buffer, k: metalloid._core.Buffer, v: metalloid._core.Buffer, state: metalloid._core.Buffer, g: metalloid._core.Buffer, *, scale: float | None = None, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    Output stage of the chunked gated delta rule, with chunks of 64 tokens.

    q, k   [B, T, Hg, K], bfloat16; T a multiple of 64, K 64, 128 or 256
    v, y   [B, T, H, V], bfloat16; H a multiple of Hg, V a multiple of 32 up to 256
    state  [B, T / 64, H, V, K], bfloat16: the state at the start of each chunk
    g      [B, T, H], float32: the logarithm of the decay, summed up within each chunk
    scale  finite; K**-0.5 by default

    In each chunk, with the key head ``h // (H // Hg)``,
    ``y_i = scale * (exp(g_i) * q_i . state + sum over j <= i of A_ij * v_j)``, ``A_ij = exp(g_i - g_j) * (q_i . k_j)``
    rounded to bfloat16. Sums are float32.

    Raises ValidationError if a shape or type does not fit. Yang et al. 2024, arXiv:2412.06464.
    """

def add(cmd: metalloid._core.Encoder, a: metalloid._core.Buffer, b: metalloid._core.Buffer, *, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    Sum of two arrays, element by element: ``y = a + b``.

    a, b, y  of one shape and one type: float32, float16 or bfloat16

    ``out`` may be ``a`` or ``b``, and these may be the same. Arithmetic is float32; y is rounded once.

    Raises ValidationError if a shape or type does not fit.
    """

def mul(cmd: metalloid._core.Encoder, a: metalloid._core.Buffer, b: metalloid._core.Buffer, *, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    Product of two arrays, element by element: ``y = a * b``.

    a, b, y  of one shape and one type: float32, float16 or bfloat16

    ``out`` may be ``a`` or ``b``, and these may be the same. Arithmetic is float32; y is rounded once.

    Raises ValidationError if a shape or type does not fit.
    """

def silu_mul(cmd: metalloid._core.Encoder, gate: metalloid._core.Buffer, up: metalloid._core.Buffer, *, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    SwiGLU: ``y = silu(gate) * up``, with ``silu(v) = v / (1 + exp(-v))``.

    gate, up, y  of one shape and one type: float32, float16 or bfloat16

    ``silu(-inf)`` is 0, its limit. ``out`` may be ``gate`` or ``up``, and these may be the same. Arithmetic is
    float32; y is rounded once.

    Raises ValidationError if a shape or type does not fit. Shazeer 2020, arXiv:2002.05202.
    """

def gelu_mul(cmd: metalloid._core.Encoder, gate: metalloid._core.Buffer, up: metalloid._core.Buffer, *, out: metalloid._core.Buffer | None = None) -> metalloid._core.Buffer:
    """
    GeGLU: ``y = gelu(gate) * up``, with ``gelu(v) = v / 2 * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v**3)))``.

    gate, up, y  of one shape and one type: float32, float16 or bfloat16

    This is the approximation by tanh, which differs from the form with erf by up to 0.0005: Metal has no erf.
    ``gelu(-inf)`` is 0, its limit. ``out`` may be ``gate`` or ``up``, and these may be the same. Arithmetic is float32;
    y is rounded once.

    Raises ValidationError if a shape or type does not fit.
    Hendrycks and Gimpel 2016, arXiv:1606.08415; Shazeer 2020, arXiv:2002.05202.
    """
