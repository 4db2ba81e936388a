// What softmetal does where Metal does something else or leaves it open; docs/differences.md has the list.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "softmetal_kernels.h"

using test::Bench;
using test::string;
using test::text;

namespace {

constexpr NS::UInteger kThreads = 400'000;

// y = a * x + y several times over, so that overlapping would lose additions.
struct Sums : Bench {
  NS::SharedPtr<MTL::ComputePipelineState> state = pipeline("axpy");

  NS::SharedPtr<MTL::Buffer> made(MTL::ResourceOptions options) {
    return NS::TransferPtr(device->newBuffer(kThreads * 4, options));
  }
  void add(MTL::ComputeCommandEncoder* encoder, MTL::Buffer* from, MTL::Buffer* to, float factor = 1) {
    encoder->setComputePipelineState(state.get());
    encoder->setBuffer(from, 0, 0);
    encoder->setBuffer(to, 0, 1);
    encoder->setBytes(&factor, sizeof(factor), 2);
    encoder->dispatchThreads(MTL::Size(kThreads, 1, 1), MTL::Size(64, 1, 1));
  }
  static void finish(MTL::CommandBuffer* commands) {
    commands->commit();
    commands->waitUntilCompleted();
    CHECK(text(commands->error()) == "<no error>");
  }
  static bool all(const NS::SharedPtr<MTL::Buffer>& buffer, float value) {
    const float* values = contents<float>(buffer);
    return std::all_of(values, values + kThreads, [&](float v) { return v == value; });
  }
};

template <class D>
concept HasHeaps = requires(D* device) { device->newHeap(nullptr); };
template <class D>
concept HasTextures = requires(D* device) { device->newTexture(nullptr); };
template <class D>
concept HasSamplers = requires(D* device) { device->newSamplerState(nullptr); };
template <class D>
concept HasArgumentEncoders = requires(D* device) { device->newArgumentEncoder(nullptr); };
template <class P>
concept HasFunctionTables = requires(P* pipeline) { pipeline->newVisibleFunctionTable(nullptr); };
template <class B>
concept HasBlits = requires(B* commands) { commands->blitCommandEncoder(); };
template <class E>
concept HasHeapUse = requires(E* encoder) { encoder->useHeap(nullptr); };
template <class R>
concept CanAlias = requires(R* resource) { resource->makeAliasable(); };

}  // namespace

// A program that uses these does not compile here, rather than misbehave.
static_assert(!HasHeaps<MTL::Device> && !CanAlias<MTL::Buffer> && !HasHeapUse<MTL::ComputeCommandEncoder>);
static_assert(!HasTextures<MTL::Device> && !HasSamplers<MTL::Device>);
static_assert(!HasArgumentEncoders<MTL::Device> && !HasFunctionTables<MTL::ComputePipelineState>);
static_assert(!HasBlits<MTL::CommandBuffer>);

TEST_CASE("classes that are absent are absent at compile time") {
  // The assertions above; and the library of Metal's that is there has nothing of them to hand out.
  Bench bench;
  CHECK(bench.library->type() == MTL::LibraryTypeExecutable);
}

TEST_CASE("managed storage is shared memory, private storage has no contents, memoryless is refused") {
  Sums sums;
  auto managed = sums.made(MTL::ResourceStorageModeManaged);
  CHECK(managed->storageMode() == MTL::StorageModeManaged);
  auto y = sums.made(MTL::ResourceStorageModeShared);
  std::fill_n(Bench::contents<float>(managed), kThreads, 3.0f);  // and no didModifyRange
  MTL::CommandBuffer* commands = sums.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  sums.add(encoder, managed.get(), y.get());
  sums.add(encoder, y.get(), managed.get());
  encoder->endEncoding();
  Sums::finish(commands);
  CHECK(Sums::all(managed, 6));  // and no synchronizeResource
  managed->didModifyRange(NS::Range(0, 16));
  CHECK(Sums::all(managed, 6));

  auto hidden = sums.made(MTL::ResourceStorageModePrivate);
  CHECK(hidden->contents() == nullptr);
  CHECK(hidden->gpuAddress() != 0);
  CHECK(sums.device->newBuffer(64, MTL::ResourceStorageModeMemoryless | MTL::ResourceStorageModeManaged) ==
        nullptr);
}

TEST_CASE("a CPU cache mode is kept and changes nothing") {
  Sums sums;
  auto x = sums.made(MTL::ResourceCPUCacheModeWriteCombined), y = sums.made(MTL::ResourceStorageModeShared);
  CHECK(x->cpuCacheMode() == MTL::CPUCacheModeWriteCombined);
  CHECK(y->cpuCacheMode() == MTL::CPUCacheModeDefaultCache);
  CHECK(x->resourceOptions() == MTL::ResourceCPUCacheModeWriteCombined);
  std::fill_n(Bench::contents<float>(x), kThreads, 2.0f);
  CHECK(Sums::all(x, 2));  // reading it back is allowed, and as fast as any
  MTL::CommandBuffer* commands = sums.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  sums.add(encoder, x.get(), y.get());
  encoder->endEncoding();
  Sums::finish(commands);
  CHECK(Sums::all(y, 2));
}

TEST_CASE("untracked resources are ordered as tracked ones are: by encoders, not by what they touch") {
  Sums sums;
  auto plain = sums.made(MTL::ResourceHazardTrackingModeDefault);
  CHECK(plain->hazardTrackingMode() == MTL::HazardTrackingModeTracked);
  auto x = sums.made(MTL::ResourceHazardTrackingModeUntracked);
  auto y = sums.made(MTL::ResourceHazardTrackingModeUntracked);
  CHECK(x->hazardTrackingMode() == MTL::HazardTrackingModeUntracked);
  std::fill_n(Bench::contents<float>(x), kThreads, 1.0f);
  // Two encoders of one command buffer and two command buffers, with no fence: Metal may overlap them.
  MTL::CommandBuffer* last = nullptr;
  for (int i = 0; i < 2; ++i) {
    last = sums.queue->commandBuffer();
    for (int k = 0; k < 2; ++k) {
      MTL::ComputeCommandEncoder* encoder = last->computeCommandEncoder(MTL::DispatchTypeConcurrent);
      sums.add(encoder, x.get(), y.get());
      encoder->endEncoding();
      encoder = last->computeCommandEncoder(MTL::DispatchTypeConcurrent);
      sums.add(encoder, y.get(), x.get());
      encoder->endEncoding();
    }
    last->commit();
  }
  last->waitUntilCompleted();
  CHECK(Sums::all(y, 21));  // Fibonacci's numbers
  CHECK(Sums::all(x, 34));
}

TEST_CASE("a fence orders the rest of a concurrent encoder, and needs nobody who updates it") {
  Sums sums;
  auto x = sums.made(MTL::ResourceStorageModeShared), y = sums.made(MTL::ResourceStorageModeShared);
  std::fill_n(Bench::contents<float>(x), kThreads, 1.0f);
  auto fence = NS::TransferPtr(sums.device->newFence());
  MTL::CommandBuffer* commands = sums.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(MTL::DispatchTypeConcurrent);
  for (int i = 0; i < 8; ++i) {
    encoder->waitForFence(fence.get());  // that nobody updates
    sums.add(encoder, x.get(), y.get());
  }
  encoder->endEncoding();
  Sums::finish(commands);
  CHECK(Sums::all(y, 8));
}

TEST_CASE("a barrier is for all memory, whatever its scope or list names") {
  Sums sums;
  auto x = sums.made(MTL::ResourceStorageModeShared), y = sums.made(MTL::ResourceStorageModeShared);
  auto other = sums.buffer(16);
  std::fill_n(Bench::contents<float>(x), kThreads, 1.0f);
  MTL::CommandBuffer* commands = sums.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder(MTL::DispatchTypeConcurrent);
  const MTL::Resource* unrelated[] = {other.get()};
  for (int i = 0; i < 8; ++i) {
    sums.add(encoder, x.get(), y.get());
    if (i % 2)
      encoder->memoryBarrier(unrelated, 1);
    else
      encoder->memoryBarrier(MTL::BarrierScopeTextures);
  }
  encoder->endEncoding();
  Sums::finish(commands);
  CHECK(Sums::all(y, 8));
}

TEST_CASE("a command buffer keeps what it uses, unless it was asked not to") {
  Sums sums;
  const NS::UInteger before = sums.device->currentAllocatedSize();
  for (const bool retains : {true, false}) {
    CAPTURE(retains);
    auto pool = NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
    MTL::CommandBuffer* commands =
        retains ? sums.queue->commandBuffer() : sums.queue->commandBufferWithUnretainedReferences();
    CHECK(commands->retainedReferences() == retains);
    MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
    auto buffer = sums.made(MTL::ResourceStorageModeShared);
    encoder->useResource(buffer.get(), MTL::ResourceUsageRead);
    encoder->endEncoding();
    buffer.reset();
    CHECK((sums.device->currentAllocatedSize() > before) == retains);
    Sums::finish(commands);
  }
  CHECK(sums.device->currentAllocatedSize() == before);
}

TEST_CASE("what is autoreleased without a pool goes when its thread ends") {
  const int64_t before = softmetal::live_objects();
  int64_t inside = 0;
  std::thread([&] {
    string("nobody's");
    inside = softmetal::live_objects();
  }).join();
  CHECK(inside > before);
  CHECK(softmetal::live_objects() == before);
}

TEST_CASE("times are seconds of one steady clock, known when the work has ended") {
  Sums sums;
  auto x = sums.made(MTL::ResourceStorageModeShared);
  MTL::CommandBuffer* commands = sums.queue->commandBuffer();
  MTL::ComputeCommandEncoder* encoder = commands->computeCommandEncoder();
  sums.add(encoder, x.get(), x.get());
  encoder->endEncoding();
  CHECK(commands->GPUStartTime() == 0);
  CHECK(commands->GPUEndTime() == 0);
  MTL::Timestamp before_cpu = 0, before_gpu = 0, after_cpu = 0, after_gpu = 0;
  sums.device->sampleTimestamps(&before_cpu, &before_gpu);
  Sums::finish(commands);
  sums.device->sampleTimestamps(&after_cpu, &after_gpu);
  CHECK(before_cpu == before_gpu);  // one clock, in nanoseconds
  CHECK(commands->GPUStartTime() * 1e9 >= static_cast<double>(before_gpu) - 1e3);
  CHECK(commands->GPUEndTime() >= commands->GPUStartTime());
  CHECK(commands->GPUEndTime() * 1e9 <= static_cast<double>(after_gpu) + 1e3);
}
