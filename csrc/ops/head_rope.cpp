#include "ops/head_rope.h"

#include "ops/rope.h"

namespace metalloid::ops {

namespace {

void check_form(const Check& check, const RopeOptions& options) {
  bool cached = options.cos || options.sin;
  check.require(cached || options.positions, "neither cos and sin nor positions",
                "one of the two forms: cos and "
                "sin, or positions",
                "were given");
  check.require(!(cached && options.positions), "both cos or sin and positions",
                "one of the two forms: cos and "
                "sin, or positions",
                "were given");
  if (!cached) return;
  check.require(options.cos, "cos", "to be given with sin", "is missing");
  check.require(options.sin, "sin", "to be given with cos", "is missing");
  check.require(!options.freq_factors, "freq_factors", "to be given with positions",
                "is given with cos and sin");
  check.require(!options.frequencies, "frequencies", "to be given with positions",
                "is given with cos and sin");
}

void check_tables(const Check& check, const Buffer& cos, const Buffer& sin, HeadRopeCall& call) {
  check.device("cos", cos);
  check.device("sin", sin);
  check.type("cos", cos, {DType::float32}, "float32");
  check.type("sin", sin, {DType::float32}, "float32");
  size_t rank = cos.shape().rank();
  check.require(rank == 1 || rank == 2, "cos", "[half_rope_dim] or [tokens, half_rope_dim]", "has shape ",
                cos.shape());
  check.same_shape("sin", sin.shape(), cos.shape(), "as cos");
  check.fits("cos", cos.shape().last(), cos.shape());
  if (rank == 2) {
    check.at_least("cos", cos.shape()[0], call.tokens, "rows", "the tokens of x", cos.shape());
    call.params.table_stride = static_cast<uint32_t>(cos.shape().last());
  }
}

void check_positions(const Check& check, const RopeOptions& options, HeadRopeCall& call) {
  const Buffer& positions = *options.positions;
  check.device("positions", positions);
  check.type("positions", positions, kPositions, kPositionsText);
  check.at_least("positions", positions.size(), call.tokens, "elements", "the tokens of x",
                 positions.shape());
  call.params.positions_signed = positions.dtype() == DType::int32;
  if (const Buffer* frequencies = options.frequencies) {
    check.device("frequencies", *frequencies);
    check.type("frequencies", *frequencies, {DType::float32}, "float32");
    check.elements("frequencies", *frequencies, uint64_t{2} * call.params.half_rope_dim,
                   "two for each rotated pair");
  } else {
    check.require(std::isfinite(options.theta) && options.theta > 0, "theta", "a finite number above 0",
                  "is ", options.theta);
  }
}

}  // namespace

HeadRopeCall check_head_rope(const Check& check, const Buffer& x, const RopeOptions& options) {
  check_form(check, options);
  check.device("x", x);
  check.type("x", x, kFloats, kFloatsText);
  size_t rank = x.shape().rank();
  check.require(rank == 2 || rank == 3, "x", "3: [tokens, heads, head_dim], or 2: [heads, head_dim]", "has ",
                rank, " axes (shape ", x.shape(), ")");
  check.sizes("x", x);
  uint64_t head_dim = x.shape().last();
  check.require(head_dim % 2 == 0, "x", "an even head_dim (the last axis)", "has shape ", x.shape());

  HeadRopeCall call;
  call.tokens = rank == 3 ? x.shape()[0] : 1;
  call.params.heads = static_cast<uint32_t>(x.shape().last(1));
  call.params.head_dim = static_cast<uint32_t>(head_dim);
  if (options.cos) check_tables(check, *options.cos, *options.sin, call);

  auto half = static_cast<int64_t>(options.cos ? options.cos->shape().last() : head_dim / 2);
  if (options.half_rope_dim) half = *options.half_rope_dim;
  auto most = static_cast<int64_t>(head_dim / 2);
  if (half < 0 || half > most) {
    check.require(false, "half_rope_dim", text("0 to ", most, " (half of head_dim)").c_str(), "is ", half,
                  options.half_rope_dim ? "" : " (the last axis of cos)");
  }
  auto pairs = static_cast<uint64_t>(half);
  call.params.half_rope_dim = static_cast<uint32_t>(pairs);

  if (options.cos) {
    call.params.pair_offset = static_cast<uint32_t>(pairs);
    check.at_least("cos", options.cos->shape().last(), pairs, "elements in its last axis", "half_rope_dim",
                   options.cos->shape());
  } else {
    call.params.pair_offset = static_cast<uint32_t>(head_dim / 2);
    check_positions(check, options, call);
  }
  if (const Buffer* factors = options.freq_factors) {
    check.device("freq_factors", *factors);
    check.type("freq_factors", *factors, {DType::float32}, "float32");
    check.at_least("freq_factors", factors->size(), pairs, "elements", "half_rope_dim", factors->shape());
    call.params.has_freq_factors = 1;
  }
  return call;
}

void check_head_rope_output(const Check& check, const Buffer& x, const RopeOptions& options,
                            const Buffer* weight, const Buffer* out) {
  check.output(out, x.shape(), "as x", x.dtype(), "x",
               {{"x", &x, true},
                {"cos", options.cos},
                {"sin", options.sin},
                {"positions", options.positions},
                {"freq_factors", options.freq_factors},
                {"frequencies", options.frequencies},
                {"weight", weight}});
}

Buffer encode_head_rope(Encoder& encoder, const Check& check, const Operation& operation,
                        const Pipeline& pipeline, Argument params, const HeadRopeCall& call, const Buffer& x,
                        const RopeOptions& options, const Buffer* weight, const Buffer* out) {
  uint64_t head_dim = call.params.head_dim;
  uint64_t head_bytes = padded_memory(head_dim * sizeof(float));
  uint64_t factor_bytes = padded_memory(2 * head_dim * sizeof(float));
  uint32_t simdgroups =
      cooperative_simdgroups(pipeline, call.params.heads, kHeadSimdgroups, head_bytes, factor_bytes);
  check.threadgroup_memory("x", simdgroups, pipeline, x.shape());

  // Without a weight its argument does not exist; then x stands in for it, which is bound in any case.
  const Buffer& third = weight ? *weight : x;
  Argument scratch = Argument::memory(0, simdgroups * head_dim * sizeof(float));
  Argument token_factors = Argument::memory(1, factor_bytes);
  Extent grid{call.tokens};
  Extent threads{uint64_t{simdgroups} * pipeline.execution_width};
  if (options.cos) {
    Buffer y = output_or_new(encoder, out, x.shape(), x.dtype(), operation);
    encoder.dispatch(
        operation, pipeline,
        {params, Argument::read(1, x), Argument::write(2, y), Argument::read(3, third),
         Argument::read(4, *options.cos), Argument::read(5, *options.sin), scratch, token_factors},
        grid, threads);
    return y;
  }
  Buffer frequencies = options.frequencies ? *options.frequencies
                                           : inverse_frequencies(encoder.device(), options.theta, head_dim,
                                                                 call.params.half_rope_dim);
  const Buffer& factors = options.freq_factors ? *options.freq_factors : frequencies;
  Buffer y = output_or_new(encoder, out, x.shape(), x.dtype(), operation);
  encoder.dispatch(operation, pipeline,
                   {params, Argument::read(1, x), Argument::write(2, y), Argument::read(3, third),
                    Argument::read(4, *options.positions), Argument::read(5, frequencies),
                    Argument::read(6, factors), scratch, token_factors},
                   grid, threads);
  return y;
}

}  // namespace metalloid::ops
