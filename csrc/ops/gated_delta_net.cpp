#include "ops/gated_delta_net.h"

#include "ops/check.h"

namespace metalloid::ops {

namespace {

constexpr uint64_t kChunk = GATED_DELTA_NET_CHUNK;
constexpr uint64_t kScoreBytes = kChunk * kChunk * 2;
constexpr uint64_t kTileBytes = 8 * kChunk * sizeof(float);  // of one SIMD-group
constexpr uint32_t kMaxSimdgroups = 8;
constexpr uint64_t kMaxValueDim = 256;

const BuiltinKernel kK64("gated_delta_net_chunk_o_k64");
const BuiltinKernel kK128("gated_delta_net_chunk_o_k128");
const BuiltinKernel kK256("gated_delta_net_chunk_o_k256");

void check_input(const Check& check, const char* name, const Buffer& buffer, DType type,
                 const char* type_text, size_t rank, const char* shape_text) {
  check.device(name, buffer);
  check.type(name, buffer, {type}, type_text);
  check.rank(name, buffer, rank, shape_text);
  check.sizes(name, buffer);
}

}  // namespace

Buffer gated_delta_net_chunk_o(Encoder& encoder, const Buffer& q, const Buffer& k, const Buffer& v,
                               const Buffer& state, const Buffer& g, std::optional<double> scale,
                               const Buffer* out) {
  Check check(kGatedDeltaNetChunkO, encoder);
  check_input(check, "q", q, DType::bfloat16, "bfloat16", 4, "[B, T, Hg, K]");
  check_input(check, "k", k, DType::bfloat16, "bfloat16", 4, "[B, T, Hg, K]");
  check_input(check, "v", v, DType::bfloat16, "bfloat16", 4, "[B, T, H, V]");
  check_input(check, "state", state, DType::bfloat16, "bfloat16", 5, "[B, T / 64, H, V, K]");
  check_input(check, "g", g, DType::float32, "float32", 3, "[B, T, H]");

  uint64_t batch = q.shape()[0], tokens = q.shape()[1], key_heads = q.shape()[2], key_dim = q.shape()[3];
  uint64_t heads = v.shape()[2], value_dim = v.shape()[3];
  check.multiple("q", "token count", tokens, kChunk, "the chunk length; tokens are the second axis");
  check.require(key_dim == 64 || key_dim == 128 || key_dim == 256, "q", "64, 128 or 256 in its last axis",
                "has shape ", q.shape());
  check.same_shape("k", k.shape(), q.shape(), "as q");
  check.same_shape("v", v.shape(), {batch, tokens, heads, value_dim}, "batch and tokens of q");
  check.multiple("v", "head count", heads, key_heads, "the heads of q");
  check.require(value_dim % 32 == 0 && value_dim <= kMaxValueDim, "v",
                "a multiple of 32 that is at most 256 in its last axis", "has shape ", v.shape());
  check.same_shape("state", state.shape(), {batch, tokens / kChunk, heads, value_dim, key_dim},
                   "[B, T / 64, H, V, K] of q and v");
  check.same_shape("g", g.shape(), {batch, tokens, heads}, "[B, T, H] of v");

  double factor = scale ? *scale : 1.0 / std::sqrt(static_cast<double>(key_dim));
  GatedDeltaNetParams params{static_cast<uint32_t>(tokens), static_cast<uint32_t>(heads),
                             static_cast<uint32_t>(key_heads), static_cast<uint32_t>(value_dim),
                             static_cast<float>(factor)};
  check.require(std::isfinite(params.scale), "scale", "a finite number, as f32", "is ", factor);
  check.output(out, v.shape(), "as v", DType::bfloat16, "v",
               {{"q", &q}, {"k", &k}, {"v", &v}, {"state", &state}, {"g", &g}});

  const Pipeline& pipeline = check.pipeline(key_dim == 64 ? kK64 : key_dim == 128 ? kK128 : kK256);
  uint32_t simdgroups =
      cooperative_simdgroups(pipeline, kMaxSimdgroups, kMaxSimdgroups, kTileBytes, kScoreBytes);
  check.threadgroup_memory("q", simdgroups, pipeline, q.shape());
  Buffer o = output_or_new(encoder, out, v.shape(), DType::bfloat16, kGatedDeltaNetChunkO);
  encoder.dispatch(
      kGatedDeltaNetChunkO, pipeline,
      {Argument::params(0, params), Argument::read(1, q), Argument::read(2, k), Argument::read(3, v),
       Argument::read(4, state), Argument::read(5, g), Argument::write(6, o),
       Argument::memory(0, kScoreBytes), Argument::memory(1, simdgroups * kTileBytes)},
      {tokens / kChunk, heads, batch}, {uint64_t{simdgroups} * pipeline.execution_width});
  return o;
}

}  // namespace metalloid::ops
