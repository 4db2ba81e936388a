// Indirect command buffers: dispatches that are set once and executed often.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "softmetal/runtime/queue.h"
#include "softmetal_kernels.h"

using test::Bench;
using test::string;
using test::text;

namespace {

const MTL::Size kOne(1, 1, 1);
constexpr MTL::IndirectCommandType kBoth =
    MTL::IndirectCommandTypeConcurrentDispatch | MTL::IndirectCommandTypeConcurrentDispatchThreads;

struct Icb : Bench {
  NS::SharedPtr<MTL::ComputePipelineState> indirect_pipeline(const char* name, bool supports = true) {
    auto function = NS::TransferPtr(library->newFunction(string(name)));
    auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
    descriptor->setComputeFunction(function.get());
    descriptor->setSupportIndirectCommandBuffers(supports);
    return NS::TransferPtr(device->newComputePipelineState(descriptor.get(), MTL::PipelineOptionNone, nullptr,
                                                           static_cast<NS::Error**>(nullptr)));
  }
  static NS::SharedPtr<MTL::IndirectCommandBufferDescriptor> description() {
    auto descriptor = NS::TransferPtr(MTL::IndirectCommandBufferDescriptor::alloc()->init());
    descriptor->setCommandTypes(kBoth);
    descriptor->setInheritBuffers(false);
    descriptor->setInheritPipelineState(false);
    descriptor->setMaxKernelBufferBindCount(4);
    descriptor->setMaxKernelThreadgroupMemoryBindCount(2);
    return descriptor;
  }
  NS::SharedPtr<MTL::IndirectCommandBuffer> make(NS::UInteger count) {
    return NS::TransferPtr(
        device->newIndirectCommandBuffer(description().get(), count, MTL::ResourceStorageModeShared));
  }
  // "append `digit`" as command `index`; the digits 0 to 9 are in a buffer of their own.
  void set_append(MTL::IndirectCommandBuffer* icb, NS::UInteger index, NS::UInteger digit) {
    MTL::IndirectComputeCommand* command = icb->indirectComputeCommand(index);
    command->setComputePipelineState(append_state.get());
    command->setKernelBuffer(number.get(), 0, 0);
    command->setKernelBuffer(digits.get(), digit * 8, 1);
    command->concurrentDispatchThreadgroups(kOne, kOne);
    command->setBarrier();
  }
  MTL::CommandBuffer* run(const std::function<void(MTL::ComputeCommandEncoder*)>& encode,
                          MTL::DispatchType type = MTL::DispatchTypeSerial) {
    MTL::CommandBuffer* commands = queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(type);
    encode(encoder);
    encoder->endEncoding();
    commands->commit();
    commands->waitUntilCompleted();
    return commands;
  }
  MTL::CommandBuffer* execute(MTL::IndirectCommandBuffer* icb, NS::Range range) {
    return run([&](auto* encoder) { encoder->executeCommandsInBuffer(icb, range); });
  }
  uint64_t take() { return std::exchange(*contents<uint64_t>(number), 0); }

  NS::SharedPtr<MTL::ComputePipelineState> append_state = indirect_pipeline("append");
  NS::SharedPtr<MTL::Buffer> number = buffer(8);
  NS::SharedPtr<MTL::Buffer> digits = [this] {
    auto made = buffer(80);
    for (uint64_t i = 0; i < 10; ++i) contents<uint64_t>(made)[i] = i;
    return made;
  }();
};

// Adds one to each element, in no hurry: a chunk that starts before another ends reads old numbers.
void increment(const SoftmetalLaunch* launch, char*, uint64_t begin, uint64_t end) {
  const auto* from = static_cast<const uint32_t*>(launch->buffers[0]);
  auto* to = static_cast<uint32_t*>(launch->buffers[1]);
  const uint32_t n = launch->threadgroups_per_grid[0];
  for (uint64_t i = begin; i < end; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(i % 2 ? 0 : 20));
    to[i] = from[n - 1 - i] + 1;
  }
}
const SoftmetalArgument increment_arguments[] = {
    {"from", "uint", 0, test::kUInt, 4, 4, 0, test::kDevice, test::kRead, 0, -1, 0},
    {"to", "uint", 1, test::kUInt, 4, 4, 0, test::kDevice, test::kWrite, 0, -1, 0},
};

}  // namespace

TEST_CASE("the descriptor keeps what it is given, and copies are its own") {
  auto descriptor = Icb::description();
  auto copy = NS::TransferPtr(descriptor->copy());
  descriptor->setCommandTypes(MTL::IndirectCommandTypeConcurrentDispatch);
  descriptor->setMaxKernelBufferBindCount(31);
  CHECK(copy->commandTypes() == kBoth);
  CHECK(copy->maxKernelBufferBindCount() == 4);
  CHECK(copy->maxKernelThreadgroupMemoryBindCount() == 2);
  CHECK_FALSE(copy->inheritBuffers());
  CHECK_FALSE(copy->inheritPipelineState());
  Icb bench;
  CHECK(bench.append_state->supportIndirectCommandBuffers());
  CHECK_FALSE(bench.pipeline("append")->supportIndirectCommandBuffers());
  auto icb = bench.make(7);
  CHECK(icb->size() == 7);
  icb->setLabel(string("layers"));
  CHECK(text(icb->label()) == "layers");
  CHECK(icb->device() == bench.device.get());
  CHECK(icb->allocatedSize() > 0);
}

TEST_CASE("commands run, in order where they have barriers, and as often as they are executed") {
  Icb bench;
  auto icb = bench.make(8);
  for (NS::UInteger i = 0; i < 8; ++i) bench.set_append(icb.get(), i, i + 1);
  for (int i = 0; i < 3; ++i) {
    CHECK(text(bench.execute(icb.get(), NS::Range(0, 8))->error()) == "<no error>");
    CHECK(bench.take() == 12345678);
  }
  bench.execute(icb.get(), NS::Range(2, 3));
  CHECK(bench.take() == 345);
  bench.execute(icb.get(), NS::Range(8, 0));
  CHECK(bench.take() == 0);
  bench.run([&](auto* encoder) {
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(6, 2));
    bench.append(encoder, bench.append_state.get(), bench.number.get(), 9);
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 1));
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 2));
  });
  CHECK(bench.take() == 789112);
}

TEST_CASE("commands that were reset or never set are passed over") {
  Icb bench;
  auto icb = bench.make(6);
  for (NS::UInteger i : {0, 1, 3, 4}) bench.set_append(icb.get(), i, i + 1);
  bench.execute(icb.get(), NS::Range(0, 6));
  CHECK(bench.take() == 1245);
  icb->indirectComputeCommand(1)->reset();
  bench.execute(icb.get(), NS::Range(0, 6));
  CHECK(bench.take() == 145);
  icb->reset(NS::Range(3, 3));
  bench.execute(icb.get(), NS::Range(0, 6));
  CHECK(bench.take() == 1);
  bench.set_append(icb.get(), 4, 7);
  icb->indirectComputeCommand(0)->concurrentDispatchThreads(MTL::Size(0, 1, 1), kOne);
  bench.execute(icb.get(), NS::Range(0, 6));
  CHECK(bench.take() == 7);
}

TEST_CASE("both kinds of dispatch and threadgroup memory work") {
  Icb bench;
  auto icb = bench.make(2);
  auto x = bench.buffer(4000), y = bench.buffer(4000), a = bench.buffer(4), out = bench.buffer(40);
  auto axpy = bench.indirect_pipeline("axpy"), groups = bench.indirect_pipeline("groups");
  for (int i = 0; i < 1000; ++i) Bench::contents<float>(x)[i] = static_cast<float>(i);
  *Bench::contents<float>(a) = 2;
  MTL::IndirectComputeCommand* command = icb->indirectComputeCommand(0);
  command->concurrentDispatchThreads(MTL::Size(1000, 1, 1), MTL::Size(64, 1, 1));  // the order is free
  command->setComputePipelineState(axpy.get());
  command->setKernelBuffer(x.get(), 0, 0);
  command->setKernelBuffer(y.get(), 0, 1);
  command->setKernelBuffer(a.get(), 0, 2);
  command = icb->indirectComputeCommand(1);
  command->setComputePipelineState(groups.get());
  command->setKernelBuffer(out.get(), 0, 3);
  command->setThreadgroupMemoryLength(64, 1);
  command->concurrentDispatchThreadgroups(MTL::Size(10, 1, 1), kOne);
  CHECK(text(bench.execute(icb.get(), NS::Range(0, 2))->error()) == "<no error>");
  for (int i = 0; i < 1000; ++i) REQUIRE(Bench::contents<float>(y)[i] == 2.0f * static_cast<float>(i));
  for (uint32_t i = 0; i < 10; ++i) REQUIRE(Bench::contents<uint32_t>(out)[i] == i);
}

TEST_CASE("barriers hold while threads share the work") {
  Icb bench;
  const SoftmetalKernel kernel =
      test::kernel("increment", increment, SOFTMETAL_MODE_THREADGROUPS, 1, increment_arguments);
  const SoftmetalUnit unit{&kernel, 1};
  const SoftmetalUnit* const units[] = {&unit};
  const SoftmetalLibrary table = test::make_library(units, 1);
  bench.library = NS::TransferPtr(softmetal::new_library(bench.device.get(), &table, nullptr));
  auto state = bench.indirect_pipeline("increment");
  constexpr uint32_t kCount = 64, kCommands = 10;
  NS::SharedPtr<MTL::Buffer> sides[2] = {bench.buffer(4 * kCount), bench.buffer(4 * kCount)};
  auto icb = bench.make(kCommands);
  for (uint32_t i = 0; i < kCommands; ++i) {
    MTL::IndirectComputeCommand* command = icb->indirectComputeCommand(i);
    command->setComputePipelineState(state.get());
    command->setKernelBuffer(sides[i % 2].get(), 0, 0);
    command->setKernelBuffer(sides[(i + 1) % 2].get(), 0, 1);
    command->concurrentDispatchThreadgroups(MTL::Size(kCount, 1, 1), kOne);
    if (i) command->setBarrier();
  }
  for (int round = 1; round <= 30; ++round) {
    bench.run(
        [&](auto* encoder) {
          encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, kCommands / 2));
          encoder->memoryBarrier(MTL::BarrierScopeBuffers);
          encoder->executeCommandsInBuffer(icb.get(), NS::Range(kCommands / 2, kCommands / 2));
        },
        round % 2 ? MTL::DispatchTypeConcurrent : MTL::DispatchTypeSerial);
    for (uint32_t i = 0; i < kCount; ++i)
      REQUIRE(Bench::contents<uint32_t>(sides[0])[i] == static_cast<uint32_t>(round) * kCommands);
  }
}

TEST_CASE("the first command and what follows obey the encoder, the others their own barriers") {
  Icb bench;
  auto icb = bench.make(3);
  for (NS::UInteger i = 0; i < 3; ++i) {
    bench.set_append(icb.get(), i, i);
    if (i != 2) icb->indirectComputeCommand(i)->clearBarrier();
  }
  const auto barriers = [&](MTL::DispatchType type, bool barrier_between) {
    MTL::CommandBuffer* commands = bench.queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(type);
    bench.append(encoder, bench.append_state.get(), bench.number.get(), 1);
    if (barrier_between) encoder->memoryBarrier(MTL::BarrierScopeBuffers);
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 3));
    encoder->dispatchThreadgroups(kOne, kOne);
    std::string found;
    for (auto* each = softmetal::impl(commands)->recording->first; each; each = each->next)
      found += static_cast<softmetal::Dispatch*>(each)->barrier ? '|' : '.';
    encoder->endEncoding();
    return found;
  };
  CHECK(barriers(MTL::DispatchTypeSerial, false) == "||.||");
  CHECK(barriers(MTL::DispatchTypeConcurrent, false) == "|..|.");
  CHECK(barriers(MTL::DispatchTypeConcurrent, true) == "||.|.");
}

TEST_CASE("commands may change while command buffers that execute them wait or run") {
  Icb bench;
  auto icb = bench.make(2);
  auto gate = NS::TransferPtr(bench.device->newSharedEvent());
  std::vector<MTL::CommandBuffer*> all;
  std::vector<NS::SharedPtr<MTL::Buffer>> results;
  // Often enough that what has been replaced is dropped.
  constexpr int kRounds = 1500;
  auto queue = NS::TransferPtr(bench.device->newCommandQueue(NS::UInteger{kRounds}));
  bench.set_append(icb.get(), 1, 7);
  for (int i = 0; i < kRounds; ++i) {
    auto result = NS::TransferPtr(bench.device->newBuffer(8, MTL::ResourceStorageModeShared));
    bench.set_append(icb.get(), 0, static_cast<NS::UInteger>(i % 10));
    icb->indirectComputeCommand(0)->setKernelBuffer(result.get(), 0, 0);
    icb->indirectComputeCommand(1)->setKernelBuffer(result.get(), 0, 0);
    results.push_back(std::move(result));
    MTL::CommandBuffer* commands = queue->commandBuffer();
    if (i == 0) commands->encodeWait(gate.get(), 1);
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 2));
    encoder->endEncoding();
    commands->commit();
    all.push_back(commands);
  }
  icb->reset(NS::Range(0, 2));
  icb.reset();
  gate->setSignaledValue(1);
  for (MTL::CommandBuffer* commands : all) commands->waitUntilCompleted();
  for (int i = 0; i < kRounds; ++i)
    REQUIRE(*Bench::contents<uint64_t>(results[static_cast<size_t>(i)]) ==
            static_cast<uint64_t>(i % 10 * 10 + 7));
}

TEST_CASE("what commands refer to lives as long as they do") {
  const int64_t before = [] {
    Icb bench;  // constants that live on
    return softmetal::live_objects();
  }();
  {
    Icb bench;
    auto icb = bench.make(1);
    {
      auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
      bench.set_append(icb.get(), 0, 6);
    }
    bench.append_state.reset();
    bench.digits.reset();
    bench.execute(icb.get(), NS::Range(0, 1));
    CHECK(bench.take() == 6);
  }
  const int64_t after = [] {
    Icb bench;
    return softmetal::live_objects();
  }();
  CHECK(after == before);
}

TEST_CASE("commands inherit what the encoder has set") {
  Icb bench;
  auto descriptor = Icb::description();
  descriptor->setInheritBuffers(true);
  descriptor->setInheritPipelineState(true);
  auto icb = NS::TransferPtr(
      bench.device->newIndirectCommandBuffer(descriptor.get(), 3, MTL::ResourceStorageModeShared));
  for (NS::UInteger i : {0, 2}) {
    icb->indirectComputeCommand(i)->concurrentDispatchThreadgroups(kOne, kOne);
    icb->indirectComputeCommand(i)->setBarrier();
  }
  bench.run([&](auto* encoder) {
    bench.append(encoder, bench.append_state.get(), bench.number.get(), 3);
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 3));
    const uint64_t digit = 4;
    encoder->setBytes(&digit, 8, 1);
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 1));
  });
  CHECK(bench.take() == 3334);
  auto plain = bench.pipeline("append");
  MTL::CommandBuffer* commands = bench.run([&](auto* encoder) {
    bench.append(encoder, plain.get(), bench.number.get(), 3);
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 3));
  });
  CHECK(text(commands->error()) ==
        "ComputeCommandEncoder::executeCommandsInBuffer: command 0 (kernel \"append\"): the encoder's "
        "pipeline was made without supportIndirectCommandBuffers, needs it");
  commands = bench.run([&](auto* encoder) { encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 3)); });
  CHECK(text(commands->error()) ==
        "ComputeCommandEncoder::executeCommandsInBuffer: command 0: no pipeline is set, needs the encoder to "
        "setComputePipelineState");
  icb->indirectComputeCommand(0)->setKernelBuffer(bench.number.get(), 0, 0);
  CHECK(text(bench.execute(icb.get(), NS::Range(0, 1))->error()) ==
        "ComputeCommandEncoder::executeCommandsInBuffer: command 0: IndirectComputeCommand::setKernelBuffer: "
        "the buffers are the encoder's, needs inheritBuffers to be false");
}

TEST_CASE("a command buffer of little work still runs where it is committed") {
  Icb bench;
  auto icb = bench.make(200);
  for (NS::UInteger i = 0; i < 200; ++i) bench.set_append(icb.get(), i, 1);
  const auto estimate = [&](NS::UInteger count) {
    MTL::CommandBuffer* commands = bench.queue->commandBuffer();
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, count));
    encoder->endEncoding();
    return softmetal::impl(commands)->estimated_ns;
  };
  CHECK(estimate(1) > 0);
  CHECK(estimate(10) == 10 * estimate(1));
  CHECK(estimate(10) <= softmetal::kInlineNanoseconds);
  bench.run([&](auto* encoder) { encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 1)); });
  MTL::IndirectComputeCommand* command = icb->indirectComputeCommand(0);
  command->concurrentDispatchThreadgroups(MTL::Size(10'000'000, 1, 1), kOne);
  CHECK(estimate(200) > softmetal::kInlineNanoseconds);
}

TEST_CASE("as many commands as Metal allows, over several blocks of memory") {
  Icb bench;
  CHECK(bench.make(16384));
  CHECK_FALSE(bench.make(16385));
  CHECK_FALSE(bench.make(0));
  auto icb = bench.make(16384);
  auto tally = bench.indirect_pipeline("axpy");
  auto x = bench.buffer(4), y = bench.buffer(4);
  *Bench::contents<float>(x) = 1;
  for (NS::UInteger i = 0; i < 16384; ++i) {
    auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    MTL::IndirectComputeCommand* command = icb->indirectComputeCommand(i);
    command->setComputePipelineState(tally.get());
    command->setKernelBuffer(x.get(), 0, 0);
    command->setKernelBuffer(y.get(), 0, 1);
    command->setKernelBuffer(x.get(), 0, 2);
    command->concurrentDispatchThreads(kOne, kOne);
    command->setBarrier();
  }
  for (int round = 1; round <= 3; ++round) {
    bench.execute(icb.get(), NS::Range(0, 16384));
    CHECK(*Bench::contents<float>(y) == static_cast<float>(16384 * round));
  }
}

TEST_CASE("what is wrong with a command fails the command buffer that executes it") {
  struct Case {
    std::function<void(Icb&, MTL::IndirectComputeCommand*)> change;
    std::string problem;
  };
  const Case cases[] = {
      {[](Icb&, auto* c) { c->setComputePipelineState(nullptr); },
       "IndirectComputeCommand::setComputePipelineState: pipelineState is null, needs a pipeline"},
      {[](Icb& b, auto* c) { c->setComputePipelineState(b.pipeline("append").get()); },
       "IndirectComputeCommand::setComputePipelineState: pipelineState (kernel \"append\") was made without "
       "supportIndirectCommandBuffers, needs it"},
      {[](Icb& b, auto* c) { c->setKernelBuffer(b.number.get(), 0, 4); },
       "IndirectComputeCommand::setKernelBuffer: index is 4, needs less than maxKernelBufferBindCount, 4"},
      {[](Icb& b, auto* c) { c->setKernelBuffer(b.number.get(), 0, NS::UIntegerMax); },
       "IndirectComputeCommand::setKernelBuffer: index is 18446744073709551615, needs less than "
       "maxKernelBufferBindCount, 4"},
      {[](Icb& b, auto* c) { c->setKernelBuffer(b.number.get(), 8, 0); },
       "IndirectComputeCommand::setKernelBuffer: offset is 8 at index 0, needs less than the buffer's "
       "length, "
       "8"},
      {[](Icb&, auto* c) { c->setThreadgroupMemoryLength(16, 2); },
       "IndirectComputeCommand::setThreadgroupMemoryLength: index is 2, needs less than "
       "maxKernelThreadgroupMemoryBindCount, 2"},
      {[](Icb&, auto* c) { c->setThreadgroupMemoryLength(24, 0); },
       "IndirectComputeCommand::setThreadgroupMemoryLength: length is 24 bytes at index 0, needs a multiple "
       "of 16"},
      {[](Icb&, auto* c) { c->setThreadgroupMemoryLength(32784, 0); },
       "IndirectComputeCommand::setThreadgroupMemoryLength: length is 32784 bytes at index 0, needs at most "
       "32768"},
      {[](Icb&, auto* c) { c->setKernelBuffer(nullptr, 0, 1); },
       "buffer argument \"digit\" (index 1) is not bound, needs setKernelBuffer"},
      {[](Icb& b, auto* c) { c->setKernelBuffer(b.digits.get(), 76, 1); },
       "buffer argument \"digit\" (index 1) has 4 bytes, needs 8 (one ulong)"},
      {[](Icb& b, auto* c) { c->setKernelBuffer(b.digits.get(), 4, 1); },
       "buffer argument \"digit\" (index 1) has offset 4, needs a multiple of 8 (ulong)"},
      {[](Icb&, auto* c) { c->concurrentDispatchThreadgroups(kOne, MTL::Size(2, 1, 1)); },
       "threadsPerThreadgroup is 2x1x1 = 2 threads, needs at most 1 (the pipeline's limit)"},
      {[](Icb&, auto* c) { c->concurrentDispatchThreads(kOne, MTL::Size(1, 0, 1)); },
       "threadsPerThreadgroup is 1x0x1, needs at least 1x1x1"},
      {[](Icb&, auto* c) { c->concurrentDispatchThreads(MTL::Size(NS::UInteger{1} << 32, 1, 1), kOne); },
       "threadsPerGrid is 4294967296x1x1, needs at most 4294967295 in each dimension"},
      {[](Icb&, auto* c) { c->concurrentDispatchThreadgroups(MTL::Size(4294967295, 4294967295, 1), kOne); },
       "threadgroupsPerGrid is 4294967295x4294967295x1 of 1x1x1 threads, needs at most 4294967295 threads in "
       "each dimension and 2^62 in all"},
      {[](Icb& b, auto* c) {
         c->setComputePipelineState(b.indirect_pipeline("groups").get());
         c->setKernelBuffer(b.digits.get(), 0, 3);
       },
       "threadgroup argument \"scratch\" (index 1) has 0 bytes, needs at least 4 "
       "(setThreadgroupMemoryLength)"},
      {[](Icb& b, auto* c) {
         c->setComputePipelineState(b.indirect_pipeline("groups").get());
         c->setKernelBuffer(b.digits.get(), 0, 3);
         c->setThreadgroupMemoryLength(16400, 1);
       },
       "threadgroup memory is 32784 bytes (16384 in the kernel, 16400 in arguments), needs at most 32768"},
      {[](Icb& b, auto* c) {
         c->reset();
         c->setKernelBuffer(b.number.get(), 0, 0);
         c->concurrentDispatchThreadgroups(kOne, kOne);
       },
       "no pipeline is set, needs setComputePipelineState"},
  };
  for (const Case& each : cases) {
    CAPTURE(each.problem);
    Icb bench;
    auto icb = bench.make(3);
    for (NS::UInteger i = 0; i < 3; ++i) bench.set_append(icb.get(), i, i + 1);
    each.change(bench, icb->indirectComputeCommand(1));
    for (int i = 0; i < 2; ++i) {  // it stays wrong
      MTL::CommandBuffer* commands = bench.execute(icb.get(), NS::Range(0, 3));
      CHECK(commands->status() == MTL::CommandBufferStatusError);
      const std::string message = text(commands->error());
      CHECK(message.find("ComputeCommandEncoder::executeCommandsInBuffer: command 1") == 0);
      CHECK(message.find(": " + each.problem) != std::string::npos);
      CHECK(message.ends_with(each.problem));
      CHECK(bench.take() == 0);
    }
    // The others are none the worse, nor is it once it is set anew.
    CHECK(text(bench.execute(icb.get(), NS::Range(2, 1))->error()) == "<no error>");
    CHECK(bench.take() == 3);
    icb->indirectComputeCommand(1)->reset();
    bench.set_append(icb.get(), 1, 9);
    bench.execute(icb.get(), NS::Range(0, 3));
    CHECK(bench.take() == 193);
  }
}

TEST_CASE("what is wrong with executing fails the command buffer") {
  Icb bench;
  auto icb = bench.make(3);
  const auto error = [&](MTL::IndirectCommandBuffer* buffer, NS::UInteger start, NS::UInteger length) {
    return text(bench.execute(buffer, NS::Range(start, length))->error());
  };
  CHECK(error(nullptr, 0, 1) ==
        "ComputeCommandEncoder::executeCommandsInBuffer: indirectCommandBuffer is null, needs one");
  CHECK(
      error(icb.get(), 1, 3) ==
      "ComputeCommandEncoder::executeCommandsInBuffer: executionRange starts at 1 and has 3 commands, needs "
      "to lie in the 3 of the buffer");
  CHECK(
      error(icb.get(), NS::UIntegerMax, 2) ==
      "ComputeCommandEncoder::executeCommandsInBuffer: executionRange starts at 18446744073709551615 and has "
      "2 commands, needs to lie in the 3 of the buffer");
  CHECK(icb->indirectComputeCommand(3) == nullptr);
  icb->reset(NS::Range(2, 2));
  CHECK(error(icb.get(), 0, 3) == "<no error>");

  // useResource takes it as any resource.
  bench.set_append(icb.get(), 0, 5);
  MTL::CommandBuffer* commands = bench.run([&](auto* encoder) {
    encoder->useResource(icb.get(), MTL::ResourceUsageRead);
    encoder->executeCommandsInBuffer(icb.get(), NS::Range(0, 3));
  });
  CHECK(text(commands->error()) == "<no error>");
  CHECK(icb->setPurgeableState(MTL::PurgeableStateEmpty) == MTL::PurgeableStateNonVolatile);
  CHECK(bench.take() == 5);
}

TEST_CASE("what cannot be made is refused") {
  Icb bench;
  const auto refuses = [&](auto change) {
    auto descriptor = Icb::description();
    change(*descriptor.get());
    return !NS::TransferPtr(
        bench.device->newIndirectCommandBuffer(descriptor.get(), 1, MTL::ResourceStorageModeShared));
  };
  CHECK_FALSE(refuses([](auto&) {}));
  CHECK(refuses([](auto& d) { d.setCommandTypes(0); }));
  CHECK(refuses([](auto& d) { d.setCommandTypes(kBoth | MTL::IndirectCommandTypeDraw); }));
  CHECK(refuses([](auto& d) { d.setMaxKernelBufferBindCount(32); }));
  CHECK(refuses([](auto& d) { d.setMaxKernelThreadgroupMemoryBindCount(32); }));
  CHECK_FALSE(bench.device->newIndirectCommandBuffer(nullptr, 1, MTL::ResourceStorageModeShared));
  // Only one kind was asked for.
  auto descriptor = Icb::description();
  descriptor->setCommandTypes(MTL::IndirectCommandTypeConcurrentDispatch);
  auto icb = NS::TransferPtr(
      bench.device->newIndirectCommandBuffer(descriptor.get(), 1, MTL::ResourceStorageModeShared));
  icb->indirectComputeCommand(0)->concurrentDispatchThreads(kOne, kOne);
  CHECK(text(bench.execute(icb.get(), NS::Range(0, 1))->error()) ==
        "ComputeCommandEncoder::executeCommandsInBuffer: command 0: "
        "IndirectComputeCommand::concurrentDispatchThreads: commandTypes is 32, needs "
        "ConcurrentDispatchThreads");
}

TEST_CASE("under the debug layer misuse of a command aborts where it happens") {
  int output[2];
  REQUIRE(pipe(output) == 0);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    dup2(output[1], STDERR_FILENO);
    setenv("MTL_DEBUG_LAYER", "1", 1);
    Icb bench;
    bench.make(1)->indirectComputeCommand(0)->setComputePipelineState(nullptr);
    _exit(0);
  }
  close(output[1]);
  std::string words(4096, '\0');
  const ssize_t length = read(output[0], words.data(), words.size());
  words.resize(length > 0 ? static_cast<size_t>(length) : 0);
  close(output[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(words ==
        "softmetal: IndirectComputeCommand::setComputePipelineState: pipelineState is null, needs a "
        "pipeline\n");
}

TEST_CASE("devices that check kernels have none, and say so of their pipelines") {
  auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
  auto devices = NS::TransferPtr(MTL::CopyAllDevices());
  for (NS::UInteger i = 0; i < devices->count(); ++i) {
    auto* device = devices->object<MTL::Device>(i);
    auto made = NS::TransferPtr(
        device->newIndirectCommandBuffer(Icb::description().get(), 1, MTL::ResourceStorageModeShared));
    CHECK(static_cast<bool>(made) == (text(device->name()) == "softmetal cpu"));
  }
}
