// What Metal's own calls cost, without the operations on top of them.
#include <benchmark/benchmark.h>

#include <array>
#include <string>

#include "metalloid/device.h"

namespace metalloid {
namespace {

using State = NS::SharedPtr<MTL::ComputePipelineState>;

struct Calls {
  AutoreleaseScope scope;
  Device& device = Device::open();
  NS::SharedPtr<MTL::CommandQueue> queue = NS::TransferPtr(device.metal()->newCommandQueue());
  std::array<State, 2> states = {pipeline("rms_norm_f32_f32"), pipeline("rms_norm_f32")};
  NS::SharedPtr<MTL::Buffer> x = buffer(), y = buffer(), weight = buffer();

  State pipeline(const char* name) {
    NS::Error* error = nullptr;
    auto library = NS::TransferPtr(device.metal()->newLibrary(ns_string(library_path()).get(), &error));
    auto function = NS::TransferPtr(library->newFunction(ns_string(name).get()));
    auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
    descriptor->setComputeFunction(function.get());
    descriptor->setSupportIndirectCommandBuffers(true);
    return NS::TransferPtr(
        device.metal()->newComputePipelineState(descriptor.get(), MTL::PipelineOptionNone, nullptr, &error));
  }
  NS::SharedPtr<MTL::Buffer> buffer() {
    return NS::TransferPtr(device.metal()->newBuffer(4096, MTL::ResourceStorageModeShared));
  }
};

constexpr int64_t kBatch = 500;

// Runs `body` for batches of dispatches, each batch in an encoder that is thrown away.
template <class Body>
void encode_batches(benchmark::State& state, Calls& calls, const Body& body) {
  while (state.KeepRunningBatch(kBatch)) {
    AutoreleaseScope scope;
    MTL::ComputeCommandEncoder* encoder = calls.queue->commandBuffer()->computeCommandEncoder();
    body(encoder);
    encoder->endEncoding();
  }
  state.SetItemsProcessed(state.iterations());
}

// setComputePipelineState, three times setBuffer, setBytes and dispatchThreadgroups; the argument says
// whether pipelines alternate.
void metal_calls(benchmark::State& state) {
  Calls calls;
  const bool alternate = state.range(0) != 0;
  encode_batches(state, calls, [&](MTL::ComputeCommandEncoder* encoder) {
    for (int64_t i = 0; i < kBatch; ++i) {
      const uint32_t params[3] = {};
      encoder->setComputePipelineState(calls.states[alternate ? static_cast<size_t>(i % 2) : 0].get());
      encoder->setBytes(params, sizeof(params), 0);
      encoder->setBuffer(calls.x.get(), 0, 1);
      encoder->setBuffer(calls.y.get(), 0, 2);
      encoder->setBuffer(calls.weight.get(), 0, 3);
      encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
    }
  });
}
BENCHMARK(metal_calls)->ArgName("alternate")->Arg(0)->Arg(1);

// Executes an indirect command buffer of 500 such dispatches; the time is for each command.
void execute_commands(benchmark::State& state) {
  Calls calls;
  auto descriptor = NS::TransferPtr(MTL::IndirectCommandBufferDescriptor::alloc()->init());
  descriptor->setCommandTypes(MTL::IndirectCommandTypeConcurrentDispatch);
  descriptor->setInheritBuffers(false);
  descriptor->setInheritPipelineState(false);
  descriptor->setMaxKernelBufferBindCount(4);
  auto commands = NS::TransferPtr(calls.device.metal()->newIndirectCommandBuffer(
      descriptor.get(), kBatch, MTL::ResourceStorageModeShared));
  if (!commands) return state.SkipWithError("the device has no indirect command buffers");
  for (int64_t i = 0; i < kBatch; ++i) {
    AutoreleaseScope scope;
    MTL::IndirectComputeCommand* command = commands->indirectComputeCommand(static_cast<NS::UInteger>(i));
    command->setComputePipelineState(calls.states[static_cast<size_t>(i % 2)].get());
    command->setKernelBuffer(calls.weight.get(), 64, 0);
    command->setKernelBuffer(calls.x.get(), 0, 1);
    command->setKernelBuffer(calls.y.get(), 0, 2);
    command->setKernelBuffer(calls.weight.get(), 0, 3);
    command->concurrentDispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(1, 1, 1));
    command->setBarrier();
  }
  encode_batches(state, calls, [&](MTL::ComputeCommandEncoder* encoder) {
    encoder->useResource(calls.x.get(), MTL::ResourceUsageRead);
    encoder->executeCommandsInBuffer(commands.get(), NS::Range(0, kBatch));
  });
}
BENCHMARK(execute_commands);

// What a resource that was named before costs.
void use_resource(benchmark::State& state) {
  Calls calls;
  encode_batches(state, calls, [&](MTL::ComputeCommandEncoder* encoder) {
    for (int64_t i = 0; i < kBatch; ++i) encoder->useResource(calls.x.get(), MTL::ResourceUsageRead);
  });
}
BENCHMARK(use_resource);

}  // namespace
}  // namespace metalloid
