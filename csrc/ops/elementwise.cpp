#include "ops/elementwise.h"

#include <algorithm>
#include <string>

#include "ops/kernels.h"
#include "params/elementwise.h"

namespace metalloid::ops {

namespace {

const KernelsByType kAddKernels("add");
const KernelsByType kMulKernels("mul");
const KernelsByType kSiluMulKernels("silu_mul");
const KernelsByType kGeluMulKernels("gelu_mul");

// Large enough to be worth a threadgroup, small enough that the threadgroups share the work evenly. A lone
// lane also starts anew with each block to store past the caches.
constexpr uint64_t kBlock = 4096, kBlockOfLoneLane = 16384;
constexpr uint64_t kElementsPerThread = 16;

struct Operand {
  const char* name;
  const Buffer& buffer;
};

Buffer encode(Encoder& encoder, const Operation& operation, const KernelsByType& kernels, Operand first,
              Operand second, const Buffer* out) {
  const Buffer& a = first.buffer;
  const Buffer& b = second.buffer;
  Check check(operation, encoder);
  check.device(first.name, a);
  check.type(first.name, a, kFloats, kFloatsText);
  check.require(a.size() > 0, first.name, "sizes of at least 1", "has shape ", a.shape());
  check.device(second.name, b);
  check.same_type(second.name, b, a.dtype(), first.name);
  const std::string like = std::string("as ") + first.name;
  check.same_shape(second.name, b.shape(), a.shape(), like.c_str());
  check.output(out, a.shape(), like.c_str(), a.dtype(), first.name,
               {{first.name, &a, true}, {second.name, &b, true}});

  const Pipeline& pipeline = check.pipeline(kernels(a.dtype()));
  Buffer y = output_or_new(encoder, out, a.shape(), a.dtype(), operation);
  // An address space ends long before the blocks exceed 32 bits.
  uint64_t block = std::min(a.size(), pipeline.execution_width == 1 ? kBlockOfLoneLane : kBlock);
  uint64_t blocks = (a.size() - 1) / block + 1;
  ElementwiseParams params{};
  params.block = static_cast<uint32_t>(block);
  params.last_block = static_cast<uint32_t>(a.size() - (blocks - 1) * block);
  uint64_t four = 4 * size_of(a.dtype());
  params.vectorized = (blocks == 1 || block % 4 == 0) && (a.offset() | b.offset() | y.offset()) % four == 0;
  encoder.dispatch(
      operation, pipeline,
      {Argument::params(0, params), Argument::read(1, a), Argument::write(2, y), Argument::read(3, b)},
      {blocks}, {cooperative_threads(pipeline, block, kElementsPerThread)});
  return y;
}

}  // namespace

Buffer add(Encoder& encoder, const Buffer& a, const Buffer& b, const Buffer* out) {
  return encode(encoder, kAdd, kAddKernels, {"a", a}, {"b", b}, out);
}

Buffer mul(Encoder& encoder, const Buffer& a, const Buffer& b, const Buffer* out) {
  return encode(encoder, kMul, kMulKernels, {"a", a}, {"b", b}, out);
}

Buffer silu_mul(Encoder& encoder, const Buffer& gate, const Buffer& up, const Buffer* out) {
  return encode(encoder, kSiluMul, kSiluMulKernels, {"gate", gate}, {"up", up}, out);
}

Buffer gelu_mul(Encoder& encoder, const Buffer& gate, const Buffer& up, const Buffer* out) {
  return encode(encoder, kGeluMul, kGeluMulKernels, {"gate", gate}, {"up", up}, out);
}

}  // namespace metalloid::ops
