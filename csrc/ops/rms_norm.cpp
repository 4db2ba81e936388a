#include "ops/rms_norm.h"

#include "ops/kernels.h"

namespace metalloid::ops {

namespace {

const KernelsByType kPlain("rms_norm");
const KernelsByTypeAndWeight kWeighted("rms_norm");
const KernelsByTypeAndWeight kScaled("rms_norm_mul");

constexpr uint64_t kElementsPerThread = 8;

// What both forms ask of x, and what they make of it.
struct Rows {
  uint64_t rows;
  RmsNormParams params;
};

Rows check_rows(const Check& check, const Buffer& x, double eps) {
  check.device("x", x);
  check.type("x", x, kFloats, kFloatsText);
  check.require(x.shape().rank() > 0, "x", "at least 1", "has 0 axes");
  check.require(x.size() > 0, "x", "sizes of at least 1", "has shape ", x.shape());
  uint64_t dim = x.shape().last();
  check.fits("x", dim, x.shape());
  check.fits("x", x.size() / dim, x.shape());
  RmsNormParams params{};
  params.dim = static_cast<uint32_t>(dim);
  params.eps = check.positive("eps", eps);
  return {x.size() / dim, params};
}

// Whether all rows of these start where four elements may be read at once.
uint32_t vectorized(const Rows& rows, std::initializer_list<const Buffer*> buffers) {
  if (rows.params.dim % 4 != 0) return 0;
  for (const Buffer* buffer : buffers) {
    // Sizes of types are powers of two, and a division would take as long as all the rest.
    if (buffer && (buffer->offset() & (4 * size_of(buffer->dtype()) - 1)) != 0) return 0;
  }
  return 1;
}

Extent threads(const Pipeline& pipeline, const Rows& rows) {
  return {cooperative_threads(pipeline, rows.params.dim, kElementsPerThread)};
}

}  // namespace

Buffer rms_norm(Encoder& encoder, const Buffer& x, const Buffer* weight, double eps, const Buffer* out) {
  Check check(kRmsNorm, encoder);
  Rows rows = check_rows(check, x, eps);
  if (weight) {
    check_weight(check, x, *weight);
    check.elements("weight", *weight, rows.params.dim, "the last axis of x");
  }
  check.output(out, x.shape(), "as x", x.dtype(), "x", {{"x", &x, true}, {"weight", weight}});

  const Pipeline& pipeline =
      check.pipeline(weight ? kWeighted(x.dtype(), weight->dtype()) : kPlain(x.dtype()));
  Buffer y = output_or_new(encoder, out, x.shape(), x.dtype(), kRmsNorm);
  rows.params.vectorized = vectorized(rows, {&x, &y, weight});
  if (weight) {
    encoder.dispatch(kRmsNorm, pipeline,
                     {Argument::params(0, rows.params), Argument::read(1, x), Argument::write(2, y),
                      Argument::read(3, *weight)},
                     {rows.rows}, threads(pipeline, rows));
  } else {
    encoder.dispatch(kRmsNorm, pipeline,
                     {Argument::params(0, rows.params), Argument::read(1, x), Argument::write(2, y)},
                     {rows.rows}, threads(pipeline, rows));
  }
  return y;
}

Buffer rms_norm_mul(Encoder& encoder, const Buffer& x, const Buffer& weight, const Buffer& scale, double eps,
                    const Buffer* out) {
  Check check(kRmsNormMul, encoder);
  Rows rows = check_rows(check, x, eps);
  check_weight(check, x, weight);
  check.elements("weight", weight, rows.params.dim, "the last axis of x");
  check.device("scale", scale);
  check.same_type("scale", scale, x.dtype(), "x");
  check.same_shape("scale", scale.shape(), x.shape(), "as x");
  check.output(out, x.shape(), "as x", x.dtype(), "x",
               {{"x", &x, true}, {"scale", &scale, true}, {"weight", &weight}});

  const Pipeline& pipeline = check.pipeline(kScaled(x.dtype(), weight.dtype()));
  Buffer y = output_or_new(encoder, out, x.shape(), x.dtype(), kRmsNormMul);
  rows.params.vectorized = vectorized(rows, {&x, &y, &weight, &scale});
  encoder.dispatch(kRmsNormMul, pipeline,
                   {Argument::params(0, rows.params), Argument::read(1, x), Argument::write(2, y),
                    Argument::read(3, weight), Argument::read(4, scale)},
                   {rows.rows}, threads(pipeline, rows));
  return y;
}

}  // namespace metalloid::ops
