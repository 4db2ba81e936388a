#include <nanobind/stl/optional.h>

#include "bindings/bindings.h"
#include "ops/elementwise.h"
#include "ops/fused_head_norm_rope.h"
#include "ops/gated_delta_net.h"
#include "ops/im2col_2d.h"
#include "ops/rms_norm.h"
#include "ops/rope_neox.h"
#include "ops/vision_2d_rope.h"

namespace metalloid::bindings {

namespace {

using Number = std::optional<double>;
// Any object, so that the message can name the argument that is no Buffer; for stubs a Buffer. Maybe: or
// None.
using In = nb::typed<nb::handle, Buffer>;
using Cmd = nb::typed<nb::handle, Encoder>;
using Maybe = In;
using Result = nb::typed<nb::object, Buffer>;

// Takes the Buffers out of the arguments of one operation.
struct Unwrap {
  const char* operation;

  const Buffer* maybe(const char* name, nb::handle argument) const {
    if (argument.is_none()) return nullptr;
    if (!nb::isinstance<Buffer>(argument)) {
      throw nb::type_error(text(operation, ": ", name, " is of type ", nb::inst_name(argument).c_str(),
                                ", needs to be a metalloid.Buffer; Device.array() makes one")
                               .c_str());
    }
    return nb::inst_ptr<Buffer>(argument);
  }
  Encoder& encoder(nb::handle cmd) const { return encoder_from(cmd, operation); }
  const Buffer& operator()(const char* name, nb::handle argument) const {
    if (const Buffer* buffer = maybe(name, argument)) return *buffer;
    throw nb::type_error(text(operation, ": ", name, " is None, needs to be a metalloid.Buffer").c_str());
  }
};

// The caller's own object where there is one.
Result result(Maybe out, Buffer&& made) {
  return Result(out.is_none() ? nb::cast(std::move(made)) : nb::borrow(out));
}

Result rms_norm(Cmd cmd, In x, Maybe weight, double eps, Maybe out) {
  Unwrap in{"rms_norm"};
  return result(
      out, ops::rms_norm(in.encoder(cmd), in("x", x), in.maybe("weight", weight), eps, in.maybe("out", out)));
}

Result rms_norm_mul(Cmd cmd, In x, In weight, In scale, double eps, Maybe out) {
  Unwrap in{"rms_norm_mul"};
  return result(out, ops::rms_norm_mul(in.encoder(cmd), in("x", x), in("weight", weight), in("scale", scale),
                                       eps, in.maybe("out", out)));
}

Result fused_head_norm_rope(Cmd cmd, In x, Maybe cos, Maybe sin, Maybe positions, double theta,
                            Maybe freq_factors, Maybe weight, std::optional<int64_t> half_rope_dim,
                            double eps, Maybe out) {
  Unwrap in{"fused_head_norm_rope"};
  ops::HeadNormRope options{{in.maybe("cos", cos), in.maybe("sin", sin), in.maybe("positions", positions),
                             theta, in.maybe("freq_factors", freq_factors), half_rope_dim},
                            in.maybe("weight", weight),
                            eps};
  return result(out, ops::fused_head_norm_rope(in.encoder(cmd), in("x", x), options, in.maybe("out", out)));
}

Result rope_neox(Cmd cmd, In x, Maybe cos, Maybe sin, Maybe positions, double theta, Maybe freq_factors,
                 std::optional<int64_t> half_rope_dim, Maybe out) {
  Unwrap in{"rope_neox"};
  ops::RopeOptions options{in.maybe("cos", cos),
                           in.maybe("sin", sin),
                           in.maybe("positions", positions),
                           theta,
                           in.maybe("freq_factors", freq_factors),
                           half_rope_dim};
  return result(out, ops::rope_neox(in.encoder(cmd), in("x", x), options, in.maybe("out", out)));
}

Result vision_2d_rope(Cmd cmd, In x, In pos_x, In pos_y, double theta, Maybe out) {
  Unwrap in{"vision_2d_rope"};
  return result(out, ops::vision_2d_rope(in.encoder(cmd), in("x", x), in("pos_x", pos_x), in("pos_y", pos_y),
                                         theta, in.maybe("out", out)));
}

Result im2col_2d(Cmd cmd, In pixels, int64_t patch, Maybe out) {
  Unwrap in{"im2col_2d"};
  return result(out, ops::im2col_2d(in.encoder(cmd), in("pixels", pixels), patch, in.maybe("out", out)));
}

Result gated_delta_net_chunk_o(Cmd cmd, In q, In k, In v, In state, In g, Number scale, Maybe out) {
  Unwrap in{"gated_delta_net_chunk_o"};
  return result(out,
                ops::gated_delta_net_chunk_o(in.encoder(cmd), in("q", q), in("k", k), in("v", v),
                                             in("state", state), in("g", g), scale, in.maybe("out", out)));
}

Result add(Cmd cmd, In a, In b, Maybe out) {
  Unwrap in{"add"};
  return result(out, ops::add(in.encoder(cmd), in("a", a), in("b", b), in.maybe("out", out)));
}

Result mul(Cmd cmd, In a, In b, Maybe out) {
  Unwrap in{"mul"};
  return result(out, ops::mul(in.encoder(cmd), in("a", a), in("b", b), in.maybe("out", out)));
}

Result silu_mul(Cmd cmd, In gate, In up, Maybe out) {
  Unwrap in{"silu_mul"};
  return result(out, ops::silu_mul(in.encoder(cmd), in("gate", gate), in("up", up), in.maybe("out", out)));
}

Result gelu_mul(Cmd cmd, In gate, In up, Maybe out) {
  Unwrap in{"gelu_mul"};
  return result(out, ops::gelu_mul(in.encoder(cmd), in("gate", gate), in("up", up), in.maybe("out", out)));
}

constexpr const char* kRmsNorm =
    R"(Root-mean-square normalisation: ``y = x * rsqrt(mean(x**2) + eps) * weight``, the mean over the last axis.

x, y    [..., dim], float32, float16 or bfloat16
weight  [dim], of x's type or float32; without it the factor is left out
eps     added to the mean square; finite, above 0

``out`` may be ``x``. Sums are float32; y is rounded once.

Raises ValidationError if a shape or type does not fit. Zhang and Sennrich 2019, arXiv:1910.07467.)";

constexpr const char* kRmsNormMul =
    R"(RMS norm times another array, in one pass: ``y = rms_norm(x, weight) * scale``.

x, scale, y  [..., dim], of one type: float32, float16 or bfloat16
weight       [dim], of x's type or float32
eps          added to the mean square; finite, above 0

``out`` may be ``x`` or ``scale``. The product is not rounded in between.

Raises ValidationError if a shape or type does not fit. Zhang and Sennrich 2019, arXiv:1910.07467.)";

constexpr const char* kFusedHeadNormRope =
    R"(RMS norm of every head of every token, then a rotary embedding, in one pass.

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
Zhang and Sennrich 2019, arXiv:1910.07467; Su et al. 2021, arXiv:2104.09864.)";

constexpr const char* kRopeNeox =
    R"(Rotary embedding of every head of every token: ``fused_head_norm_rope`` without the norm.

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
Su et al. 2021, arXiv:2104.09864.)";

constexpr const char* kVision2dRope =
    R"(Two-dimensional rotary embedding of vision towers.

x, y          [seq, heads, head_dim], float32, float16 or bfloat16; head_dim a multiple of 4
pos_x, pos_y  [seq], int32 or uint32
theta         base of the frequencies; finite, above 0

The first half of a head turns by pos_x, the second by pos_y. In each half the pairs are (i, i + head_dim / 4),
and the angle is ``pos * theta**(-2 * i / (head_dim / 2))`` radians. ``out`` may be ``x``.

Raises ValidationError if a shape or type does not fit.
Su et al. 2021, arXiv:2104.09864; Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191.)";

constexpr const char* kIm2col2d =
    R"(Unfolds an image into patches that do not overlap, as vision towers embed them. Moves bits, computes nothing.

pixels  [channels, height, width], float32, float16 or bfloat16
patch   height and width of a patch; divides both sizes of the image
y       [height / patch * width / patch, channels * patch * patch], of pixels' type

Row ``patch_y * (width / patch) + patch_x`` holds that patch, channel by channel, row by row.

Raises ValidationError if a shape or type does not fit. Dosovitskiy et al. 2020, arXiv:2010.11929.)";

constexpr const char* kGatedDeltaNet =
    R"(Output stage of the chunked gated delta rule, with chunks of 64 tokens.

q, k   [B, T, Hg, K], bfloat16; T a multiple of 64, K 64, 128 or 256
v, y   [B, T, H, V], bfloat16; H a multiple of Hg, V a multiple of 32 up to 256
state  [B, T / 64, H, V, K], bfloat16: the state at the start of each chunk
g      [B, T, H], float32: the logarithm of the decay, summed up within each chunk
scale  finite; K**-0.5 by default

In each chunk, with the key head ``h // (H // Hg)``,
``y_i = scale * (exp(g_i) * q_i . state + sum over j <= i of A_ij * v_j)``, ``A_ij = exp(g_i - g_j) * (q_i . k_j)``
rounded to bfloat16. Sums are float32.

Raises ValidationError if a shape or type does not fit. Yang et al. 2024, arXiv:2412.06464.)";

constexpr const char* kAdd =
    R"(Sum of two arrays, element by element: ``y = a + b``.

a, b, y  of one shape and one type: float32, float16 or bfloat16

``out`` may be ``a`` or ``b``, and these may be the same. Arithmetic is float32; y is rounded once.

Raises ValidationError if a shape or type does not fit.)";

constexpr const char* kMul =
    R"(Product of two arrays, element by element: ``y = a * b``.

a, b, y  of one shape and one type: float32, float16 or bfloat16

``out`` may be ``a`` or ``b``, and these may be the same. Arithmetic is float32; y is rounded once.

Raises ValidationError if a shape or type does not fit.)";

constexpr const char* kSiluMul =
    R"(SwiGLU: ``y = silu(gate) * up``, with ``silu(v) = v / (1 + exp(-v))``.

gate, up, y  of one shape and one type: float32, float16 or bfloat16

``silu(-inf)`` is 0, its limit. ``out`` may be ``gate`` or ``up``, and these may be the same. Arithmetic is
float32; y is rounded once.

Raises ValidationError if a shape or type does not fit. Shazeer 2020, arXiv:2002.05202.)";

constexpr const char* kGeluMul =
    R"(GeGLU: ``y = gelu(gate) * up``, with ``gelu(v) = v / 2 * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 * v**3)))``.

gate, up, y  of one shape and one type: float32, float16 or bfloat16

This is the approximation by tanh, which differs from the form with erf by up to 0.0005: Metal has no erf.
``gelu(-inf)`` is 0, its limit. ``out`` may be ``gate`` or ``up``, and these may be the same. Arithmetic is float32;
y is rounded once.

Raises ValidationError if a shape or type does not fit.
Hendrycks and Gimpel 2016, arXiv:1606.08415; Shazeer 2020, arXiv:2002.05202.)";

}  // namespace

void bind_ops(nb::module_& m) {
  nb::module_ ops =
      m.def_submodule("ops",
                      "The operations. Each records itself into a CommandEncoder or a Graph, checks all "
                      "of its arguments before that, and\n"
                      "returns its output: ``out`` if given, else a new buffer.");
  using nb::arg;
  const auto kw = nb::kw_only();
  const auto none = nb::none();

  ops.def("rms_norm", rms_norm, arg("cmd"), arg("x"), arg("weight") = none, kw, arg("eps") = 1e-6,
          arg("out") = none, kRmsNorm);
  ops.def("rms_norm_mul", rms_norm_mul, arg("cmd"), arg("x"), arg("weight"), arg("scale"), kw,
          arg("eps") = 1e-6, arg("out") = none, kRmsNormMul);
  ops.def("fused_head_norm_rope", fused_head_norm_rope, arg("cmd"), arg("x"), kw, arg("cos") = none,
          arg("sin") = none, arg("positions") = none, arg("theta") = 10000.0, arg("freq_factors") = none,
          arg("weight") = none, arg("half_rope_dim") = none, arg("eps") = 1e-6, arg("out") = none,
          kFusedHeadNormRope);
  ops.def("rope_neox", rope_neox, arg("cmd"), arg("x"), kw, arg("cos") = none, arg("sin") = none,
          arg("positions") = none, arg("theta") = 10000.0, arg("freq_factors") = none,
          arg("half_rope_dim") = none, arg("out") = none, kRopeNeox);
  ops.def("vision_2d_rope", vision_2d_rope, arg("cmd"), arg("x"), arg("pos_x"), arg("pos_y"), kw,
          arg("theta") = 10000.0, arg("out") = none, kVision2dRope);
  ops.def("im2col_2d", im2col_2d, arg("cmd"), arg("pixels"), arg("patch"), kw, arg("out") = none, kIm2col2d);
  ops.def("gated_delta_net_chunk_o", gated_delta_net_chunk_o, arg("cmd"), arg("q"), arg("k"), arg("v"),
          arg("state"), arg("g"), kw, arg("scale") = none, arg("out") = none, kGatedDeltaNet);
  ops.def("add", add, arg("cmd"), arg("a"), arg("b"), kw, arg("out") = none, kAdd);
  ops.def("mul", mul, arg("cmd"), arg("a"), arg("b"), kw, arg("out") = none, kMul);
  ops.def("silu_mul", silu_mul, arg("cmd"), arg("gate"), arg("up"), kw, arg("out") = none, kSiluMul);
  ops.def("gelu_mul", gelu_mul, arg("cmd"), arg("gate"), arg("up"), kw, arg("out") = none, kGeluMul);
}

}  // namespace metalloid::bindings
