#include "ops/fused_head_norm_rope.h"

#include "ops/kernels.h"

namespace metalloid::ops {

namespace {

const KernelsByType kCached("fused_head_norm_rope_cached");
const KernelsByTypeAndWeight kCachedWeighted("fused_head_norm_rope_cached");
const KernelsByType kPositional("fused_head_norm_rope_positional");
const KernelsByTypeAndWeight kPositionalWeighted("fused_head_norm_rope_positional");

const BuiltinKernel& kernel_for(const Buffer& x, const HeadNormRope& options) {
  if (options.rope.cos) {
    return options.weight ? kCachedWeighted(x.dtype(), options.weight->dtype()) : kCached(x.dtype());
  }
  return options.weight ? kPositionalWeighted(x.dtype(), options.weight->dtype()) : kPositional(x.dtype());
}

}  // namespace

Buffer fused_head_norm_rope(Encoder& encoder, const Buffer& x, const HeadNormRope& options,
                            const Buffer* out) {
  Check check(kFusedHeadNormRope, encoder);
  HeadRopeCall call = check_head_rope(check, x, options.rope);
  FusedHeadNormRopeParams params{call.params, check.positive("eps", options.eps)};
  if (options.weight) {
    check_weight(check, x, *options.weight);
    check.elements("weight", *options.weight, call.params.head_dim, "the last axis of x");
  }
  check_head_rope_output(check, x, options.rope, options.weight, out);
  return encode_head_rope(encoder, check, kFusedHeadNormRope, check.pipeline(kernel_for(x, options)),
                          Argument::params(0, params), call, x, options.rope, options.weight, out);
}

}  // namespace metalloid::ops
