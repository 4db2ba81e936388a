#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "metalloid/command_encoder.h"
#include "ops/fused_head_norm_rope.h"
#include "ops/rope.h"
#include "ops/rope_neox.h"

using namespace metalloid;

namespace {

constexpr uint64_t kTokens = 3, kHeads = 2, kDim = 16, kPairs = 6;
constexpr double kTheta = 500.0;

Device& device() { return Device::open(); }

template <class T>
Buffer counting(const Shape& shape, DType type) {
  Buffer buffer = device().empty(shape, type);
  auto* values = reinterpret_cast<T*>(buffer.address());
  for (uint64_t i = 0; i < buffer.size(); ++i) values[i] = static_cast<T>(i % 11 + 1);
  return buffer;
}

bool same_bits(const Buffer& a, const Buffer& b) {
  return a.nbytes() == b.nbytes() && std::memcmp(a.address(), b.address(), a.nbytes()) == 0;
}

template <class Call>
std::string refusal(const Call& call) {
  CommandEncoder encoder(device());
  try {
    call(encoder);
  } catch (const ValidationError& error) {
    CHECK(encoder.dispatch_count() == 0);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a table of frequencies stands for theta") {
  Buffer x = counting<float>({kTokens, kHeads, kDim}, DType::float32);
  Buffer positions = counting<int32_t>({kTokens}, DType::int32);
  Buffer frequencies = ops::inverse_frequencies(device(), kTheta, kDim, kPairs);
  ops::RopeOptions by_theta, by_table, by_default;
  by_theta.positions = by_table.positions = by_default.positions = &positions;
  by_theta.half_rope_dim = by_table.half_rope_dim = by_default.half_rope_dim = kPairs;
  by_theta.theta = kTheta;
  by_table.frequencies = &frequencies;
  by_table.theta = -1;  // not looked at

  CommandEncoder encoder(device());
  Buffer turned = ops::rope_neox(encoder, x, by_theta, nullptr);
  Buffer turned_by_table = ops::rope_neox(encoder, x, by_table, nullptr);
  Buffer turned_otherwise = ops::rope_neox(encoder, x, by_default, nullptr);
  Buffer fused = ops::fused_head_norm_rope(encoder, x, {.rope = by_theta}, nullptr);
  Buffer fused_by_table = ops::fused_head_norm_rope(encoder, x, {.rope = by_table}, nullptr);
  encoder.commit_and_wait();
  CHECK(same_bits(turned, turned_by_table));
  CHECK(same_bits(fused, fused_by_table));
  CHECK_FALSE(same_bits(turned, turned_otherwise));
}

TEST_CASE("a table of frequencies that does not fit is refused") {
  Buffer x = counting<float>({kTokens, kHeads, kDim}, DType::float32);
  Buffer positions = counting<int32_t>({kTokens}, DType::int32);
  Buffer frequencies = ops::inverse_frequencies(device(), kTheta, kDim, kPairs);
  ops::RopeOptions options;
  options.positions = &positions;
  options.frequencies = &frequencies;
  auto rope = [&](CommandEncoder& encoder) { ops::rope_neox(encoder, x, options, nullptr); };
  CHECK(refusal(rope) == "rope_neox: frequencies has 12 elements, needs 16 (two for each rotated pair)");

  options.half_rope_dim = kPairs;
  CHECK(refusal(rope).empty());
  Buffer integers = counting<int32_t>({kPairs, 2}, DType::int32);
  options.frequencies = &integers;
  CHECK(refusal(rope) == "rope_neox: frequencies is int32, needs float32");

  Buffer table = counting<float>({kPairs}, DType::float32);
  options = {};
  options.cos = options.sin = &table;
  options.frequencies = &frequencies;
  CHECK(refusal(rope) ==
        "rope_neox: frequencies is given with cos and sin, needs to be given with positions");
  options.frequencies = nullptr;
  CHECK(refusal(rope).empty());
}
