#include "ops/rope_neox.h"

#include "ops/kernels.h"
#include "params/rope_neox.h"

namespace metalloid::ops {

namespace {

const KernelsByType kCached("rope_neox_cached");
const KernelsByType kPositional("rope_neox_positional");

}  // namespace

Buffer rope_neox(Encoder& encoder, const Buffer& x, const RopeOptions& options, const Buffer* out) {
  Check check(kRopeNeox, encoder);
  HeadRopeCall call = check_head_rope(check, x, options);
  check_head_rope_output(check, x, options, nullptr, out);
  const KernelsByType& kernels = options.cos ? kCached : kPositional;
  return encode_head_rope(encoder, check, kRopeNeox, check.pipeline(kernels(x.dtype())),
                          Argument::params(0, call.params), call, x, options, nullptr, out);
}

}  // namespace metalloid::ops
