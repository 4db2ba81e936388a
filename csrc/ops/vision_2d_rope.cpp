#include "ops/vision_2d_rope.h"

#include "ops/kernels.h"
#include "ops/rope.h"
#include "params/vision_2d_rope.h"

namespace metalloid::ops {

namespace {

const KernelsByType kKernels("vision_2d_rope");

}  // namespace

Buffer vision_2d_rope(Encoder& encoder, const Buffer& x, const Buffer& pos_x, const Buffer& pos_y,
                      double theta, const Buffer* out) {
  Check check(kVision2dRope, encoder);
  check.device("x", x);
  check.type("x", x, kFloats, kFloatsText);
  check.rank("x", x, 3, "[seq, heads, head_dim]");
  check.sizes("x", x);
  uint64_t seq = x.shape()[0];
  uint64_t head_dim = x.shape()[2];
  check.require(head_dim % 4 == 0, "x", "a head_dim (the last axis) that is a multiple of 4", "has shape ",
                x.shape());
  check.device("pos_x", pos_x);
  check.type("pos_x", pos_x, kPositions, kPositionsText);
  check.elements("pos_x", pos_x, seq, "the first axis of x");
  check.device("pos_y", pos_y);
  check.type("pos_y", pos_y, kPositions, kPositionsText);
  check.elements("pos_y", pos_y, seq, "the first axis of x");
  check.require(std::isfinite(theta) && theta > 0, "theta", "a finite number above 0", "is ", theta);
  check.output(out, x.shape(), "as x", x.dtype(), "x",
               {{"x", &x, true}, {"pos_x", &pos_x}, {"pos_y", &pos_y}});

  const Pipeline& pipeline = check.pipeline(kKernels(x.dtype()));
  uint64_t head_bytes = padded_memory(head_dim * sizeof(float));
  uint32_t simdgroups =
      cooperative_simdgroups(pipeline, x.shape()[1], kHeadSimdgroups, head_bytes, head_bytes);
  check.threadgroup_memory("x", simdgroups, pipeline, x.shape());

  Vision2dRopeParams params{};
  params.heads = static_cast<uint32_t>(x.shape()[1]);
  params.head_dim = static_cast<uint32_t>(head_dim);
  params.pos_x_signed = pos_x.dtype() == DType::int32;
  params.pos_y_signed = pos_y.dtype() == DType::int32;
  Buffer frequencies = inverse_frequencies(encoder.device(), theta, head_dim / 2, head_dim / 4);
  Buffer y = output_or_new(encoder, out, x.shape(), x.dtype(), kVision2dRope);
  encoder.dispatch(kVision2dRope, pipeline,
                   {Argument::params(0, params), Argument::read(1, x), Argument::write(2, y),
                    Argument::read(3, pos_x), Argument::read(4, pos_y), Argument::read(5, frequencies),
                    Argument::memory(0, simdgroups * head_dim * sizeof(float)),
                    Argument::memory(1, head_dim * sizeof(float))},
                   {seq}, {uint64_t{simdgroups} * pipeline.execution_width});
  return y;
}

}  // namespace metalloid::ops
