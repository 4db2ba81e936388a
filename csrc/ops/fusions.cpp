#include "ops/fusions.h"

#include "ops/elementwise.h"
#include "ops/fused_head_norm_rope.h"
#include "ops/rms_norm.h"
#include "ops/rope_neox.h"

namespace metalloid::ops {

namespace {

// rms_norm_mul(x, weight, scale) for mul(rms_norm(x, weight), scale), in either order.
bool norm_and_mul(const Node& norm, const Node& mul, Encoder& into) {
  const Buffer* weight = norm.buffer(3);
  if (!weight) return false;
  const Buffer &x = *norm.buffer(1), &y = *norm.buffer(2), &z = *mul.buffer(2);
  const Buffer *a = mul.buffer(1), *b = mul.buffer(3);
  if (overlap(*a, y) != Overlap::same) std::swap(a, b);
  if (overlap(*a, y) != Overlap::same || overlap(*b, y) != Overlap::none || a->dtype() != y.dtype())
    return false;
  const Buffer scale = b->reshape(x.shape()), out = z.reshape(x.shape());
  rms_norm_mul(into, x, *weight, scale, norm.params<RmsNormParams>().eps, &out);
  return true;
}

// fused_head_norm_rope(x, ...) for rope_neox(rms_norm(x, weight), ...), where the norm is that of a head.
bool norm_and_rope(const Node& norm, const Node& rope, Encoder& into) {
  const auto& turn = rope.params<HeadRopeParams>();
  const Buffer &y = *norm.buffer(2), &turned = *rope.buffer(1);
  const RmsNormParams& rows = norm.params<RmsNormParams>();
  if (rows.dim != turn.head_dim || overlap(turned, y) != Overlap::same || turned.dtype() != y.dtype())
    return false;
  HeadNormRope options;
  options.weight = norm.buffer(3);
  options.eps = rows.eps;
  options.rope.half_rope_dim = turn.half_rope_dim;
  if (rope.buffer(6)) {
    options.rope.positions = rope.buffer(4);
    options.rope.frequencies = rope.buffer(5);
    if (turn.has_freq_factors) options.rope.freq_factors = rope.buffer(6);
  } else {
    options.rope.cos = rope.buffer(4);
    options.rope.sin = rope.buffer(5);
  }
  fused_head_norm_rope(into, norm.buffer(1)->reshape(turned.shape()), options, rope.buffer(2));
  return true;
}

constexpr Fusion kFusions[] = {
    {&kRmsNorm, &kMul, norm_and_mul},
    {&kRmsNorm, &kRopeNeox, norm_and_rope},
};

}  // namespace

std::span<const Fusion> fusions() { return kFusions; }

}  // namespace metalloid::ops
